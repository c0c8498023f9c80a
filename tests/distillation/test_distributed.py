"""Two processes make the updates that one process makes with the batches of both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import compressor
from compressor.config import Recipe, dump_recipe
from compressor.data.batching import Batches
from compressor.distillation.contexts import build_contexts
from compressor.distillation.run import distill
from compressor.distillation.setup import set_up
from compressor.distillation.trainer import Trainer
from compressor.errors import ModelError
from compressor.models.weights import load_run
from compressor.run_folder import is_finished
from tests.distillation.killed_runs import killed_at, losses


def command_of(recipe: Recipe, folder: Path, *more: str, program: Sequence[str] = ("-m", "compressor")) -> list[str]:
    file, out = folder / "recipe.yaml", folder / "run"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *program]
    return [*torchrun, "distill", str(file), "--out", str(out), *more]


def launch(recipe: Recipe, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_of(recipe, folder, *more), capture_output=True, text=True, timeout=300)


SAMPLED = {
    "schedule": {"name": "constant", "value": 0.5},
    "rollout": {"strategy": "topk", "top_k": 3, "batches": 2, "replay": 0.5},
}


def whole_and_halves(recipe: Recipe) -> tuple[Recipe, Recipe]:
    """The recipe with two batches an update, for one process and for two."""
    both = (recipe.training.model_copy(update={"accumulation": count}) for count in (2, 1))
    whole, halves = (recipe.model_copy(update={"training": training}) for training in both)
    return whole, halves


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "section", "mono", "dropout"),
    [
        ("vanilla", {}, False, 0.0),
        ("imitkd", SAMPLED, True, 0.0),
        ("imitkd", SAMPLED, True, 0.3),
        ("mbr", {"mbr_hypotheses": 2}, False, 0.0),
        ("imitkd+full", {"schedule": {"name": "linear"}, "rollout": {"batches": 2}}, True, 0.0),
    ],
)
def test_two_processes_have_the_loss_curve_of_one(
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    method: str,
    section: dict[str, Any],
    mono: bool,
    dropout: float,
) -> None:
    training = {"eval_every": 50, "learning_rate": 0.003}
    recipe = make_recipe(method, updates=50, mono=mono, method_section=section, training=training)
    recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"dropout": dropout})})
    whole, halves = whole_and_halves(recipe)
    expected = losses(distill(whole, tmp_path / "one", progress=False))
    done = launch(halves, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(expected) >= 25 and expected[-1] < expected[0]
    assert losses(tmp_path / "run") == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_one_update_is_that_of_the_mean_loss_over_all_positions(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {"eval_every": 1, "warmup_updates": 0, "learning_rate": 0.01}
    recipe = make_recipe("vanilla+full", updates=1, training=training)
    recipe = recipe.model_copy(update={"student": recipe.student.model_copy(update={"dropout": 0.0})})
    done = launch(recipe, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [set(line) & {"loss", "dev"} for line in lines] == [{"loss"}, {"dev"}]  # one process writes
    assert done.stdout.count("finished") == 1

    trainer = Trainer(set_up(recipe))
    student, train = trainer.student, trainer.setup.train
    shares = []
    for rank in range(2):
        shard = Batches(
            train.sources,
            train.targets,
            pad_id=trainer.setup.generation.pad_id,
            max_tokens=recipe.training.batch_tokens,
            seed=recipe.training.seed,
            rank=rank,
            world_size=2,
        )
        batch = next(shard.epoch(0))
        outputs = [train.targets[index] for index in batch.indices]
        contexts = build_contexts(outputs, [True] * len(outputs), trainer.setup.generation)
        shares.append((trainer.loss(batch, contexts), int(contexts.loss_mask.sum())))
    positions = sum(count for _, count in shares)
    sum(loss * count / positions for loss, count in shares).backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), recipe.training.clip_norm)
    torch.optim.AdamW(student.parameters(), lr=0.01, betas=recipe.training.adam_betas, weight_decay=0.0).step()
    saved = load_run(tmp_path / "run").model.state_dict()
    for name, expected in student.state_dict().items():
        torch.testing.assert_close(saved[name], expected, atol=2e-3, rtol=0)  # stored in fp16


@pytest.mark.slow
def test_all_processes_refuse_an_existing_run(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "keep").write_text("mine")
    done = launch(make_recipe("imitkd+full"), tmp_path)
    assert done.returncode != 0 and "exists already" in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["keep"]


def workers(launcher: int) -> list[int]:
    """The processes that a launcher started and that are alive, by rank."""
    pids = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                variables = (folder / "environ").read_text() if parent == launcher else ""
            except OSError:
                continue
            ranks = [word for word in variables.split("\0") if word.startswith("RANK=")]
            pids.update({int(rank.removeprefix("RANK=")): int(folder.name) for rank in ranks})
    return [pids[rank] for rank in sorted(pids)]


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "processes"), [(0, 2), (1, 1)])
def test_a_lost_process_stops_the_others_and_the_run_resumes_on_any_number(
    make_recipe: Callable[..., Recipe], tmp_path: Path, lost: int, processes: int
) -> None:
    training = {"eval_every": 20, "learning_rate": 0.003, "checkpoint_minutes": 1e-9}
    recipe = make_recipe("imitkd", updates=120, mono=True, method_section=SAMPLED, training=training)
    whole, halves = whole_and_halves(recipe)
    expected = losses(distill(whole, tmp_path / "one", progress=False))
    run = tmp_path / "run"
    with subprocess.Popen(command_of(halves, tmp_path), stderr=subprocess.PIPE, text=True) as started:
        while started.poll() is None and (not (run / "checkpoint").is_dir() or len(losses(run)) < 20):
            time.sleep(0.05)
        os.kill(workers(started.pid)[lost], signal.SIGKILL)
        begin = time.monotonic()
        _, message = started.communicate(timeout=60)
        assert time.monotonic() - begin < 60 and started.returncode != 0
    assert "error: another process of this run has ended" in message and "--resume" in message
    assert "Traceback" not in message.partition("error: another process")[0]
    assert 20 <= len(losses(run)) < len(expected)
    if processes == 1:
        with pytest.raises(ModelError, match=r"with 1 process give training\.accumulation=2"):
            distill(halves, run, resume=True, progress=False)
        distill(whole, run, resume=True, progress=False)
    else:
        assert launch(halves, tmp_path, "--resume").returncode == 0
    assert losses(run) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_run_of_one_process_resumes_on_two(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {"eval_every": 20, "learning_rate": 0.003, "checkpoint_minutes": 1e-9}
    recipe = make_recipe("imitkd", updates=60, mono=True, method_section=SAMPLED, training=training)
    whole, halves = whole_and_halves(recipe)
    expected = losses(distill(whole, tmp_path / "one", progress=False))
    run = tmp_path / "run"
    with killed_at(31):
        distill(whole, run, progress=False)
    progress = json.loads((run / "checkpoint" / "progress.json").read_text())
    assert progress["processes"] == 1 and progress["batch"] > 0 and 0 < len(losses(run)) < len(expected)
    refused = launch(whole, tmp_path, "--resume")
    assert refused.returncode != 0 and "with 2 processes give training.accumulation=1" in refused.stderr
    done = launch(halves, tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    assert losses(run) == pytest.approx(expected, rel=1e-4)


WAIT_MINUTES = 0.5
"""Time limit in the tests of processes that hang; processes of a busy machine may start so far apart."""


def wait_until(condition: Callable[[], bool], started: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while started.poll() is None and not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def message_of_hanging(started: subprocess.Popen[str], rank: int) -> str:
    """Stops a process as a debugger does, and returns what the other one says when all have ended."""
    os.kill(workers(started.pid)[rank], signal.SIGSTOP)
    _, message = started.communicate(timeout=300)
    assert started.returncode != 0
    return message


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_hangs_in_an_update_ends_the_run(
    make_recipe: Callable[..., Recipe], tmp_path: Path, rank: int
) -> None:
    training = {"eval_every": 1000, "checkpoint_minutes": 1e-9, "wait_minutes": WAIT_MINUTES}
    recipe, run = make_recipe("vanilla", updates=100_000, training=training), tmp_path / "run"
    with subprocess.Popen(command_of(recipe, tmp_path), stderr=subprocess.PIPE, text=True) as started:
        wait_until(lambda: (run / "checkpoint").is_dir() and len(losses(run)) >= 20, started)
        message = message_of_hanging(started, rank)
    assert "error: another process of this run has not answered for 0.5 minutes (training.wait_minutes)" in message
    assert "--resume" in message and (run / "checkpoint").is_dir()


SLOW_LABELS = """
import os, sys, time
sys.path.insert(0, {root!r})
from compressor.cli import main
from compressor.distillation import run

prepare = run.prepare_signal

def slow(setup, out, *more):
    if os.environ["RANK"] == "0":
        (out / "labelling").touch()
        time.sleep({seconds})
    return prepare(setup, out, *more)

run.prepare_signal = slow
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("hangs", [False, True])
def test_the_others_wait_for_labels_as_long_as_they_take_but_not_for_a_process_that_hangs(
    make_recipe: Callable[..., Recipe], tmp_path: Path, hangs: bool
) -> None:
    program, run = tmp_path / "program.py", tmp_path / "run"
    root = str(Path(compressor.__file__).parents[1])
    program.write_text(SLOW_LABELS.format(root=root, seconds=600 if hangs else 2 * 60 * WAIT_MINUTES))
    recipe = make_recipe("seqkd", updates=2, training={"wait_minutes": WAIT_MINUTES})
    command = command_of(recipe, tmp_path, program=[str(program)])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        if hangs:
            wait_until((run / "labelling").exists, started)
            assert "has not answered for 0.5 minutes" in message_of_hanging(started, 0)
        else:
            _, message = started.communicate(timeout=300)
            assert started.returncode == 0, message
            assert is_finished(run)
