"""Describes a folder that is a run, a bundle or a Hugging Face checkpoint, from its JSON files. Needs no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from compressor.bundle import MANIFEST_FILE, digest, open_bundle
from compressor.errors import ModelError
from compressor.run_folder import (
    CHECKPOINT_FOLDER,
    MODEL_FILE,
    is_run,
    missing_files,
    read_model,
    read_record,
)


def describe(folder: Path) -> dict[str, Any]:
    """Returns what ``compress inspect`` shows: ``kind`` (run, bundle or checkpoint), then the fields of that kind.

    Raises:
        ModelError: the folder is missing or none of the three, or one of its files is damaged.
        BundleError: the folder is a bundle, but incomplete or altered.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    if (folder / MANIFEST_FILE).is_file():
        return _bundle(folder)
    if is_run(folder):
        return _run(folder)
    if (folder / "config.json").is_file():
        return _checkpoint(folder)
    raise ModelError(
        f"{folder}: neither a run ({MODEL_FILE}), a bundle ({MANIFEST_FILE}) nor a checkpoint (config.json)"
    )


def _run(folder: Path) -> dict[str, Any]:
    missing = missing_files(folder)
    if missing:
        resumable = "; `compress distill --resume` goes on" if (folder / CHECKPOINT_FOLDER).is_dir() else ""
        raise ModelError(f"{folder}: an unfinished run ({', '.join(missing)} missing){resumable}")
    described, record = read_model(folder).model_dump(mode="json"), read_record(folder)
    return {
        "kind": "run",
        "folder": str(folder),
        **record.model_dump(mode="json", exclude={"provenance"}),
        **described,
        "parameters": record.parameters or _parameters(folder),
        "size_mb": _size_mb(folder),
        "provenance": record.provenance,
    }


def _bundle(folder: Path) -> dict[str, Any]:
    manifest = open_bundle(folder)
    precisions = {
        name: {
            "size_mb": round(sum(manifest.files[file].size for file in manifest.weight_files(name)) / 1e6, 2),
            "scheme": precision.scheme,
            "fp32_layers": list(precision.fp32_layers),
            "quality": precision.quality.model_dump(mode="json") if precision.quality else None,
        }
        for name, precision in manifest.precisions.items()
    }
    shown = manifest.model_dump(mode="json", exclude={"files", "precisions", "lineage", "tokenizer_digest"})
    return {
        "kind": "bundle",
        "folder": str(folder),
        **shown,
        "precisions": precisions,
        "size_mb": _size_mb(folder),
        "digest": digest(folder),
        "lineage": manifest.lineage.model_dump(mode="json"),
    }


def _checkpoint(folder: Path) -> dict[str, Any]:
    config = _json(folder / "config.json")
    names = ("d_model", "encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers", "vocab_size")
    return {
        "kind": "checkpoint",
        "folder": str(folder),
        "architecture": ", ".join(config.get("architectures") or []) or None,
        "model_type": config.get("model_type"),
        **{name: config[name] for name in names if name in config},
        "parameters": _parameters(folder),
        "size_mb": _size_mb(folder),
    }


def _json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file. Raises ModelError if it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: damaged (not a JSON object)")
    return values


def _parameters(folder: Path) -> int | None:
    """Numbers in the folder's safetensors files, from their headers alone; None if there are none."""
    files = sorted(folder.glob("*.safetensors"))
    return sum(_count(path) for path in files) or None


def _count(path: Path) -> int:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= path.stat().st_size - 8:
            raise ModelError(f"{path}: damaged or truncated")
        try:
            header = json.loads(stream.read(length))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            return sum(math.prod(tensor["shape"]) for tensor in tensors)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{path}: damaged or truncated") from None


def _size_mb(folder: Path) -> float:
    """Returns the size of all files below a folder, in MB (10^6 bytes)."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 2)
