"""A trained run, or a Marian checkpoint, becomes an ONNX bundle, proved against PyTorch before it is published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from compressor.bundle import (
    CARD_FILE,
    MANIFEST_FILE,
    PARITY_FILE,
    TOKENIZER_FOLDER,
    WEIGHTS_FILE,
    FileRecord,
    Lineage,
    Manifest,
    Precision,
    dump_manifest,
    file_records,
    tokenizer_digest,
)
from compressor.data.corpus import load_corpus
from compressor.data.readers import read_lines
from compressor.errors import ConfigError, DataError, ExportError
from compressor.exporters import parity, quantize
from compressor.exporters.calibration import calibrate
from compressor.exporters.card import model_card
from compressor.exporters.exportable import load_exportable
from compressor.exporters.graphs import SOURCE_MULTIPLE, max_beams
from compressor.exporters.onnx import build_graphs
from compressor.exporters.weights import write_graphs
from compressor.files import new_folder
from compressor.models.base import count_parameters
from compressor.models.storage import Run
from compressor.progress import Bar
from compressor.provenance import provenance, sanitize
from compressor.runtime.generator import Generator
from compressor.runtime.session import check_onnxruntime

CALIBRATION_SOURCES = 128
PRECISIONS = {"fp32": "32-bit floating point", "int8": quantize.SCHEME}


def export_bundle(
    run_dir: Path,
    out_dir: Path,
    *,
    precisions: Sequence[str] = ("fp32", "int8"),
    dev_source: Path | None = None,
    dev_reference: Path | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Exports a run, whole or not at all.

    fp32 is always built, for it is what every other precision is compared with, and published if it was asked for.

    Args:
        run_dir: A run folder, or a Hugging Face checkpoint in Marian's layout (folder or hub name).
        out_dir: The bundle's folder.
        precisions: ``fp32`` and ``int8``.
        dev_source: Sources to prove the export on, one a line; by default the run's own dev set.
        dev_reference: Their references.
        force: Replace ``out_dir`` if it exists.
        progress: Show a bar on standard error.

    Returns:
        ``out_dir``.

    Raises:
        ConfigError: a precision is unknown.
        ModelError: the run is damaged.
        DataError: dev files are missing or do not match.
        ExportError: the model cannot be exported, or the export differs from it.
        OutputExistsError: ``out_dir`` exists and ``force`` is not set.
        StorageError: the disk is full.
    """
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise ConfigError(f"precisions: give some of {', '.join(PRECISIONS)}, not {', '.join(unknown) or 'nothing'}")
    check_onnxruntime()
    with new_folder(out_dir, force=force) as folder, Bar(Console(stderr=True), progress) as bar:
        bar.start("tracing", None)
        run = load_exportable(run_dir)
        dev = dev_set(run, dev_source, dev_reference)
        _write_precisions(run, folder, precisions, dev)
        run.tokenizer.save(folder / TOKENIZER_FOLDER)
        manifest = _manifest(run, folder)
        generators = {
            name: Generator(folder, manifest, precision=name, intra_threads=1) for name in manifest.precisions
        }
        report = parity.check(run.model, run.generation, generators, dev, bar)
        _finish(folder, manifest, report, precisions)
    return out_dir


def dev_set(run: Run, source: Path | None, reference: Path | None) -> parity.DevSet:
    """At most ``parity.MAX_SOURCES`` dev sources that fit the model, with their references where all have one.

    Raises:
        ExportError: there are none.
        DataError: a file is missing, or the two do not match.
    """
    pairs = _read_files(source, reference) if source else _recorded(run)
    limit = _max_source_tokens(run)
    encoded = [(text, ref, run.tokenizer.encode_source(text)) for text, ref in pairs if text.strip()]
    fitting = [item for item in encoded if len(item[2]) <= limit]
    if not fitting:
        raise ExportError("there are no dev sources to prove the export on: give --dev-source FILE")
    chosen = [fitting[index] for index in parity.spread(len(fitting))]
    references = [ref for _, ref, _ in chosen if ref is not None]
    return parity.DevSet(
        [text for text, _, _ in chosen],
        references if len(references) == len(chosen) else None,
        [ids for _, _, ids in chosen],
    )


def _read_files(source: Path, reference: Path | None) -> list[tuple[str, str | None]]:
    sources = read_lines(source)
    if reference is None:
        return [(text, None) for text in sources]
    references = read_lines(reference)
    if len(sources) != len(references):
        raise DataError(f"{source} has {len(sources)} lines, {reference} has {len(references)}: they must be aligned")
    return list(zip(sources, references, strict=True))


def _recorded(run: Run) -> list[tuple[str, str | None]]:
    if run.recipe is None:
        raise ExportError("the run has no recipe that names a dev set: give --dev-source FILE")
    try:
        return [(example.source, example.target) for example in load_corpus(run.recipe.data, "dev").examples]
    except DataError as error:
        raise ExportError(f"the run's dev set cannot be read ({error}): give --dev-source FILE") from None


