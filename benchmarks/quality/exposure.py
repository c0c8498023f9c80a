"""Measures exposure bias: what a student loses to its teacher on contexts of its own making, beside references.

After every prefix of the references, of the teacher's greedy outputs and of the student's own, the divergence
KL(teacher || student) is measured. What the student's own prefixes add to that of the references is exposure bias (Ross
& Bagnell 2010; Lin et al. 2020; Arora et al. 2022). Beside it: scores by the length of the reference, and the shares of
repetitive and hallucinated outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.engines.base import TEACHER
from benchmarks.engines.folders import student_labels
from benchmarks.measure.result_file import Row, Table, load, write_json
from benchmarks.quality.config import ExposureConfig
from benchmarks.quality.evaluate import quality, read_test_set
from benchmarks.quality.exposure_figures import (
    CONTEXTS,
    by_length,
    by_position,
    excess_intervals,
    hallucination_rate,
    means_of,
    repetition_rate,
)
from benchmarks.quality.prefix_scores import ModelPair, PrefixScores, greedy_outputs, score_prefixes
from benchmarks.quality.scored_runs import method_of
from compressor.config import validate_options
from compressor.decoding.search import greedy
from compressor.errors import ConfigError, DataError
from compressor.models.base import count_parameters
from compressor.models.weights import Run, load_run
from compressor.progress import Bar
from compressor.provenance import provenance
from compressor.teacher_config import TeacherConfig
from compressor.teachers.base import Teacher
from compressor.teachers.registry import load_teacher
from compressor.teachers.vocabulary_subset import in_ids_of
from compressor.text.tokenizer import cut


@dataclass(frozen=True)
class EncodedTestSet:
    """A test set, as text and as the token ids that a student and its teacher read."""

    task: str
    references: list[str]
    sources: list[list[int]]
    targets: list[list[int]]
    lengths: list[int]
    """Tokens of the references, EOS included."""


@dataclass(frozen=True)
class Demonstration:
    """A teacher in memory, and its greedy outputs for the sources of a test set."""

    config: TeacherConfig
    data: EncodedTestSet
    teacher: Teacher
    outputs: list[list[int]]


def measure(config: ExposureConfig, earlier: Table | None = None, *, progress: bool = True) -> Table:
    """Measures the students, one after the other, and each teacher once.

    Args:
        config: What is measured.
        earlier: A result whose rows stay, those of the same students excepted.
        progress: Whether a bar is shown on stderr.

    Returns:
        ``{"provenance": ..., "settings": ..., "rows": [...]}``. A row has the model's name, architecture and method;
        for each of ``CONTEXTS`` the divergence (``KIND_kl``, nats) and the agreement with the teacher's best token
        (``KIND_agreement``), means over the positions of ``positions``; ``excess``, ``own_kl`` - ``reference_kl``, and
        ``excess_share``, that by ``reference_kl``; ``excess_over_teacher``, ``own_kl`` - ``teacher_kl``; 95% intervals
        of both (``excess_ci95``, ``excess_over_teacher_ci95``); the scores of the greedy outputs;
        ``repetition_rate`` and ``hallucination_rate``; ``positions``, a list with the means over the examples at each
        position, and ``lengths``, one with the scores by length of the reference. A teacher's row comes before those of
        its students and has no divergence.

    Raises:
        ConfigError: a run names no teacher, or does not fit the one given; or the earlier result is of other settings.
        DataError: the test set is too small.
        CompressError: a model or file is missing or damaged.
    """
    torch.set_num_threads(config.threads)
    pairs = list(zip(*read_test_set(config.source, config.reference), strict=True))[: config.examples]
    if len(pairs) < config.least_examples:
        raise _too_small(config)
    settings = {
        "test_set": config.source.name,
        "examples": len(pairs),
        "least_examples": config.least_examples,
        "batch_tokens": config.batch_tokens,
    }
    if earlier is not None and earlier.get("settings") != settings:
        raise ConfigError(
            f"{{json}}: its rows are of other settings ({earlier.get('settings')}, here {settings}); name another file",
            options=["json"],
        )
    rows: list[Row] = []
    shown: Demonstration | None = None
    with Bar(Console(stderr=True), progress) as bar:
        for path, label in zip(config.runs, student_labels(config.runs), strict=True):
            run = load_run(path)
            teacher, data = _teacher_config(run, path, config), _encode(run, pairs)
            before = shown
            if shown is None or (shown.config, shown.data) != (teacher, data):
                shown = _demonstrate(run, teacher, data, config, bar)
            own, scores = _score(run, shown, config, bar, label)
            if shown is not before:
                rows.append(_teacher_row(shown, scores["teacher"], config))
            rows.append(_student_row(run, label, shown, own, scores, config))
    merged = {_identity(row): row for row in [*(earlier["rows"] if earlier else []), *rows]}
    return {"provenance": provenance(), "settings": settings, "rows": [*merged.values()]}


def _identity(row: Row) -> tuple[Any, ...]:
    return row["model"], row["student"], row["seed"]


def _teacher_config(run: Run, path: Path, config: ExposureConfig) -> TeacherConfig:
    """Returns the teacher of a run, for greedy search up to the run's limit, without blocked n-grams.

    What only beam search reads, and labels, have their defaults, so that runs that differ in them share a teacher.
    """
    stated = run.recipe.teacher if run.recipe else None
    fields = TeacherConfig.model_fields
    of_beams = ("num_beams", "length_penalty", "label_engine", "labels")
    changes: dict[str, Any] = {name: fields[name].default for name in of_beams}
    changes |= {"max_new_tokens": run.generation.max_new_tokens, "no_repeat_ngram_size": 0}
    if config.teacher is not None:
        stated = stated or TeacherConfig(path=config.teacher)
        changes |= {} if stated.path == config.teacher else {"path": config.teacher, "revision": None}
    if stated is None:
        raise ConfigError(f"{path}: its recipe names no teacher; give {{teacher}}", options=["teacher"])
    return stated.model_copy(update=changes)


def _encode(run: Run, pairs: Sequence[tuple[str, str]]) -> EncodedTestSet:
    """Returns the test set as token ids, cut at the limits of the run."""
    rules, tokenizer = run.generation, run.tokenizer
    eos, first = tokenizer.eos_id, [] if rules.forced_bos_id is None else [rules.forced_bos_id]
    sources = [cut(tokenizer.encode_source(source), rules.max_source_tokens, eos) or [eos] for source, _ in pairs]
    targets = [tokenizer.encode_target(target) for _, target in pairs]
    contexts = [[*first, *target][: rules.max_new_tokens] for target in targets]
    task = (run.recipe.task if run.recipe else run.record.task) or "translation"
    return EncodedTestSet(task, [target for _, target in pairs], sources, contexts, [*map(len, targets)])


def _demonstrate(
    run: Run, teacher: TeacherConfig, data: EncodedTestSet, config: ExposureConfig, bar: Bar
) -> Demonstration:
    """Opens a teacher and has it write its outputs. Raises VocabularyError if the run's tokenizer is another."""
    opened = in_ids_of(run.tokenizer, load_teacher(teacher))
    outputs = greedy_outputs(
        lambda source, mask: [best.tokens for (best,) in opened.generate(source, mask, num_beams=1)],
        data.sources,
        opened.generation.pad_id,
        config.batch_tokens,
        bar,
        f"{opened.name}: outputs",
    )
    return Demonstration(teacher, data, opened, outputs)


