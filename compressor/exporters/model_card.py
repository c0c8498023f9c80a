"""Writes the model card of a bundle (task, quality, terms, origin) from its manifest."""

from __future__ import annotations

from typing import Any

from compressor.bundle import Manifest
from compressor.bundle_records import Quality, Robustness

_COMMANDS = {"translation": "translate", "summarization": "summarize"}


def model_card(manifest: Manifest) -> str:
    """Returns the text of a bundle's README.md."""
    sections = (_head, _use, _letter_case, _quality, _robustness, _terms, _origin)
    return "\n\n".join(part for section in sections if (part := section(manifest))) + "\n"


def _head(manifest: Manifest) -> str:
    """Returns title, sizes and limits."""
    languages = " to ".join(code for code in (manifest.source_language, manifest.target_language) if code)
    title = f"{manifest.task.capitalize()}{f', {languages}' if languages else ''}"
    sizes = manifest.sizes
    return (
        f"# {title}\n\n"
        f"A {manifest.architecture} of {manifest.parameters:,} parameters ({sizes.get('encoder_layers')} encoder and "
        f"{sizes.get('decoder_layers')} decoder layers, width {sizes.get('d_model')}, vocabulary "
        f"{manifest.vocab_size:,}) as ONNX graphs, which contain the whole search (greedy, or with up "
        f"to {manifest.max_num_beams} beams). Sources have at most {manifest.max_source_tokens} tokens."
    )


def _use(manifest: Manifest) -> str:
    """Returns the command that runs the bundle, and the terms of its weights."""
    licence = manifest.lineage.licences.get("weights")
    terms = f"\n\nTerms of these weights: {licence}." if licence else ""
    return f"```\ncompress {_COMMANDS[manifest.task]} FOLDER < source.txt > target.txt\n```{terms}"


def _letter_case(manifest: Manifest) -> str:
    """Returns what sentences in capitals, and the like, are read as; empty where all are read as they stand."""
    cases = " or ".join(f"{case} case" for case in manifest.recased)
    if not cases:
        return ""
    return f"Sentences in {cases} are read in the usual letter case, and their outputs get back that of the sentence."


def _quality(manifest: Manifest) -> str:
    """Returns the table of precisions, and how it was measured."""
    table = ["| precision | weights | MB | against references | against fp32 |", "| --- | --- | --- | --- | --- |"]
    for name, precision in manifest.precisions.items():
        size = manifest.files[precision.weights].size / 1e6
        fp32_layers = f"; in fp32: {', '.join(precision.fp32_layers)}" if precision.fp32_layers else ""
        batch = f"; for batches of {precision.batch_size}" if precision.batch_size else ""
        scheme = precision.scheme + batch + fp32_layers
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
    """Returns two cells: the score against references, and against fp32."""
    if quality is None:
        return "not measured | not measured"
    values = (quality.against_references, quality.against_fp32)
    return " | ".join("" if value is None else f"{value:.1f} {quality.metric}" for value in values)


def _robustness(manifest: Manifest) -> str:
    """Returns the section on changed text; empty where nothing was measured."""
    measured = manifest.robustness
    if measured is None:
        return ""
    several = len({one.test_set for one in measured.slices}) > 1
    scores = _SUMMARY_SCORES if measured.slices[0].bleu is None else _TRANSLATION_SCORES
    numbers = ["lines", *scores, "length ratio", "runaways", "copied right"]
    words = [*(["test set"] if several else []), "lines of the test set"]
    table = [words + numbers, ["---"] * len(words) + ["---:"] * len(numbers)]
    for one in measured.slices:
        copied = f"{one.copied_right / one.copied:.1%} of {one.copied:,}" if one.copied else "–"
        values = ["–" if getattr(one, name) is None else f"{getattr(one, name):z.1f}" for name in scores.values()]
        figures = [f"{one.sentences:,}", *values, f"{one.length_ratio:.2f}", str(one.runaways), copied]
        table.append([*([one.test_set or ""] if several else []), one.slice, *figures])
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return f"## Robustness\n\n{lines}\n\n{_robustness_note(measured, next(iter(scores)))}"


_TRANSLATION_SCORES = {"BLEU": "bleu", "lost": "bleu_lost", "chrF": "chrf"}
_SUMMARY_SCORES = {"ROUGE-L": "rouge_l", "lost": "rouge_l_lost"}
"""Head of a column to the field of a slice."""


def _robustness_note(measured: Robustness, metric: str) -> str:
    """Returns what the figures mean, and which slices are too small to have any."""
    search = "greedy search" if measured.num_beams == 1 else f"{measured.num_beams} beams"
    listed = ", ".join(f"{one.slice} of {one.test_set} ({one.lines})" for one in measured.left_out)
    left_out = f" Left out, with fewer than {measured.least_lines} lines: {listed}." if listed else ""
    split = ""
    if any(one.slice.endswith(", split") for one in measured.slices):
        split = (
            " Split: read sentence by sentence, as `compress translate` reads text; the other lines were read whole."
        )
    return (
        f"Test set {measured.test_set}, {measured.precision}, {search}; scores disregard case: {measured.signature}. "
        f"Lost: {metric} below that of the outputs of the unchanged lines. Runaways: outputs that are far too long or "
        "end in a loop. "
        "Copied right: numbers, addresses and placeholders that source and reference share."
        f"{split}{left_out}"
    )


def _terms(manifest: Manifest) -> str:
    """Returns the section on licences."""
    licences = manifest.lineage.licences
    if not licences:
        return (
            "## Terms\n\nNo licence was recorded for these weights. Ask whoever trained them before you use or pass "
            "them on: the terms of the teacher and of the training data apply."
        )
    return "## Terms\n\n" + "\n".join(f"- {what.capitalize()}: {text}" for what, text in licences.items())


def _origin(manifest: Manifest) -> str:
    """Returns the section on method, teacher and data."""
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
    """Returns the names of the data files, at any depth of the record."""
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
