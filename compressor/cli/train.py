"""``compress train``: trains a model on references only."""

from __future__ import annotations

from compressor.cli import options

EXAMPLE = "compress train configs/demo-translation.yaml --set student.d_model=128 --out runs/teacher"


def command(
    recipe: options.RecipeFile,
    out: options.RunOut = None,
    set_: options.Set = (),  # type: ignore[assignment]
    resume: options.Resume = False,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Train a model from references alone.

    The recipe is one for `compress distill`; its teacher, its method but for label smoothing, and its sources
    without references are left out.
    This makes a teacher of one's own, or a baseline.
    """
    from compressor.cli.training import make

    make("train", recipe, out, set_, resume=resume, force=force, dry_run=dry_run, as_json=json)
