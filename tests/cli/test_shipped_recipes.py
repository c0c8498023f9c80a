"""Every recipe of a paper's task or a public teacher makes its model, in two updates on tiny data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compressor
from compressor.config import load_recipe
from compressor.run_folder import read_model, read_record
from tests.recipes import CONFIGS, RECIPES, name_of
from tests.teachers import checkpoints

OF_TASKS = [path for path in RECIPES if path.parent != CONFIGS]
Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def tiny_data(tiny_corpus: Path) -> list[str]:
    """Overrides: the corpus, in limits that the tiny checkpoints have."""

    def files(split: str) -> str:
        return json.dumps([{"source": f"{split}.de", "target": f"{split}.en", "size": 40}])

    limits = ["data.max_source_tokens=32", "data.max_target_tokens=32"]
    data = [f"data.root={tiny_corpus}", f"data.train={files('train')}", f"data.dev={files('dev')}"]
    return data + limits


@pytest.fixture(scope="module")
def public_teachers(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random checkpoints in place of those on the hub; Marian's has the width that its student takes layers from."""
    texts = [(tiny_corpus / f"train.{language}").read_text(encoding="utf-8").splitlines() for language in ("de", "en")]
    shape = {"d_model": 512, "encoder_attention_heads": 8, "decoder_attention_heads": 8, "encoder_ffn_dim": 1024,
             "decoder_ffn_dim": 1024, "activation_function": "swish", "encoder_layers": 6}  # fmt: skip
    folders = {}
    for family, build, sizes in (("opus-mt", checkpoints.marian, shape), ("bart", checkpoints.bart, {})):
        folders[family] = tmp_path_factory.mktemp("teachers") / family
        folders[family].mkdir()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in sizes.items():
                patch.setitem(checkpoints.SIZES, name, value)
            build(folders[family], texts)
    return folders


@pytest.fixture(scope="module")
def make(tiny_data: list[str], public_teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes the run of a recipe once, and before it the runs that it names."""
    runs: dict[Path, Path] = {}

    def run(path: Path) -> Path:
        if path not in runs:
            runs[path] = build(path)
        return runs[path]

    def build(path: Path) -> Path:
        recipe, out = load_recipe(path), tmp_path_factory.mktemp("runs") / path.stem
        steps = ["training.updates=2", "training.epochs=null", "training.eval_every=2", "training.batch_tokens=200"]
        overrides = [*tiny_data, *steps, "training.threads=1"]
        if before := recipe.training.initial_run:
            overrides.append(f"training.initialization={run(recipe_of(before))}/")
        if recipe.teacher is None:
            return compressor.train(
                path,
                out,
                overrides=[*overrides, "tokenizer.vocab_size=50", "tokenizer.byte_fallback=false"],
                progress=False,
            )
        overrides += [f"teacher.path={teacher(recipe.teacher.path)}", "teacher.max_new_tokens=24"]
        overrides.append("teacher.label_engine=torch")  # an export takes longer than these few outputs
        if recipe.method.name.startswith("imitkd"):
            overrides.append("method.rollout.batches=1")  # β falls before the second update, which has rollouts
        if recipe.method.rollout.max_new_tokens:
            overrides.append("method.rollout.max_new_tokens=24")
        return compressor.distill(path, out, overrides=overrides, progress=False)

    def teacher(name: str) -> Path:
        if name.startswith("examples/"):  # published in this repository
            return CONFIGS.parent / name
        family = next((family for family in public_teachers if family in name), None)
        return public_teachers[family] if family else run(recipe_of(Path(name)))

    return run


def recipe_of(run: Path) -> Path:
    """The recipe that makes a run of that name."""
    return CONFIGS / run.relative_to("runs").with_suffix(".yaml")


@pytest.mark.slow
@pytest.mark.parametrize("path", OF_TASKS, ids=name_of)
def test_recipe_makes_its_model(path: Path, make: Make) -> None:
    expected, folder = load_recipe(path).student.model_dump(), make(path)
    made: dict[str, Any] = read_model(folder).model.model_dump()
    assert {name: made[name] for name in expected} == expected
    assert read_record(folder).updates == 2


def test_every_method_of_the_paper_has_a_recipe() -> None:
    methods = {"vanilla", "seqkd", "imitkd", "imitkd-star"}
    expected = methods | {f"{name}-full" for name in methods} | {"seqinter"}
    for student in ("iwslt14-de-en/sru", "iwslt14-de-en/transformer", "wmt16-en-de/sru", "cnn-dailymail/sru"):
        recipes = {path.stem: load_recipe(path) for path in OF_TASKS if name_of(path.parent) == student}
        assert recipes.keys() == expected
        for name, recipe in recipes.items():
            assert recipe.method.name == name.replace("-star", "").replace("-full", "+full")
            assert (recipe.method.contexts == "teacher") == ("-star" in name)
