"""What a bench measures: its options, and the contenders that follow from them, without loading any model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.engines import EngineName, EngineSpec, ModelName
from compressor.bundle import MANIFEST_FILE, Manifest, read_manifest
from compressor.config import load_recipe
from compressor.errors import ConfigError, ModelError
from compressor.generation_config import GenerationConfig

Task = Literal["translation", "summarization"]
Peer = Literal["ctranslate2", "transformers", "optimum", "marian", "openvino"]

PEER_PRECISIONS: dict[Peer, tuple[str, ...]] = {
    "ctranslate2": ("fp32", "int8"),
    "transformers": ("fp32", "bf16"),
    "optimum": ("fp32",),
    "marian": ("fp32", "int8"),
    "openvino": ("fp32",),
}

RUN_MODEL_FILE, RECIPE_FILE = "model.json", "recipe.yaml"  # of a run folder; compressor.models needs torch to say so
TOLD = ("source_prefix", "source_language", "target_language", "revision")
"""What the recipe knows of a teacher and its folder may not."""


GPU_PRECISIONS: dict[EngineName, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16", "int4"),
    "torch": ("fp32",),
    "transformers": ("fp32", "fp16"),
    "ctranslate2": ("fp32", "fp16"),
}
"""What is measured on a GPU, by engine; others run on processors alone."""


class BenchConfig(BaseModel):
    """Options of `benchmarks.latency.run`. At least one of ``bundle``, ``teacher`` and ``run``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Path | None = Field(None, description="The student in ONNX, every precision of `precisions`.")
    teacher: str | None = Field(None, description="Hugging Face folder or hub name, or a run folder.")
    run: Path | None = Field(None, description="The student in PyTorch.")
    source: Path = Field(description="Plain text, or JSON lines with source and target.")
    reference: Path | None = Field(None, description="Plain text aligned with `source`.")
    task: Task | None = Field(None, description="Null: as the bundle or run says.")
    precisions: tuple[str, ...] | None = Field(None, description="Of the bundle; null: all it has for the device.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where every engine runs.")
    peers: tuple[Peer, ...] = Field((), description="Other engines, with the weights of `teacher` and `run`.")
    batch_sizes: tuple[int, ...] = Field((1, 8, 32), min_length=1, description="Sentences a call.")
    num_beams: tuple[int, ...] = Field((1,), min_length=1, description="Widths of the search.")
    threads: tuple[int, ...] = Field((1,), min_length=1, description="Threads inside one operator.")
    sentences: int = Field(96, ge=1, description="Sentences that are timed, spread evenly over the source.")
    repeats: int = Field(3, ge=1, description="Timed passes over them.")
    warmup: int = Field(2, ge=0, description="Calls of each engine in each cell that are not counted.")
    quality: bool = Field(True, description="Score the whole source; false: quality is null.")
    quality_batch_size: int = Field(32, ge=1, description="Sentences a call where quality is measured.")
    max_new_tokens: int | None = Field(None, ge=1, description="Length limit of all engines; null: the student's.")
    source_prefix: str | None = Field(None, description="Text before the teacher's sources; null: as in the recipe.")
    source_language: str | None = Field(None, description="Code for a multilingual teacher; null: as in the recipe.")
    target_language: str | None = Field(None, description="Code for a multilingual teacher; null: as in the recipe.")
    revision: str | None = Field(None, description="Of a teacher on the hub; null: as in the recipe.")


def check_peers(names: Sequence[str]) -> tuple[Peer, ...]:
    """Names of other engines. Raises ConfigError where one is unknown."""
    if unknown := [name for name in names if name not in PEER_PRECISIONS]:
        raise ConfigError(f"peers: {', '.join(unknown)}: choose from {', '.join(PEER_PRECISIONS)}")
    return tuple(name for name in PEER_PRECISIONS if name in names)


class About(NamedTuple):
    """What the files of a model say about it.

    ``marian``: a run that Hugging Face can run, too. ``teacher``: the recipe's section of that name.
    """

    engine: EngineName
    task: Task | None = None
    precisions: tuple[str, ...] = ("fp32",)
    default: str = "fp32"
    max_new_tokens: int | None = None
    marian: bool = False
    teacher: Mapping[str, Any] = MappingProxyType({})


def about(path: str | Path) -> About:
    """Reads the manifest of a bundle, or the descriptions of a run; anything else is left to transformers.

    Raises:
        CompressError: one of these files is damaged.
    """
    folder = Path(path)
    if (folder / MANIFEST_FILE).exists():
        return _about_bundle(read_manifest(folder))
    return _about_run(folder) if (folder / RUN_MODEL_FILE).is_file() else About("transformers")


def spec_of(path: str | Path, model: ModelName, precision: str | None, max_new_tokens: int | None) -> EngineSpec:
    """The contender in a folder, by default in what it runs unasked. Raises ConfigError if it has no such one."""
    known = about(path)
    if known.engine == "onnx" and precision not in (None, *known.precisions):
        raise ConfigError(f"{path}: no precision {precision}, it has {', '.join(known.precisions)}")
    chosen = precision or known.default
    return EngineSpec(engine=known.engine, model=model, path=str(path), precision=chosen, max_new_tokens=max_new_tokens)


