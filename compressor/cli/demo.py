"""``compress demo``: trains, distils, exports and measures on the embedded corpus, for both tasks."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from compressor.cli import options
from compressor.data_config import Task

EXAMPLE = "compress demo --out demo"

RECIPES = Path(__file__).parent / "recipes"  # a link to configs/, so that the wheel has them too

# One recipe makes every model: the teacher is a larger student, trained on references alone.
TEACHER = (
    "student.d_model=96",
    "student.encoder_layers=2",
    "student.decoder_layers=2",
    "student.encoder_ffn=384",
    "student.decoder_ffn=384",
    "training.learning_rate=0.003",
)
LONGER = {
    "translation": ("training.batch_tokens=2000", "training.updates=450", "training.eval_every=150"),
    "summarization": ("training.batch_tokens=4000", "training.updates=200", "training.eval_every=100"),
}
REPORT = "report.html"
COLUMNS = ("model", "engine", "precision", "parameters", "MB", "score", "p50 ms", "sentences/s", "speedup")


def command(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for models and results.")] = Path("demo"),
    task: Annotated[
        Literal["translation", "summarization", "both"], typer.Option("--task", help="Task of the models.")
    ] = "both",
    set_: options.Set = (),  # type: ignore[assignment]
    test_size: Annotated[int, typer.Option("--test-size", min=1, help="Examples of the test set.")] = 300,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Run the whole pipeline on an embedded corpus.

    Trains a teacher, distils it, exports the student and measures both, for translation and summarization: some six
    minutes on two cores. Needs no file and no download.
    """
    from compressor.cli.output import print_json, print_table, say, write_json
    from compressor.errors import OutputExistsError
    from compressor.provenance import provenance

    if out.exists() and not force and (not out.is_dir() or any(out.iterdir())):
        raise OutputExistsError(f"{out}: exists already; choose another folder or say --force")
    tasks: tuple[Task, ...] = ("translation", "summarization") if task == "both" else (task,)
    made = _make_models(tasks, out, tuple(set_), force)
    results = {}
    for name in tasks:
        say(f"{name}: measurements")
        results[name] = _measure(name, out / name, made[name], test_size)
    done = {"provenance": provenance(), "results": results}
    write_json(done, str(out / "results.json"))
    if json:
        print_json(done)
        return
    for name, result in results.items():
        score = "BLEU" if name == "translation" else "ROUGE-L"
        title = f"{name}: {score} on {test_size} test examples, batch 1, one thread; models made in "
        print_table(COLUMNS, [_cells(row) for row in result["rows"]], title=f"{title}{result['seconds']:.0f} s")
    print(f"Models, bundles and results.json are in {out}. Report pages:")
    for name in tasks:
        print(f"  {out / name / REPORT}")


def _make_models(tasks: Sequence[Task], out: Path, overrides: tuple[str, ...], force: bool) -> dict[Task, Made]:
    """The models of all tasks; two tasks are trained side by side, in a process of one thread each."""
    if len(tasks) == 1:
        return {tasks[0]: _make(tasks[0], out / tasks[0], overrides, force)}
    alone = ("training.threads=1", *overrides)
    with ProcessPoolExecutor(len(tasks), multiprocessing.get_context("spawn"), _use_one_thread) as pool:
        running = {name: pool.submit(_make, name, out / name, alone, force) for name in tasks}
        return {name: future.result() for name, future in running.items()}


def _use_one_thread() -> None:
    """Makes the libraries that a process is going to import leave the other processors alone."""
    os.environ["OMP_NUM_THREADS"] = "1"


class Made(NamedTuple):
    """Folders of the models of a task."""

    teacher: Path
    student: Path
    scratch: Path
    bundle: Path
    seconds: float


def _make(task: Task, folder: Path, overrides: tuple[str, ...], force: bool) -> Made:
    """Trains a teacher, a student with its advice and one without, and exports the first student."""
    import compressor
    from compressor.cli.output import say

    start, recipe = time.perf_counter(), RECIPES / f"demo-{task}.yaml"
    say(f"{task}: 1/4 a teacher, from references")
    larger = (*TEACHER, *LONGER[task], *overrides)
    teacher = compressor.train(recipe, folder / "teacher", overrides=larger, force=force, progress=False)
    advised = f"teacher.path={teacher}"
    say(f"{task}: 2/4 a student, by imitation learning")
    learning = (advised, *overrides)
    student = compressor.distill(recipe, folder / "student", overrides=learning, force=force, progress=False)
    say(f"{task}: 3/4 the same student without advice")
    alone = (advised, "method.name=vanilla", "training.initialization=random", *overrides)
    scratch = compressor.distill(recipe, folder / "scratch", overrides=alone, force=force, progress=False)
    say(f"{task}: 4/4 export")
    bundle = compressor.export(
        student, folder / "bundle", ungated=True, force=force, progress=False
    )  # the table shows it
    return Made(teacher, student, scratch, bundle, round(time.perf_counter() - start, 1))


def _measure(task: Task, folder: Path, made: Made, test_size: int) -> dict[str, Any]:
    """Rows of the table, and the seconds that the models took; writes a report page."""
    from benchmarks.latency.bench import run
    from benchmarks.latency.config import BenchConfig
    from benchmarks.latency.grid import ROW_KEYS
    from benchmarks.quality.config import EvaluateConfig
    from benchmarks.quality.evaluate import evaluate
    from benchmarks.reports.table import write_html

    test = _write_test_set(task, folder / "test.jsonl", test_size)
    config = BenchConfig(
        bundles=(made.bundle,),
        teacher=str(made.teacher),
        runs=(made.student,),
        source=test,
        batch_sizes=(1,),
        sentences=min(24, test_size),
        repeats=2,
    )
    table = run(config)
    scores = evaluate(made.scratch, EvaluateConfig(source=test, task=task)).scores
    alone = {"engine": "torch", "model": "student, no teacher"}
    write_html(table, folder / REPORT)  # of what was timed; the next row has a score alone
    table["rows"].append(dict.fromkeys(ROW_KEYS) | {key: scores[key] for key in ROW_KEYS if key in scores} | alone)
    return {"seconds": made.seconds, "rows": table["rows"]}


def _write_test_set(task: Task, path: Path, size: int) -> Path:
    """Writes the embedded test set of a task as JSON lines, and returns the path."""
    import json

    from compressor.data.synthetic.corpus import generate
    from compressor.files import write_atomic

    examples = generate(task, "test", size)
    lines = (json.dumps({"source": one.source, "target": one.target}, ensure_ascii=False) for one in examples)
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return path


def _cells(row: dict[str, Any]) -> list[Any]:
    """Returns the cells of a row of the table, formatted."""
    score = row["bleu"] if row["bleu"] is not None else row["rouge_l"]
    return [
        row["model"],
        row["engine"],
        row["precision"],
        f"{row['parameters']:,}",
        row["size_mb"],
        None if score is None else f"{score:.1f}",
        row["p50_ms"] and f"{row['p50_ms']:.1f}",
        row["sentences_per_s"] and f"{row['sentences_per_s']:.1f}",
        row["speedup"] and f"{row['speedup']:.1f}×",
    ]
