"""Measures whether outputs depend on their batch, on any text, greedy and with beams.

`compress export` checks greedy search on dev sources before it publishes a bundle.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.engines.folders import read_folder
from benchmarks.measure.result_file import Row, write_json
from benchmarks.quality.evaluate import read_sources
from compressor.errors import ConfigError
from compressor.exporters.checks.parity import BATCH_SIZES, by_batch_size
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.runtime.generator import Generator
from compressor.text.tokenizer import cut

NUM_BEAMS = (1, 5)
SENTENCES = 1000


def measure(bundle: Path, texts: Sequence[str], precisions: Sequence[str], advance: Callable[[], object]) -> list[Row]:
    """A row for each precision, number of beams and batch size.

    ``moved`` counts the texts whose output differs from the one they have alone; ``exceptions`` lists them with both
    outputs and, with beams, both scores.
    """
    rows = []
    for precision in precisions:
        for beams in NUM_BEAMS:
            generator = Generator.load(bundle, precision=precision, num_beams=beams, inter_threads=1)
            limit, eos = generator.manifest.max_source_tokens, generator.manifest.generation.eos_id
            sources = [cut(generator.tokenizer.encode_source(text), limit, eos) for text in texts]
            (_, alone), *batched = by_batch_size(generator, sources, advance, beams).items()
            for size, together in batched:
                exceptions = [
                    {"source": index, "alone": asdict(one), "together": asdict(other)}
                    for index, (one, other) in enumerate(zip(alone, together, strict=True))
                    if one.token_ids != other.token_ids
                ]
                setting = {"precision": precision, "num_beams": beams, "batch_size": size, "sentences": len(texts)}
                rows.append(setting | {"moved": len(exceptions), "exceptions": exceptions})
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("bundle", type=Path, help="folder written by `compress export`")
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="texts, one a line")
    parser.add_argument("--sentences", type=int, default=SENTENCES, metavar="N", help="lines taken from its start")
    parser.add_argument("--precision", metavar="LIST", help="precisions of the bundle, by commas; default: all")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the result")


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a table."""
    published = read_folder(options.bundle).precisions
    precisions = options.precision.split(",") if options.precision else list(published)
    if unknown := [name for name in precisions if name not in published]:
        message = f"{{precision}} {', '.join(unknown)}: this bundle has {', '.join(published)}"
        raise ConfigError(message, options=["precision"])
    texts = [text for text in read_sources(options.source) if text.strip()][: options.sentences]
    calls = len(precisions) * len(NUM_BEAMS) * len(BATCH_SIZES) * len(texts)
    with Bar(Console(stderr=True), True) as bar:
        rows = measure(options.bundle, texts, precisions, bar.start("texts", calls))
    write_json({"provenance": provenance(), "rows": rows}, options.json)
    for row in rows:
        search = f"{row['precision']:<16} beams {row['num_beams']}  batch {row['batch_size']:>2}"
        print(f"{search}  {row['moved']} of {row['sentences']} moved")
