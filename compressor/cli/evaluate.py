"""``compress evaluate``: scores a model on a test set."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.quality.config import EvaluateConfig
from compressor.cli import options

EXAMPLE = "compress evaluate bundles/de-en --source test.de --reference test.en --json scores.json"

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundle, a run, or a Hugging Face checkpoint.", show_default=False)
]
SHARED = {
    "source": options.Source,
    "reference": options.Reference,
    "precision": options.Precision,
    "num_beams": options.NumBeams,
}
"""Options with the help texts that they have in other commands."""


@options.from_model(EvaluateConfig, arguments=SHARED)
def command(model: Model, config: EvaluateConfig, json: options.JsonFile = None) -> None:
    """Score a model on a test set.

    BLEU and chrF of translations, ROUGE of summaries, with their signatures.
    """
    from benchmarks.quality.evaluate import evaluate
    from compressor.cli.output import check_writable, print_fields, progress_bar, readable, write_json

    check_writable([json])
    with progress_bar("evaluate") as progress:
        bar = progress.add_task("", total=None)
        done = evaluate(model, config, progress=lambda count, total: progress.update(bar, completed=count, total=total))
    if json is not None:
        write_json(done.scores, json)
    if json != "-":
        print_fields({**readable(done.scores), "signature": done.scores["signature"]})
