"""``compress distill``: trains a student from a teacher."""

from __future__ import annotations

from compressor.cli import options

EXAMPLE = "compress distill configs/de-en.yaml --set data.root=DIR --set teacher.path=DIR --out runs/de-en"


def command(
    recipe: options.RecipeFile,
    out: options.RunOut = None,
    set_: options.Set = (),  # type: ignore[assignment]
    resume: options.Resume = False,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Make a small student from a large teacher.

    Start with --dry-run: it tells sizes, time and memory. Dev scores come as lines on standard error; the curves are in
    metrics.jsonl in the run's folder. Ctrl-C writes a checkpoint and stops; --resume continues from it.
    """
    from compressor.cli.training import make

    make("distill", recipe, out, set_, resume=resume, force=force, dry_run=dry_run, as_json=json)
