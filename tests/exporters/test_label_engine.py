"""The exported teacher writes what PyTorch writes, up to int8, and says why it cannot."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from compressor.config import Recipe, parse_recipe
from compressor.decoding.search import beam_search, pad_sources
from compressor.distillation.setup import Setup, set_up
from compressor.errors import ExportError
from compressor.exporters import label_engine
from compressor.exporters.label_engine import ExportedTeacher
from compressor.models.weights import load_run


@pytest.fixture(scope="module")
def setup(tiny_recipe: Path, tiny_run: Path) -> Setup:
    values = yaml.safe_load(tiny_recipe.read_text(encoding="utf-8"))
    values["teacher"] = {"path": str(tiny_run), "num_beams": 3}
    values["method"] = {"name": "seqkd"}
    return set_up(parse_recipe(values))


def changed(setup: Setup, section: str, **fields: object) -> SimpleNamespace:
    recipe: Recipe = setup.recipe
    part = getattr(recipe, section).model_copy(update=fields)
    return SimpleNamespace(**vars(setup) | {"recipe": recipe.model_copy(update={section: part})})


def test_the_exported_teacher_writes_the_beam_searchs_outputs(
    setup: Setup, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace_once: Callable[..., None]
) -> None:
    trace_once(monkeypatch)
    engine = ExportedTeacher(setup, tmp_path / "engine")
    sources = [setup.train.sources[index].tolist() for index in range(60)]
    run = load_run(tiny_run)
    source = pad_sources(sources, run.generation.pad_id)
    expected = beam_search(run.model, run.generation, *source, num_beams=3, num_return=3)
    outputs = engine.hypotheses(sources, 3, 3)
    assert sum(ours[0].tokens == theirs[0].tokens for ours, theirs in zip(outputs, expected, strict=True)) >= 54
    assert all(len({tuple(one.tokens) for one in of_source}) == 3 for of_source in outputs)
    same = [
        (ours.score, theirs.score)
        for searched, wanted in zip(outputs, expected, strict=True)
        for ours, theirs in zip(searched, wanted, strict=True)
        if ours.tokens == theirs.tokens
    ]
    assert len(same) >= 120 and all(ours == pytest.approx(theirs, abs=0.1) for ours, theirs in same)
    assert [[best] for best, *_ in outputs] == engine.hypotheses(sources, 3)
    monkeypatch.setattr(label_engine, "build_graphs", None)  # it is not exported again
    assert ExportedTeacher(setup, tmp_path / "engine").hypotheses(sources, 3, 3) == outputs
    sent: ExportedTeacher = pickle.loads(pickle.dumps(engine))
    assert sent.hypotheses(sources, 3, 3) == outputs and sent.generator is not engine.generator
    for section, field, value in (("data", "max_source_tokens", 99), ("teacher", "num_beams", 999)):
        with pytest.raises(ExportError, match=rf"{section}\.{field} is {value}, and the teacher's graphs take \d+"):
            ExportedTeacher(changed(setup, section, **{field: value}), tmp_path / "engine")  # type: ignore[arg-type]


def test_a_teacher_of_another_layout_is_refused(setup: Setup, tmp_path: Path) -> None:
    foreign = SimpleNamespace(name="t5", as_model=lambda: None)
    with pytest.raises(ExportError, match="t5 has a layout that cannot be exported, only runs, Marian and BART can"):
        ExportedTeacher(SimpleNamespace(**vars(setup) | {"teacher": foreign}), tmp_path / "engine")  # type: ignore[arg-type]
    assert not (tmp_path / "engine").exists()