def _score(
    run: Run, shown: Demonstration, config: ExposureConfig, bar: Bar, label: str
) -> tuple[list[list[int]], dict[str, PrefixScores]]:
    """Returns the student's greedy outputs, and the scores of the prefixes of each of ``CONTEXTS``."""
    rules, sources = run.generation.model_copy(update={"no_repeat_ngram_size": 0}), shown.data.sources
    pair = ModelPair(run.model, shown.teacher, rules)
    own = greedy_outputs(
        lambda source, mask: greedy(run.model, rules, source, mask),
        sources,
        rules.pad_id,
        config.batch_tokens,
        bar,
        f"{label}: outputs",
    )
    written = dict(zip(CONTEXTS, (shown.data.targets, shown.outputs, own), strict=True))
    return own, {
        kind: score_prefixes(pair, sources, outputs, config.batch_tokens, bar, f"{label}: contexts, {kind}")
        for kind, outputs in written.items()
    }


def _student_row(
    run: Run,
    label: str,
    shown: Demonstration,
    own: list[list[int]],
    scores: Mapping[str, PrefixScores],
    config: ExposureConfig,
) -> Row:
    recipe = run.recipe
    positions = by_position(scores, config.least_examples)
    if not positions:
        raise _too_small(config)
    return {
        "model": label,
        "student": recipe.student.architecture if recipe else None,
        "method": method_of(recipe) if recipe else run.record.method,
        "seed": recipe.training.seed if recipe else None,
        "teacher": shown.teacher.name,
        "parameters": count_parameters(run.model),
        **means_of(positions),
        **excess_intervals(scores, positions, len(own)),
        **_output_figures(shown, own, scores["own"], scores["teacher"], config),
        "positions": positions,
    }


