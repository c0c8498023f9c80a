"""The model card: what a bundle is, how good, from what, under which terms. All of it is in the manifest too."""

from __future__ import annotations

from typing import Any

from compressor.bundle import Manifest, Quality

_COMMANDS = {"translation": "translate", "summarization": "summarize"}


def model_card(manifest: Manifest) -> str:
    """README.md of a bundle."""
    parts = [_head(manifest), _use(manifest), _quality(manifest), _terms(manifest), _origin(manifest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(manifest: Manifest) -> str:
    languages = " to ".join(code for code in (manifest.source_language, manifest.target_language) if code)
    title = f"{manifest.task.capitalize()}{f', {languages}' if languages else ''}"
    sizes = manifest.sizes
    return (
        f"# {title}\n\n"
        f"A {manifest.architecture} of {manifest.parameters:,} parameters ({sizes.get('encoder_layers')} encoder and "
        f"{sizes.get('decoder_layers')} decoder layers, width {sizes.get('d_model')}, vocabulary "
        f"{manifest.vocab_size:,}) as ONNX graphs. The whole search is in them, greedy or with up to "
        f"{manifest.max_num_beams} beams; sources have at most {manifest.max_source_tokens} tokens."
    )


def _use(manifest: Manifest) -> str:
    licence = manifest.lineage.licences.get("weights")
    terms = f"\n\nTerms of these weights: {licence}." if licence else ""
    return f"```\ncompress {_COMMANDS[manifest.task]} FOLDER < source.txt > target.txt\n```{terms}"


def _quality(manifest: Manifest) -> str:
    table = ["| precision | weights | MB | against references | against fp32 |", "| --- | --- | --- | --- | --- |"]
    for name, precision in manifest.precisions.items():
        size = manifest.files[precision.weights].size / 1e6
        kept = f"; in fp32: {', '.join(precision.float_layers)}" if precision.float_layers else ""
        meant = f"; for batches of {precision.batch_size}" if precision.batch_size else ""
        scheme = precision.scheme + meant + kept
        table.append(f"| {name} | {scheme} | {size:.1f} | {_scores(precision.quality)} |")
    notes = []
    measured = next((p.quality for p in manifest.precisions.values() if p.quality), None)
    if measured is not None:
        notes.append(f"Scores on {measured.sentences} dev sources, {measured.signature or measured.metric}.")
    else:
        notes.append("There were no dev sources, but sources of random tokens.")
    if manifest.parity is not None:
        parity = manifest.parity
        moved = ", ".join(f"{name} {count}" for name, count in parity.batch_exceptions.items())
        notes.append(
            f"fp32 gives PyTorch's tokens on {parity.fp32_identical} of {parity.sources} of them, and differs at a "
            f"near-tie on {parity.fp32_near_ties}; outputs that moved with the batch: {moved}. `parity.json` lists "
            "every exception."
        )
    return "## Quality\n\n" + "\n".join(table) + "\n\n" + " ".join(notes)


def _scores(quality: Quality | None) -> str:
    if quality is None:
        return "not measured | not measured"
    values = (quality.against_references, quality.against_fp32)
    return " | ".join("" if value is None else f"{value:.1f} {quality.metric}" for value in values)


def _terms(manifest: Manifest) -> str:
    licences = manifest.lineage.licences
    if not licences:
        return (
            "## Terms\n\nNo licence was recorded for these weights. Ask whoever trained them before you use or pass "
            "them on: the terms of the teacher and of the training data apply."
        )
    return "## Terms\n\n" + "\n".join(f"- {what.capitalize()}: {text}" for what, text in licences.items())


def _origin(manifest: Manifest) -> str:
    lineage = manifest.lineage
    teacher = lineage.teacher or {}
    size = teacher.get("parameters")
    lines = [
        f"- Method: {lineage.method}" if lineage.method else "",
        f"- Teacher: {teacher.get('name')}{f', {size:,} parameters' if size else ''}" if teacher else "",
        f"- Data: {_data(lineage.data)}" if lineage.data else "",
        "- The recipe, fingerprints of the data and provenance are in `bundle.json`.",
    ]
    return "## Origin\n\n" + "\n".join(line for line in lines if line)


def _data(data: Any) -> str:
    """Names of the data files, wherever in the record they stand."""
    names: dict[str, None] = {}

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("name"), str):
                names[value["name"]] = None
            for item in value.values():
                visit(item)
        elif isinstance(value, list):
            for item in value:
                visit(item)

    visit(data)
    return ", ".join(names) or "see `bundle.json`"
