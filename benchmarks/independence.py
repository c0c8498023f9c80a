"""Whether an output depends on its batch: ``python -m benchmarks.independence BUNDLE --source FILE --json FILE``.

`compress export` proves greedy search on dev sources before it publishes anything. This asks any bundle about any text,
with beams, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.evaluation import read_sources
from benchmarks.report import Row, write_json
from benchmarks.settings import about
from compressor.errors import CompressError, ConfigError
from compressor.exporters.checks.parity import BATCH_SIZES, by_batch_size
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.runtime.generator import Generator
from compressor.text.tokenizer import cut

NUM_BEAMS = (1, 5)
SENTENCES = 1000


def measure(bundle: Path, texts: Sequence[str], precisions: Sequence[str], advance: Callable[[], object]) -> list[Row]:
    """A row for each precision, number of beams and batch size.

    ``moved`` is how many texts have another output than alone; ``exceptions`` are these, with both outputs and, of
    beams, both scores.
    """
    rows = []
    for precision in precisions:
        for beams in NUM_BEAMS:
            generator = Generator.load(bundle, precision=precision, num_beams=beams, inter_threads=1)
            limit, eos = generator.manifest.max_source_tokens, generator.manifest.generation.eos_id
            sources = [cut(generator.tokenizer.encode_source(text), limit, eos) for text in texts]
            (_, alone), *others = by_batch_size(generator, sources, advance, beams).items()
            for size, together in others:
                exceptions = [
                    {"source": index, "alone": asdict(one), "together": asdict(other)}
                    for index, (one, other) in enumerate(zip(alone, together, strict=True))
                    if one.token_ids != other.token_ids
                ]
                found = {"precision": precision, "num_beams": beams, "batch_size": size, "sentences": len(texts)}
                rows.append(found | {"moved": len(exceptions), "exceptions": exceptions})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.independence", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="folder written by `compress export`")
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="texts, one a line")
    parser.add_argument("--sentences", type=int, default=SENTENCES, metavar="N", help="of the file, from its start")
    parser.add_argument("--precision", metavar="LIST", help="of the bundle, by commas; default: all")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the result")
    options = parser.parse_args(arguments)
    try:
        print(_run(options))
    except CompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> str:
    """Measures, writes the file, and returns a table."""
    published = about(options.bundle).precisions
    precisions = options.precision.split(",") if options.precision else list(published)
    if unknown := [name for name in precisions if name not in published]:
        raise ConfigError(f"--precision {', '.join(unknown)}: this bundle has {', '.join(published)}")
    texts = [text for text in read_sources(options.source) if text.strip()][: options.sentences]
    calls = len(precisions) * len(NUM_BEAMS) * len(BATCH_SIZES) * len(texts)
    with Bar(Console(stderr=True), True) as bar:
        rows = measure(options.bundle, texts, precisions, bar.start("texts", calls))
    made: dict[str, Any] = {"provenance": provenance(), "rows": rows}
    write_json(made, options.json)
    return "\n".join(
        f"{row['precision']:<16} beams {row['num_beams']}  batch {row['batch_size']:>2}  "
        f"{row['moved']} of {row['sentences']} moved"
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
