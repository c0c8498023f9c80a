"""What a run tells those who watch it, when it stops by itself, and what it says then."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compressor.config import Recipe
from compressor.decoding.search import greedy, pad_sources
from compressor.distillation import training_loop as loop_module
from compressor.distillation.checkpoint import Progress
from compressor.distillation.evaluation import dev_outputs, dev_scores, free_contexts, teacher_agreement
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import DivergedRun, InterruptedRun, ModelError
from compressor.generation_config import GenerationConfig
from compressor.models.weights import load_run
from compressor.run_folder import read_record
from compressor.teachers.native import NativeTeacher

Make = Callable[..., Recipe]
OFTEN = {"checkpoint_minutes": 1e-9}
ALONE = {"rollout": {"batches": 1}}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_curves_count_tokens_and_time(make_recipe: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = make_recipe("imitkd+full", updates=9, training={"eval_every": 3})
    out = distill(recipe, tmp_path / "run")
    lines, record = read_lines(out / "metrics.jsonl"), read_record(out)
    training, dev = [line for line in lines if "loss" in line], [line for line in lines if "dev" in line]
    together = recipe.method.rollout.batches
    assert [line["update"] for line in training] == [*range(together, 9, together), 9]
    counts = [line["target_tokens"] for line in training]
    assert counts == sorted(counts) and counts[-1] == record.target_tokens >= sum(
        line["positions"] for line in training
    )
    assert all(0 <= line["rollout_time"] <= 1 and line["target_tokens_per_second"] > 0 for line in training)
    assert 0 < record.rollout_time < 1 and not record.stopped_early and record.processes == 1
    assert all(0 <= line["agreement"] <= 1 and line["target_tokens"] in counts for line in dev)
    text = " ".join(capsys.readouterr().err.split())
    assert f"finished at update 9: best dev score {max(line['dev']['bleu'] for line in dev):.2f} (update " in text
    assert (
        f"of it in rollouts; {record.target_tokens} target tokens, {record.target_tokens_per_second:.0f} a second"
        in text
    )


def test_samples_are_the_greedy_outputs_at_each_dev_score(make_recipe: Make, tmp_path: Path) -> None:
    out = distill(make_recipe("vanilla", updates=4, training={"eval_every": 2}), tmp_path / "run", progress=False)
    samples, run = read_lines(out / "samples.jsonl"), load_run(out)
    assert [sample["update"] for sample in samples] == [2] * 5 + [4] * 5
    setup = set_up(make_recipe("vanilla"))
    references = {example.source: example.target for example in setup.dev}
    assert all(references[sample["source"]] == sample["reference"] for sample in samples)
    best = [sample for sample in samples if sample["update"] == run.record.best_update]
    assert len({sample["source"] for sample in best}) == 5
    for sample in best:  # the weights in the run are rounded to fp16, which may change a token of an untrained model
        source = pad_sources([run.tokenizer.encode_source(sample["source"])], run.generation.pad_id)
        (tokens,) = greedy(run.model, run.generation, *source)
        assert len(tokens) == 24 or run.tokenizer.decode(tokens) == sample["output"]


def test_outputs_on_the_dev_set_may_be_longer_than_references(make_recipe: Make) -> None:
    setup = set_up(make_recipe("vanilla", data={"max_target_tokens": 16, "max_output_tokens": 21}))
    assert max(map(len, dev_outputs(setup))) == 21  # an untrained model seldom ends


def test_agreement_is_that_of_prefixes_scored_one_by_one(make_recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.distillation.evaluation.AGREEMENT_SOURCES", 2)
    setup = set_up(make_recipe("imitkd"))
    teacher, rules = setup.teacher, setup.generation
    assert isinstance(teacher, NativeTeacher)
    outputs = dev_outputs(setup)
    same = []
    for row in (0, len(outputs) // 2):
        source = pad_sources([setup.tokenizer.encode_source(setup.dev[row].source)], rules.pad_id)
        for place, token in enumerate(outputs[row]):
            prefix = torch.tensor([[rules.start_id, *outputs[row][:place]]])
            mask = torch.arange(place + 1)[None] == place
            (logits,) = teacher.logits(*source, prefix, mask)
            logits[list(rules.suppressed_ids)] = -math.inf
            if place + 1 < rules.max_new_tokens:  # EOS is forced at the limit
                same.append(int(logits.argmax()) == token)
    assert teacher_agreement(setup, outputs) == pytest.approx(sum(same) / len(same))
    setup.student = teacher.model
    assert teacher_agreement(setup, dev_outputs(setup)) == 1.0
    setup.teacher = None
    assert teacher_agreement(setup, outputs) is None


def test_positions_that_rules_force_are_not_free() -> None:
    rules = GenerationConfig(start_id=0, eos_id=2, pad_id=0, forced_bos_id=9, forced_eos_id=2, max_new_tokens=4)
    contexts, free = free_contexts([[9, 5, 2], [9, 5, 6, 2], [9, 2], [9]], rules)
    assert contexts.tokens.tolist() == [[0, 9, 5, 0], [0, 9, 5, 6], [0, 9, 0, 0], [0, 9, 0, 0]]
    assert free.tolist() == [  # not 9, nor EOS as the fourth token, nor what follows an output that was cut
        [False, True, True, False], [False, True, True, False], [False, True, False, False], [False] * 4
    ]  # fmt: skip
    plain = rules.model_copy(update={"forced_bos_id": None, "forced_eos_id": None})
    assert free_contexts([[5, 6, 7, 2], [5, 6]], plain)[1].tolist() == [[True] * 4, [True, True, False, False]]


def test_tensorboard_has_the_curves_and_a_resumed_run_goes_on_in_them(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = {"tensorboard": True, "eval_every": 4, **OFTEN}
    recipe = make_recipe("imitkd+full", updates=12, method_section=ALONE, training=training)
    train_group = Trainer.train_group

    def killed(self: Trainer, group: list, update: int) -> list:
        if update == 7:
            raise KeyboardInterrupt
        return train_group(self, group, update)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_group", killed)
        with pytest.raises(KeyboardInterrupt):
            distill(recipe, tmp_path / "run", progress=False)
    out = distill(recipe, tmp_path / "run", resume=True, progress=False)
    lines = read_lines(out / "metrics.jsonl")
    events = EventAccumulator(str(out / "tensorboard")).Reload()
    names = {"loss", "beta", "learning_rate", "student_share", "rollout_time", "target_tokens_per_second"}
    tags = {f"training/{name}" for name in names} | {"dev/bleu", "dev/chrf", "dev/agreement"}
    assert set(events.Tags()["scalars"]) == tags
    for tag in tags:
        group, name = tag.split("/")
        expected = [(line["update"], line[name]) for line in lines if group == "training" and "loss" in line]
        if group == "dev":
            dev = [(line["update"], {**line["dev"], "agreement": line["agreement"]}) for line in lines if "dev" in line]
            expected = [(update, scores[name]) for update, scores in dev]
        drawn = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in drawn] == [step for step, _ in expected]
        assert [value for _, value in drawn] == pytest.approx([value for _, value in expected], rel=1e-6)
    (text, *_) = events.Tensors("samples/text_summary")
    first = read_lines(out / "samples.jsonl")[0]
    assert f"reference: {first['reference']}" in text.tensor_proto.string_val[0].decode()
    assert [sample["update"] for sample in read_lines(out / "samples.jsonl")] == [4] * 5 + [8] * 5 + [12] * 5


def test_patience_ends_a_run_and_survives_a_resumption(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {2: 5.0, 4: 7.0, 6: 6.0, 8: 7.0, 10: 6.5, 12: 9.0, 14: 9.5, 16: 3.0, 18: 2.0, 20: 1.0}
    asked: list[int] = []

    def scripted(self: loop_module.TrainingLoop) -> None:
        asked.append(self.state.updates)
        scores = dev_scores(self.trainer.setup, dev_outputs(self.trainer.setup))
        self._keep_better("x", type(scores)(**vars(scores) | {"bleu": values[self.state.updates]}))

    class Requested:
        def __bool__(self) -> bool:
            return asked[-1:] == [8]

    monkeypatch.setattr(loop_module.TrainingLoop, "_evaluate", scripted)
    recipe = make_recipe("vanilla", updates=20, training={"eval_every": 2, "patience": 3, **OFTEN})
    with monkeypatch.context() as patch:  # stopped after the second of three scores without a gain
        patch.setattr(loop_module, "_stop_requests", lambda: nullcontext(Requested()))
        with pytest.raises(InterruptedRun):
            distill(recipe, tmp_path / "run", progress=False)
    out = distill(recipe, tmp_path / "run", resume=True)
    record = read_record(out)
    assert asked == [2, 4, 6, 8, 10]
    assert (record.updates, record.best_update, record.dev.bleu) == (10, 4, 7.0)
    assert record.finished and record.stopped_early
    text = " ".join(capsys.readouterr().err.split())
    assert "finished at update 10 of 20, ended by 3 dev scores without a gain: best dev score 7.00 (update 4)" in text
    distill(recipe, out, resume=True, progress=False)
    assert asked[-1] == 10
    patient = make_recipe("vanilla", updates=20, training={"eval_every": 2, "patience": 4, **OFTEN})
    record = read_record(distill(patient, out, resume=True, progress=False))
    assert asked[5:] == [12, 14, 16, 18, 20] and record.best_update == 14 and not record.stopped_early


@pytest.mark.parametrize("method", ["vanilla", "imitkd+full"])
def test_a_diverging_run_stops_and_keeps_what_it_had(make_recipe: Make, tmp_path: Path, method: str) -> None:
    training = {"learning_rate": 1e25, "warmup_updates": 0, "eval_every": 1, **OFTEN}
    with pytest.raises(DivergedRun, match=r"run: update \d: training has diverged .* lower training\.learning_rate"):
        distill(
            make_recipe(method, updates=30, method_section=ALONE, training=training), tmp_path / "run", progress=False
        )
    for path in ("run/checkpoint/model.safetensors", "run/checkpoint/optimizer.safetensors"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(tmp_path / path).values())


def test_a_run_whose_loss_rises_far_is_stopped(make_recipe: Make, tmp_path: Path) -> None:
    training = {"learning_rate": 50.0, "warmup_updates": 0, "eval_every": 100, **OFTEN}
    recipe = make_recipe("vanilla+full", updates=100, method_section=ALONE, training=training)
    with pytest.raises(DivergedRun, match=r"update \d+: training has diverged \(mean loss .*, it was .*lower training"):
        distill(recipe, tmp_path / "run", progress=False)


def test_a_rising_loss_is_told_from_a_noisy_one() -> None:
    noisy, rising = Progress(), Progress()
    assert not any(noisy.has_diverged(loss) for loss in [4.0, 2.0, 5.0] * 100 + [30.0] + [2.0] * 20)
    assert not any(rising.has_diverged(2.0) for _ in range(100))
    # the mean of 20 losses passes 3 * 2 + 1 = 7 when 2 + 10 * (1 - 0.95 ** n) does
    assert [rising.has_diverged(12.0) for _ in range(15)].index(True) + 1 == math.ceil(math.log(0.5) / math.log(0.95))


@pytest.mark.parametrize("method", ["imitkd", "vanilla+full"])
def test_a_nan_of_the_teacher_is_named_as_the_teachers(
    make_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    recipe = make_recipe(method, method_section={"schedule": {"name": "constant", "value": 0.0}})
    trainer, logits, damaged = Trainer(set_up(recipe)), NativeTeacher.logits, list[int]()
    sources = [row.tolist() for row in trainer.setup.train.sources]

    def broken(self: NativeTeacher, source: Any, source_mask: Any, context: Any, mask: Any, tokens: Any = None) -> Any:
        result = logits(self, source, source_mask, context, mask, tokens).clone()
        result[mask.nonzero()[:, 0] == len(source) - 1, -1] = math.nan
        damaged.append(sources.index(source[-1][source_mask[-1]].tolist()))
        return result

    monkeypatch.setattr(NativeTeacher, "logits", broken)
    with pytest.raises(ModelError, match=r"teacher tiny: its output has NaN at training example \d+") as error:
        distill(recipe, tmp_path / "run", progress=False)
    assert f"training example {damaged[-1] + 1};" in str(error.value)