def resolve(config: BenchConfig) -> BenchConfig:
    """Fills in what the models' files say: task, length limit, and what the teacher is told.

    Raises:
        ConfigError: there is nothing to measure.
        CompressError: a file of the bundle or run is damaged.
    """
    students = [about(path) for path in (config.bundle, config.run) if path is not None]
    known = [*students, about(config.teacher)] if config.teacher else students
    if not known:
        raise ConfigError("nothing to measure: give a bundle, {run} or {teacher}", options=["run", "teacher"])
    found: dict[str, Any] = {
        "task": next((one.task for one in known if one.task), "translation"),
        "max_new_tokens": next((one.max_new_tokens for one in students if one.max_new_tokens), None),
    }
    for one in students[::-1]:
        found |= {key: one.teacher[key] for key in TOLD if one.teacher.get(key) is not None}
    return config.model_copy(update={key: value for key, value in found.items() if getattr(config, key) is None})


def contenders(config: BenchConfig) -> list[EngineSpec]:
    """Who takes part, in the order of the table: teacher, student in PyTorch, student in ONNX by precision, peers."""
    specs, limit = [], config.max_new_tokens
    told = {key: getattr(config, key) for key in TOLD if getattr(config, key) is not None}
    if config.teacher is not None:
        marian = about(config.teacher).marian  # it runs where people would run it, and speed-ups are counted from there
        engine = {"engine": "transformers"} if marian else {}
        specs.append(spec_of(config.teacher, "teacher", "fp32", limit).model_copy(update=engine))
    if config.run is not None:
        specs.append(spec_of(config.run, "student", "fp32", limit))
    if config.bundle is not None:
        known = _about_bundle(read_manifest(config.bundle)).precisions
        fitting = [name for name in known if config.device == "cpu" or name in GPU_PRECISIONS["onnx"]]
        precisions = config.precisions or fitting
        specs += [spec_of(config.bundle, "student", precision, limit) for precision in precisions]
    if config.peers and config.teacher is None and config.run is None:
        raise ConfigError(
            "{peers}: give {teacher} or {run}, whose weights they are to run", options=["peers", "teacher", "run"]
        )
    weights: list[tuple[ModelName, str | Path | None]] = [("teacher", config.teacher), ("student", config.run)]
    specs += [
        EngineSpec(engine=peer, model=model, path=str(path), precision=precision, max_new_tokens=limit)
        for peer in config.peers
        for model, path in weights
        if path is not None
        for precision in (PEER_PRECISIONS[peer] if config.device == "cpu" else GPU_PRECISIONS.get(peer, ()))
    ]
    unique: dict[str, EngineSpec] = {}
    for spec in specs:
        if (spec.engine, spec.model) == ("transformers", "teacher"):
            spec = spec.model_copy(update=told)
        spec = spec.model_copy(update={"device": config.device})
        unique.setdefault(spec.name, spec)  # the teacher is in transformers anyway
    if config.device == "cuda":
        _check_gpu(config.peers, unique.values())
    return list(unique.values())


def _check_gpu(peers: Sequence[Peer], specs: Iterable[EngineSpec]) -> None:
    """Raises ConfigError naming all that cannot be measured on a GPU."""
    wrong: list[str] = [peer for peer in peers if peer not in GPU_PRECISIONS]
    wrong += [spec.name for spec in specs if spec.precision not in GPU_PRECISIONS.get(spec.engine, ())]
    if wrong:
        message = f"device cuda: {', '.join(wrong)}: for processors; leave them out, or take {{device}}"
        raise ConfigError(message, options={"device": "cpu"})


def _about_bundle(manifest: Manifest) -> About:
    recipe = manifest.lineage.recipe or {}
    limit = min(manifest.generation.max_new_tokens, manifest.max_new_tokens)
    teacher = recipe.get("teacher") or {}
    return About("onnx", manifest.task, tuple(manifest.precisions), manifest.default_precision, limit, False, teacher)


def _about_run(folder: Path) -> About:
    try:
        described = json.loads((folder / RUN_MODEL_FILE).read_text(encoding="utf-8"))
        model, generation = described["model"], GenerationConfig.model_validate(described["generation"])
        plain = model["norm"] == "post" and model["tie_embeddings"] and model["architecture"] == "transformer"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / RUN_MODEL_FILE}: damaged ({' '.join(str(error).split())[:200]})") from None
    marian = plain and generation.start_id == generation.pad_id
    found = About("torch", max_new_tokens=generation.max_new_tokens, marian=marian)
    if not (folder / RECIPE_FILE).is_file():
        return found
    recipe = load_recipe(folder / RECIPE_FILE)
    return found._replace(task=recipe.task, teacher=recipe.teacher.model_dump() if recipe.teacher else {})
