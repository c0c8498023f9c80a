"""``compress demo``: trains, distils, exports and measures on the embedded corpus, for both tasks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from compressor.cli import options

EXAMPLE = "compress demo --out demo"

Task = Literal["translation", "summarization"]
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

    Trains a teacher, distils it, exports the student and measures both, for translation and summarization. Needs no
    file and no download.
    """
    from compressor.cli.output import print_json, print_table, write_json
    from compressor.errors import OutputExistsError
    from compressor.provenance import provenance

    if out.exists() and not force and (not out.is_dir() or any(out.iterdir())):
        raise OutputExistsError(f"{out}: exists already; choose another folder or say --force")
    tasks: tuple[Task, ...] = ("translation", "summarization") if task == "both" else (task,)
    results = {name: _run(name, out / name, tuple(set_), test_size, force) for name in tasks}
    done = {"provenance": provenance(), "results": results}
    write_json(done, str(out / "results.json"))
    if json:
        print_json(done)
        return
    for name, result in results.items():
        score = "BLEU" if name == "translation" else "ROUGE-L"
        title = f"{name}: {score} on {test_size} test examples, batch 1, one thread; {result['seconds']:.0f} s in all"
        print_table(COLUMNS, [_cells(row) for row in result["rows"]], title=title)
    print(f"Models, bundles and results.json are in {out}.")


def _run(task: Task, folder: Path, overrides: tuple[str, ...], test_size: int, force: bool) -> dict[str, Any]:
    """Makes teacher, student, a student without teacher, and bundle; returns the measured rows and the time."""
    import compressor
    from compressor.cli.output import say

    start, recipe, watched = time.perf_counter(), RECIPES / f"demo-{task}.yaml", sys.stderr.isatty()
    say(f"{task}: 1/5 a teacher, from references")
    larger = (*TEACHER, *LONGER[task], *overrides)
    teacher = compressor.train(recipe, folder / "teacher", overrides=larger, force=force, progress=watched)
    teacher_path = f"teacher.path={teacher}"
    say(f"{task}: 2/5 a student, by imitation learning")
    distilled = (teacher_path, *overrides)
    student = compressor.distill(recipe, folder / "student", overrides=distilled, force=force, progress=watched)
    say(f"{task}: 3/5 the same student without a teacher")
    alone = (teacher_path, "method.name=vanilla", "training.initialization=random", *overrides)
    scratch = compressor.distill(recipe, folder / "scratch", overrides=alone, force=force, progress=watched)
    say(f"{task}: 4/5 export")
    bundle = compressor.export(student, folder / "bundle", ungated=True, force=force)  # the table shows it
    say(f"{task}: 5/5 measurements")
    rows = _measure(
        task, folder, {"teacher": teacher, "student": student, "scratch": scratch, "bundle": bundle}, test_size
    )
    return {"seconds": round(time.perf_counter() - start, 1), "rows": rows}


def _measure(task: Task, folder: Path, made: dict[str, Path], test_size: int) -> list[dict[str, Any]]:
    from benchmarks.latency.bench import run
    from benchmarks.latency.config import BenchConfig
    from benchmarks.latency.grid import ROW_KEYS
    from benchmarks.quality.evaluate import evaluate

    test = _write_test_set(task, folder / "test.jsonl", test_size)
    config = BenchConfig(
        bundles=(made["bundle"],),
        teacher=str(made["teacher"]),
        runs=(made["student"],),
        source=test,
        batch_sizes=(1,),
        sentences=min(24, test_size),
        repeats=2,
    )
    rows: list[dict[str, Any]] = run(config)["rows"]
    scores = evaluate(made["scratch"], source=test, task=task).scores
    alone = {"engine": "torch", "model": "student, no teacher"}
    return [*rows, dict.fromkeys(ROW_KEYS) | {key: scores[key] for key in ROW_KEYS if key in scores} | alone]


def _write_test_set(task: Task, path: Path, size: int) -> Path:
    import json

    from compressor.data.synthetic.corpus import generate
    from compressor.files import write_atomic

    examples = generate(task, "test", size)
    lines = (json.dumps({"source": one.source, "target": one.target}, ensure_ascii=False) for one in examples)
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return path


def _cells(row: dict[str, Any]) -> list[Any]:
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
