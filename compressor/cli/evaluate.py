"""``compress evaluate``: scores a model on a test set."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from compressor.cli import options

EXAMPLE = "compress evaluate bundles/de-en --source test.de --reference test.en --json scores.json"


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A bundle, a run, or a Hugging Face checkpoint.", show_default=False)
    ],
    source: options.Source,
    reference: options.Reference = None,
    precision: options.Precision = None,
    num_beams: options.NumBeams = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Processor threads.")] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Sentences a call.")] = 32,
    task: Annotated[
        Literal["translation", "summarization"] | None,
        typer.Option("--task", help="Task of a Hugging Face checkpoint; default: translation."),
    ] = None,
    source_prefix: Annotated[
        str | None, typer.Option("--source-prefix", help="Text before every source: the task, for a T5 checkpoint.")
    ] = None,
    source_language: Annotated[
        str | None,
        typer.Option("--source-language", help="Source of a multilingual checkpoint, a code of its tokenizer."),
    ] = None,
    target_language: Annotated[
        str | None,
        typer.Option("--target-language", help="Target of a multilingual checkpoint, a code of its tokenizer."),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Revision of a checkpoint on the hub.")] = None,
    json: options.JsonFile = None,
) -> None:
    """Score a model on a test set.

    BLEU and chrF of translations, ROUGE of summaries, with their signatures.
    """
    from benchmarks.quality.evaluate import evaluate
    from compressor.cli.output import (
        check_writable,
        print_fields,
        progress_bar,
        readable,
        write_json,
    )

    check_writable([json])
    checkpoint_options = {
        "source_prefix": source_prefix,
        "source_language": source_language,
        "target_language": target_language,
        "revision": revision,
    }
    with progress_bar("evaluate") as progress:
        bar = progress.add_task("", total=None)
        done = evaluate(
            model,
            source=source,
            reference=reference,
            precision=precision,
            num_beams=num_beams,
            threads=threads,
            batch_size=batch_size,
            task=task,
            checkpoint_options={name: value for name, value in checkpoint_options.items() if value is not None},
            progress=lambda count, total: progress.update(bar, completed=count, total=total),
        )
    if json is not None:
        write_json(done.scores, json)
    if json != "-":
        print_fields({**readable(done.scores), "signature": done.scores["signature"]})
