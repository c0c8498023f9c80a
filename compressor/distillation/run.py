"""A run from recipe to run folder: a lock on the folder, a start or a resumption, and the training loop."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from compressor.config import Recipe
from compressor.distillation.averaging import (
    delete_numbered,
)
from compressor.distillation.checkpoint import (
    Progress,
    changed_inputs,
    differences,
    divide_among_processes,
    inputs_of,
    load_checkpoint,
    progress_of,
    recorded_recipe,
    restore_replaced,
    same_length,
)
from compressor.distillation.distributed import lost_processes, main_process_first, this_process
from compressor.distillation.initialization import check_start
from compressor.distillation.label_engines import OpenLabelEngine
from compressor.distillation.run_log import RunLog, check_tensorboard
from compressor.distillation.setup import set_up
from compressor.distillation.signals import prepare_signal
from compressor.distillation.thread_count import use_threads
from compressor.distillation.trainer import Trainer
from compressor.distillation.training_loop import TrainingLoop, number_kept
from compressor.errors import ConfigError, ModelError, OutputExistsError
from compressor.files import storage_errors, write_atomic
from compressor.models.weights import load_weights
from compressor.output_folder import check_replaceable, only_writer
from compressor.progress import Bar
from compressor.run_folder import (
    CHECKPOINT_FOLDER,
    METRICS_FILE,
    SAMPLES_FILE,
    WEIGHTS_FILE,
    is_finished,
    read_recipe,
    read_record,
)

CACHE_FOLDER = "tokenized"
"""Name of the folder of tokenized corpora, beside the run folder."""


def distill(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    label_engine: OpenLabelEngine | None = None,
) -> Path:
    """Trains a student by a recipe and returns the run folder.

    Args:
        recipe: data, teacher, student, method and training.
        out: the run folder; its weights are always those of the best dev score so far.
        resume: continue from the last checkpoint in ``out``, or from the start if the run was killed before its first.
            A recipe with more updates or epochs makes a run longer, a finished one, too.
        force: replace ``out``.
        progress: show a progress bar and a log line per dev score on standard error.
        label_engine: exports the teacher, to write its outputs faster than PyTorch does; None: PyTorch writes them.

    Raises:
        ConfigError: both ``resume`` and ``force`` are set; or the method is a fine-tune, and no run is named to start
            from.
        OutputExistsError: ``out`` exists, and neither is set; or another process writes it.
        ModelError: there is no run to resume, or it has another recipe.
        InterruptedRun: Ctrl-C or SIGTERM; the checkpoint was written first.
        DivergedRun: a loss or a gradient is not finite, or the loss has risen far above its least mean; the last
            checkpoint and the best weights stay.
        LostProcess: another process of a distributed run has ended, or does not answer.
        DataError, ModelError, VocabularyError, StorageError: see ``compressor.errors``.
    """
    wait = recipe.training.wait_minutes
    main = this_process(wait).is_main_process
    with only_writer(out, "this run") if main else nullcontext(), lost_processes(wait):
        return _distill(recipe, out, resume=resume, force=force, progress=progress and main, label_engine=label_engine)


def _distill(
    recipe: Recipe, out: Path, *, resume: bool, force: bool, progress: bool, label_engine: OpenLabelEngine | None
) -> Path:
    """Does what ``distill`` says, while the run is locked."""
    process = this_process()
    if resume and force:
        message = "{resume} goes on with what {force} would replace; say one of them"
        raise ConfigError(message, options=["resume", "force"])
    if not resume:
        check_start(recipe)
    if force:
        check_replaceable(out)
    if resume and out.is_dir():
        if process.is_main_process:
            restore_replaced(out)
        process.wait_for_everyone()
    if resume and _is_done(out, recipe):
        return out
    if out.exists() and not (resume or force) and any(out.iterdir()):
        raise OutputExistsError(
            f"{out}: exists already; continue it with {{resume}}, replace it with {{force}}, or choose another",
            options={"resume": True, "force": True},
        )
    if recipe.training.tensorboard:
        check_tensorboard()
    process.wait_for_everyone()  # no process writes before all have checked that the folder is free
    console = Console(stderr=True, quiet=not progress or not process.is_main_process)
    use_threads(recipe.training.threads, console)
    cache = Path(recipe.data.cache) if recipe.data.cache else out.parent / CACHE_FOLDER
    with Bar(console, shown=not console.quiet) as bar:
        setup = set_up(recipe, bar, cache=cache)
    if process.is_main_process:
        _make_folder(out, fresh=force)
    console.print(setup.data.report_text, highlight=False, markup=False)  # it quotes examples
    with Bar(console, shown=not console.quiet) as bar:
        if setup.augmentation is not None:
            setup.augmentation.progress = bar.count("augmenting")
        trainer = Trainer(setup)
    if setup.augmentation is not None:
        setup.augmentation.progress = lambda done, total: None  # later parts of passes are made beside training
    with main_process_first(process, recipe.training.wait_minutes):
        trainer.signal, labels = prepare_signal(setup, out, console, label_engine)
    state = _resumed(trainer, out, console) if resume else None
    state = state or Progress(seconds=labels.seconds if labels else 0.0)
    state.processes, state.inputs = process.num_processes, inputs_of(setup)
    process.wait_for_everyone()  # the main one is about to change what all have read
    if resume and process.is_main_process:
        for name in (METRICS_FILE, SAMPLES_FILE):
            _cut_lines(out / name, state.updates)
        delete_numbered(out, number_kept(recipe), state.updates)
    with RunLog(out, state.updates, recipe.training.tensorboard, writes=process.is_main_process) as log:
        TrainingLoop(trainer, state, out=out, labels=labels, console=console, log=log).run()
    if process.is_main_process:
        shutil.rmtree(out / CHECKPOINT_FOLDER, ignore_errors=True)
    return out


def _is_done(out: Path, recipe: Recipe) -> bool:
    """Returns whether the run that is to be resumed has come to its end, and its recipe asks for no more.

    Raises:
        ModelError: there is no run, or it has another recipe.
    """
    if not out.is_dir():
        raise ModelError(f"{out}: there is no run to resume; start without {{resume}}", options=["resume"])
    finished, recorded = is_finished(out), recorded_recipe(out)
    problems = differences(recorded, recipe) if recorded else ["it has no recipe"] if finished else []
    if problems:
        what = "is finished, with another recipe" if finished else "belongs to another recipe"
        cure = "resume with the same one" if not finished else "choose another folder"
        message = f"{out}: {what} ({'; '.join(problems)}); {cure}, or start again with {{force}}"
        raise ModelError(message, options={"force": True})
    best = read_recipe(out)
    return finished and best is not None and same_length(best, recipe)


def _resumed(trainer: Trainer, out: Path, console: Console) -> Progress | None:
    """Returns the counters that a run goes on from, and fills student and optimizer; None if it begins.

    Raises:
        ModelError: the checkpoint is damaged, data or teacher have changed since, or the recipe asks for no more
            updates than were made.
    """
    recorded, start = recorded_recipe(out), ""
    if (out / CHECKPOINT_FOLDER).is_dir():
        state = load_checkpoint(out, trainer.student, trainer.optimizer, trainer.writer.replay)
        if changed := changed_inputs(state, trainer.setup):
            raise ModelError(
                f"{out}: cannot go on ({'; '.join(changed)}); give what it began with, or start again with {{force}}",
                options={"force": True},
            )
    elif is_finished(out):
        load_weights(out / WEIGHTS_FILE, trainer.student)
        state = progress_of(read_record(out))
        start = f", with the best weights (update {state.best_update}), a new optimizer and a new warm-up"
    else:
        return None
    trainer.fresh_optimizer = state.fresh_optimizer
    divide_among_processes(state, recorded or trainer.recipe, trainer.recipe, trainer.accelerator.num_processes)
    if recorded is not None and not same_length(recorded, trainer.recipe):
        if state.updates >= trainer.updates:
            made = f"has made {state.updates} updates, and the recipe asks for {trainer.updates}"
            raise ModelError(f"{out}: {made}; give more in training.updates or training.epochs")
        told = f"goes on at update {state.updates} of now {trainer.updates}{start}"
        console.print(f"{told}; learning rate and β are those of the new length", highlight=False, soft_wrap=True)
    return state


def _make_folder(out: Path, *, fresh: bool) -> None:
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)


def _cut_lines(path: Path, updates: int) -> None:
    """Removes the lines logged after the checkpoint, which will be logged again, and a line that a kill cut short."""
    if not path.exists():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            record = json.loads(line)
            if record["update"] <= updates and "averaged" not in record:
                lines.append(line)
        except ValueError:
            continue
    write_atomic(path, "".join(lines))
