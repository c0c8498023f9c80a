"""``compress label``: writes a teacher's outputs and distributions to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compressor.cli import options

EXAMPLE = "compress label configs/de-en.yaml --set teacher.path=DIR --num-hypotheses 5 --top-k 16 --out labels/de-en"

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder to write; what is missing of the same labels there is added.",
        show_default=False,
    ),
]
NumHypotheses = Annotated[
    int,
    typer.Option(
        "--num-hypotheses", min=1, help="Outputs of each source; seqinter and mbr read as many as teacher.num_beams."
    ),
]
TopK = Annotated[
    int,
    typer.Option(
        "--top-k",
        min=0,
        help="Log-probabilities at each position of the best output, for seqkd+full without a teacher; 0: none.",
    ),
]
ContextsOption = Annotated[
    Literal["outputs", "references"],
    typer.Option("--contexts", help="references: no outputs, but --top-k on references, for vanilla+full."),
]
Engine = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="ray: the workers of a Ray cluster write the shards.")
]


def command(
    recipe: options.RecipeFile,
    out: Out,
    set_: options.Set = (),  # type: ignore[assignment]
    num_hypotheses: NumHypotheses = 1,
    top_k: TopK = 0,
    contexts: ContextsOption = "outputs",
    engine: Engine = "local",
    label_engine: options.LabelEngine = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Write what a teacher says about all training sources, once for several students.

    The recipe is one for `compress distill`, which then takes --set teacher.labels=DIR and needs no teacher for seqkd,
    seqinter and mbr, nor for seqkd+full and vanilla+full if there are distributions. When it is stopped, the same
    command goes on.
    """
    from compressor.cli.labelling import label

    if label_engine is not None:
        set_ = [*set_, f"teacher.label_engine={label_engine}"]
    label(
        recipe,
        out,
        set_,
        num_hypotheses=num_hypotheses,
        top_k=top_k,
        contexts=contexts,
        engine=engine,
        force=force,
        as_json=json,
    )