def _teacher_row(shown: Demonstration, scores: PrefixScores, config: ExposureConfig) -> Row:
    """Returns the row of a teacher, whose divergence from itself is none."""
    return {
        "model": shown.teacher.name,
        "student": None,
        "method": TEACHER,
        "seed": None,
        "teacher": None,
        "parameters": shown.teacher.parameters,
        **dict.fromkeys((*means_of([]), "excess_ci95", "excess_over_teacher_ci95")),
        **_output_figures(shown, shown.outputs, scores, scores, config),
        "positions": [],
    }


def _output_figures(
    shown: Demonstration,
    outputs: Sequence[list[int]],
    scores: PrefixScores,
    of_teacher: PrefixScores,
    config: ExposureConfig,
) -> Row:
    """Returns the scores of outputs, over all and by length, and the shares of those that are bad in two ways."""
    data = shown.data
    texts = [shown.teacher.tokenizer.decode(tokens) for tokens in outputs]
    own, teacher = (one.mean_log_probability(len(outputs)) for one in (scores, of_teacher))
    return {
        **quality(data.task, texts, data.references),
        "repetition_rate": repetition_rate(outputs, data.sources),
        "hallucination_rate": hallucination_rate(own, teacher),
        "lengths": by_length(
            data.task, texts, data.references, data.lengths, config.length_bounds, config.least_examples
        ),
    }


def _too_small(config: ExposureConfig) -> DataError:
    return DataError(
        f"{config.source}: no position is reached by {config.least_examples} examples; give more lines, or lower "
        "{least_examples}",
        options=["least_examples"],
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    fields = ExposureConfig.model_fields
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=fields["runs"].description)
    for name in ("source", "reference"):
        text, required = fields[name].description, fields[name].is_required()
        parser.add_argument(f"--{name}", type=Path, required=required, metavar="FILE", help=text)
    parser.add_argument("--teacher", metavar="DIR", help=fields["teacher"].description)
    for name in ("examples", "least_examples", "batch_tokens", "threads"):
        text, default = fields[name].description, fields[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, metavar="N", help=text)
    bounds = fields["length_bounds"]
    parser.add_argument(
        "--length-bounds", nargs="+", type=int, default=bounds.default, metavar="N", help=bounds.description
    )
    parser.add_argument(
        "--json",
        type=Path,
        required=True,
        metavar="FILE",
        help="the result; other students' rows stay",
    )


def run(options: argparse.Namespace) -> None:
    """Measures, writes the file, and prints a line for each row; `report FILE` makes the tables and the plots."""
    given = {name: getattr(options, name) for name in ExposureConfig.model_fields}
    table = measure(validate_options(ExposureConfig, given), load(options.json) if options.json.exists() else None)
    write_json(table, options.json)
    for row in table["rows"]:
        divergence = "" if row["own_kl"] is None else f"  KL {row['reference_kl']:.3f}, own {row['own_kl']:.3f}"
        rates = f"repetition {row['repetition_rate']:6.2%}  hallucination {row['hallucination_rate']:6.2%}"
        print(f"{row['model']:<24} {row['method'] or '':<12} {rates}{divergence}")