def _write_precisions(run: Run, folder: Path, precisions: Sequence[str], dev: parity.DevSet) -> None:
    graphs = build_graphs(run.model, run.generation)
    if "int8" in precisions:
        chosen = [dev.ids[index] for index in parity.spread(len(dev.ids), CALIBRATION_SOURCES)]
        ranges = calibrate(graphs, chosen, min(run.generation.max_new_tokens, run.model.config.max_length))
        quantized = {name: model.clone() for name, model in graphs.items()}
        for model in quantized.values():
            quantize.quantize(model, run.model.config.vocab_size, ranges)
        for path in write_graphs(quantized, folder / "int8").values():
            quantize.check_quantized(path)
    write_graphs(graphs, folder / "fp32")


def _max_source_tokens(run: Run) -> int:
    longest = run.model.config.max_length // SOURCE_MULTIPLE * SOURCE_MULTIPLE  # sources are padded to a multiple
    return min(run.generation.max_source_tokens, longest)


def _manifest(run: Run, folder: Path) -> Manifest:
    """The manifest of what is in the folder so far."""
    files, config, info = file_records(folder), run.model.config, run.info
    names = [name for name in PRECISIONS if (folder / name).is_dir()]
    longest = config.max_length
    recipe = run.recipe.model_dump(mode="json") if run.recipe else {}
    generation = {**run.generation.model_dump(), "max_new_tokens": min(run.generation.max_new_tokens, longest)}
    generation["max_source_tokens"] = _max_source_tokens(run)
    return Manifest.model_validate(
        {
            "task": info.get("task") or recipe.get("task") or "translation",
            "source_language": info.get("source_language") or recipe.get("source_language"),
            "target_language": info.get("target_language") or recipe.get("target_language"),
            "architecture": config.architecture,
            "sizes": config.model_dump(mode="json"),
            "parameters": count_parameters(run.model),
            "vocab_size": config.vocab_size,
            "tokenizer_digest": tokenizer_digest(files),
            "text_frame": run.tokenizer.frame.model_dump(mode="json"),
            "generation": generation,
            "max_source_tokens": _max_source_tokens(run),
            "max_new_tokens": longest,
            "max_num_beams": max_beams(len(run.generation.allowed_ids(config.vocab_size))),
            "precisions": {name: _precision(folder, name) for name in names},
            "lineage": _lineage(run, recipe),
            "files": files,
        }
    )


def _precision(folder: Path, name: str) -> Precision:
    graphs = {path.stem: path.relative_to(folder).as_posix() for path in sorted((folder / name).glob("*.onnx"))}
    return Precision(graphs=graphs, weights=f"{name}/{WEIGHTS_FILE}", scheme=PRECISIONS[name])


def _lineage(run: Run, recipe: dict[str, Any]) -> Lineage:
    info = run.info
    licences = {"weights": info.get("licence")}
    return Lineage(
        method=info.get("method"),
        teacher=_published(info.get("teacher")),
        recipe=_published(recipe) or None,
        data=_published(_without_texts(info.get("data"))),
        licences={name: text for name, text in licences.items() if text},
        scores=info.get("dev") or {},
        provenance={"training": info.get("provenance"), "export": provenance()},
    )


def _without_texts(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a run records of its data, without the example sentences of its report: a corpus may be private."""
    if data is None:
        return None
    report = {key: value for key, value in data.get("report", {}).items() if key != "examples"}
    return {key: value for key, value in data.items() if key != "report_text"} | {"report": report}


def _published(value: Any) -> Any:
    """The value without paths of this machine."""
    if isinstance(value, dict):
        return {key: _published(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_published(item) for item in value]
    is_path = isinstance(value, str) and value.startswith(("/", "~", ".."))
    return sanitize(value) if is_path else value


def _finish(folder: Path, manifest: Manifest, report: parity.Report, precisions: Sequence[str]) -> None:
    """Takes out what was not asked for, then writes report, card and, last of all, the manifest."""
    for name in set(manifest.precisions) - set(precisions):
        for path in (folder / name).iterdir():
            path.unlink()
        (folder / name).rmdir()
    kept = {
        name: precision.model_copy(update={"quality": report.quality[name]})
        for name, precision in manifest.precisions.items()
        if name in precisions
    }
    manifest = manifest.model_copy(update={"precisions": kept, "parity": report.summary()})
    (folder / PARITY_FILE).write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(model_card(manifest), encoding="utf-8")
    files: dict[str, FileRecord] = file_records(folder)
    (folder / MANIFEST_FILE).write_text(dump_manifest(manifest.model_copy(update={"files": files})), encoding="utf-8")
