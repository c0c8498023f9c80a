"""Makes the manifest of a bundle from its written graphs, without the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressor.bundle import PRECISIONS, SHORTLIST, WEIGHTS_FILE, Manifest, file_records, tokenizer_digest
from compressor.bundle_records import Lineage, Precision, ShortlistSizes
from compressor.decoding.shortlist import LexicalTable
from compressor.exporters.graphs.modules import max_beams, max_source_tokens
from compressor.models.base import count_parameters
from compressor.models.weights import Run
from compressor.provenance import provenance, sanitize
from compressor.run_folder import DataRecord, RunPart


def draft(run: Run, folder: Path, table: LexicalTable | None = None) -> Manifest:
    """Returns the manifest of a folder with graphs and tokenizer; ``table``: the table of its shortlists."""
    files, config, record = file_records(folder), run.model.config, run.record
    names = [name for name in PRECISIONS if (folder / name).is_dir()]
    precisions = {name: _precision(folder, name, "") for name in names}
    if table is not None:
        written = [name for name in names if list((folder / name).glob(f"*{SHORTLIST}.onnx"))]
        precisions |= {f"{name}{SHORTLIST}": _precision(folder, name, SHORTLIST, table) for name in written}
    longest = config.max_length
    recipe = run.recipe.model_dump(mode="json") if run.recipe else {}
    generation = {**run.generation.model_dump(), "max_new_tokens": min(run.generation.max_new_tokens, longest)}
    generation["max_source_tokens"] = max_source_tokens(run)
    return Manifest.model_validate(
        {
            "task": record.task or recipe.get("task") or "translation",
            "source_language": record.source_language or recipe.get("source_language"),
            "target_language": record.target_language or recipe.get("target_language"),
            "architecture": config.architecture,
            "sizes": config.model_dump(mode="json"),
            "parameters": count_parameters(run.model),
            "vocab_size": config.vocab_size,
            "tokenizer_digest": tokenizer_digest(files),
            "text_frame": run.tokenizer.frame.model_dump(mode="json"),
            "generation": generation,
            "max_source_tokens": max_source_tokens(run),
            "truncation": "longest_first" if run.recipe and run.recipe.data.truncate else "error",
            "max_new_tokens": longest,
            "output_limit": record.output_limit,
            "max_num_beams": max_beams(len(run.generation.allowed_ids(config.vocab_size))),
            "precisions": precisions,
            "lineage": _lineage(run, recipe),
            "files": files,
        }
    )


def _precision(folder: Path, name: str, ending: str, table: LexicalTable | None = None) -> Precision:
    """Returns a precision of the graphs whose names have the ending; with an ending there is a ``table``."""
    paths = [path for path in sorted((folder / name).glob("*.onnx")) if path.stem.endswith(SHORTLIST) == bool(ending)]
    graphs = {path.stem.removesuffix(ending): path.relative_to(folder).as_posix() for path in paths}
    scheme = PRECISIONS[name] + ("; the output layer's columns by a lexical shortlist" if ending else "")
    return Precision(graphs=graphs, weights=f"{name}/{WEIGHTS_FILE}", scheme=scheme, shortlist=table and _sizes(table))


def _sizes(table: LexicalTable) -> ShortlistSizes:
    """Returns the sizes of a shortlist's table."""
    return ShortlistSizes(pairs=table.pairs, always=len(table.always), likely=table.likely.shape[1])


def _lineage(run: Run, recipe: dict[str, Any]) -> Lineage:
    """Returns the origin of a run, without private paths and texts."""
    record = run.record
    licences = {"weights": record.licence}
    return Lineage(
        method=record.method,
        teacher=_published(_dump(record.teacher)),
        recipe=_published(recipe) or None,
        data=_published(_without_texts(record.data)),
        licences={name: text for name, text in licences.items() if text},
        scores=_dump(record.dev) or {},
        provenance={"training": record.provenance, "export": provenance()},
    )


def _dump(part: RunPart | None) -> dict[str, Any] | None:
    """Returns a record as a dictionary of the fields that were set."""
    return part.model_dump(mode="json", exclude_unset=True) if part else None


def _without_texts(data: DataRecord | None) -> dict[str, Any] | None:
    """Returns the record of the data without example sentences, because a corpus may be private."""
    return data.model_dump(mode="json", exclude={"report_text": True, "report": {"examples"}}) if data else None


def _published(value: Any) -> Any:
    """Returns the value with absolute paths shortened."""
    if isinstance(value, dict):
        return {key: _published(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_published(item) for item in value]
    is_path = isinstance(value, str) and value.startswith(("/", "~", ".."))
    return sanitize(value) if is_path else value
