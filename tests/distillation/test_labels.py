"""The teacher's outputs: which engine writes them, what is recorded of it, and how a killed run goes on."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from compressor.config import Recipe
from compressor.decoding.search import Hypothesis
from compressor.distillation import label_engines, labels
from compressor.distillation.label_engines import torch_engine
from compressor.distillation.label_store import LabelStore
from compressor.distillation.labels import write_labels
from compressor.distillation.run import distill
from compressor.distillation.setup import Setup, set_up
from compressor.errors import CompressError, DependencyError, ExportError
from compressor.run_folder import LABEL_ENGINE_FOLDER, LABELS_FOLDER, read_record


class Opened:
    """Stands for the exported teacher: PyTorch's outputs with one token less, and a record of the calls."""

    def __init__(self, damage: Callable[[list[int]], list[int]] | None = None, fails: CompressError | None = None):
        self.damage, self.fails, self.folders, self.written = damage, fails, list[Path](), 0

    def __call__(self, setup: Setup, folder: Path) -> Opened:
        self.folders.append(folder)
        if self.fails:
            raise self.fails
        folder.mkdir(parents=True, exist_ok=True)
        self.in_torch, self.name, self.chunk_tokens = torch_engine(setup), "onnx", 90
        return self

    def hypotheses(self, sources: Sequence[list[int]], *beams: int) -> list[list[Hypothesis]]:
        self.written += len(sources)
        n_best = self.in_torch.hypotheses(sources, *beams)
        if self.damage is None:
            return n_best
        return [[Hypothesis(one.score, self.damage(one.tokens)) for one in outputs] for outputs in n_best]


def labelled(make_recipe: Callable[..., Recipe], engine: str) -> Recipe:
    recipe = make_recipe("seqkd", updates=2)
    assert recipe.teacher is not None
    teacher = recipe.teacher.model_copy(update={"label_engine": engine, "num_beams": 2})
    train = [source.model_copy(update={"size": 30}) for source in recipe.data.train]
    return recipe.model_copy(update={"teacher": teacher, "data": recipe.data.model_copy(update={"train": train})})


def write(setup: Setup, out: Path, engine: Opened) -> tuple[LabelStore, str]:
    shown = io.StringIO()
    return write_labels(setup, out, Console(file=shown, width=200), engine), shown.getvalue()


def test_the_exported_teacher_is_compared_and_recorded(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    engine = Opened()
    out = distill(labelled(make_recipe, "onnx"), tmp_path / "run", progress=False, label_engine=engine)
    record = read_record(out).labels
    count = len(LabelStore.open(out / LABELS_FOLDER))
    assert record is not None and (record.engine, record.outputs) == ("onnx", count)
    assert (record.bleu_against_torch, record.compared) == (100.0, count)
    assert engine.written == count + count
    assert len(engine.folders) == 1 and engine.folders[0].is_relative_to(out / LABELS_FOLDER / LABEL_ENGINE_FOLDER)
    assert not (out / LABELS_FOLDER / LABEL_ENGINE_FOLDER).exists()


@pytest.mark.parametrize(
    ("wanted", "engine", "reason"),
    [
        ("onnx", Opened(fails=ExportError("t5 has another layout")), "PyTorch: t5 has another layout"),
        ("onnx", Opened(fails=DependencyError("ONNX Runtime is missing")), "PyTorch: ONNX Runtime is missing"),
        ("onnx", Opened(lambda tokens: [7, 8, 9]), r"PyTorch: the teacher in int8 has BLEU 0.00 against"),
        ("auto", Opened(), ""),
        ("torch", Opened(), ""),
    ],
)
def test_pytorch_writes_the_outputs_where_the_exported_teacher_cannot(
    make_recipe: Callable[..., Recipe], tmp_path: Path, wanted: str, engine: Opened, reason: str
) -> None:
    setup = set_up(labelled(make_recipe, wanted))
    store, shown = write(setup, tmp_path / "run", engine)
    assert reason in shown and store.run_record.engine == "torch"
    assert bool(engine.folders) == (wanted == "onnx")
    plain = write(set_up(labelled(make_recipe, "torch")), tmp_path / "plain", Opened())[0]
    assert outputs(store) == outputs(plain)


def test_many_outputs_are_worth_an_export(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_engines, "WORTH_EXPORTING", 10)
    store, shown = write(set_up(labelled(make_recipe, "auto")), tmp_path / "run", Opened())
    assert store.run_record.engine == "onnx" and "BLEU 100.00 against PyTorch's outputs on 30 sources" in shown


def test_a_killed_run_goes_on_with_the_same_engine(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "SHARD_SOURCES", 8)
    setup = set_up(labelled(make_recipe, "onnx"))
    whole = write(setup, tmp_path / "whole", Opened())[0]
    assert len(whole.record.shards) == 4 and len(whole) == 30

    class Killed(Opened):
        def hypotheses(self, sources: Sequence[list[int]], *beams: int) -> list[list[Hypothesis]]:
            if self.written >= 30 + 20:  # all were compared; then two shards and a half
                raise KeyboardInterrupt
            return super().hypotheses(sources, *beams)

    with pytest.raises(KeyboardInterrupt):
        write(setup, tmp_path / "run", Killed())
    there = len(list((tmp_path / "run").glob("shard-?????.json")))
    assert 0 < there < 4
    again = Opened()
    automatic = set_up(labelled(make_recipe, "auto"))  # the outputs are few, but were begun with onnx
    store, shown = write(automatic, tmp_path / "run", again)
    assert outputs(store) == outputs(whole) and store.run_record.engine == "onnx"
    assert again.written == 30 - 8 * there and shown == ""
    assert store.run_record.bleu_against_torch == 100.0


def outputs(store: LabelStore) -> list[list[int]]:
    """The best outputs."""
    return [list(store.output(index)) for index in range(len(store))]
