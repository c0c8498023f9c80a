"""The cost of an update, measured on the tiny run as its own teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.reports.small_tables import update_cost as update_cost_table
from benchmarks.training.contenders import WrittenOutputs, groups_of, settings_of, trainer_of
from benchmarks.training.update_cost import row_of, update_cost
from compressor.config import load_recipe
from compressor.decoding.search import pad_sources
from compressor.distillation.schedules import beta
from compressor.distillation.setup import set_up
from compressor.errors import ConfigError, ModelError


def test_imitkd_keeps_no_reference(tiny_recipe: Path, tiny_run: Path, tmp_path: Path) -> None:
    overrides = [f"teacher.path={tiny_run}", "method.rollout.batches=2"]
    result = update_cost(tiny_recipe, overrides, run=tiny_run, groups=2, repeats=1, warmup=0, progress=False)
    assert [row["method"] for row in result["rows"]] == ["vanilla+full", "seqkd", "imitkd", "imitkd+full"]
    assert [row["beta"] for row in result["rows"]] == [None, None, 0.0, 0.0]
    assert result["rows"][0]["ratio"] == 1.0
    for row in result["rows"]:
        assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    assert 1 <= result["settings"]["rollout_tokens"] <= 24
    assert result["settings"]["reference_tokens"] > 1 and 1 <= result["settings"]["label_tokens"] <= 24
    shown = update_cost_table(result)
    assert "| seqkd |" in shown and "seqkd reads labels" in shown
    json.dumps(result, allow_nan=False)


def test_labels_are_written_once_and_are_the_teachers_outputs(
    tiny_recipe: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe, [f"teacher.path={tiny_run}", "teacher.num_beams=2", *settings_of("seqkd")])
    setup = set_up(recipe)
    work = groups_of(trainer_of(setup, recipe), 1, 2)
    indices = [index for group in work for batch in group for index in batch.indices]
    assert setup.teacher is not None
    sources = [setup.train.sources[index].tolist() for index in indices]
    batch = pad_sources(sources, setup.generation.pad_id)
    expected = [best.tokens for best, *_ in setup.teacher.generate(*batch, num_beams=2)]
    labels = WrittenOutputs(setup, work)
    monkeypatch.setattr(setup.teacher, "generate", None)
    assert labels.outputs(indices, [1] * len(indices)) == expected
    assert trainer_of(setup, recipe, labels).train_group(work[0], 0)[0].positions == sum(
        map(len, expected[: len(work[0][0].indices)])
    )


def test_ratios_are_of_the_same_batches() -> None:
    samples = {"vanilla+full": [1.0, 2.0, 4.0], "imitkd": [1.5, 3.0, 2.0]}  # medians 2 and 2
    row = row_of("imitkd", samples)
    assert (row["p50_ms"], row["ratio"]) == (2000.0, 1.5)


def test_no_warm_up_of_the_recipes_is_left(tiny_recipe: Path, tiny_run: Path) -> None:
    overrides = [f"teacher.path={tiny_run}", "method.schedule={name: linear, warmup: 0.5}"]
    schedule = load_recipe(tiny_recipe, [*overrides, *settings_of("imitkd")]).method.schedule
    assert beta(schedule, 0.0) == 0.0


def test_a_recipe_without_a_teacher_is_refused(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="needs a teacher"):
        update_cost(tiny_recipe)
    assert main(["update-cost", str(tiny_recipe)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_run_of_another_size_is_refused(tiny_recipe: Path, tiny_run: Path) -> None:
    with pytest.raises(ModelError, match="architecture"):
        update_cost(tiny_recipe, [f"teacher.path={tiny_run}", "student.encoder_ffn=48"], run=tiny_run)
