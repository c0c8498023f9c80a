"""The manifest of a bundle whose graphs are written: all but what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressor.bundle import (
    PRECISIONS,
    SHORTLIST,
    WEIGHTS_FILE,
    Lineage,
    Manifest,
    Precision,
    ShortlistSizes,
    file_records,
    tokenizer_digest,
)
from compressor.decoding.shortlist import LexicalTable
from compressor.exporters.graphs.modules import max_beams, max_source_tokens
from compressor.models.base import count_parameters
from compressor.models.weights import Run
from compressor.provenance import provenance, sanitize


def draft(run: Run, folder: Path, table: LexicalTable | None = None) -> Manifest:
    """The manifest of what is in the folder so far; ``table`` is that of its shortlists."""
    files, config, info = file_records(folder), run.model.config, run.info
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
            "max_source_tokens": max_source_tokens(run),
            "max_new_tokens": longest,
            "max_num_beams": max_beams(len(run.generation.allowed_ids(config.vocab_size))),
            "precisions": precisions,
            "lineage": _lineage(run, recipe),
            "files": files,
        }
    )


def _precision(folder: Path, name: str, ending: str, table: LexicalTable | None = None) -> Precision:
    """The graphs whose names have that ending, without which there is no ``table``."""
    paths = [path for path in sorted((folder / name).glob("*.onnx")) if path.stem.endswith(SHORTLIST) == bool(ending)]
    graphs = {path.stem.removesuffix(ending): path.relative_to(folder).as_posix() for path in paths}
    scheme = PRECISIONS[name] + ("; the output layer's columns by a lexical shortlist" if ending else "")
    return Precision(graphs=graphs, weights=f"{name}/{WEIGHTS_FILE}", scheme=scheme, shortlist=table and _sizes(table))


def _sizes(table: LexicalTable) -> ShortlistSizes:
    return ShortlistSizes(pairs=table.pairs, always=len(table.always), likely=table.likely.shape[1])


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
