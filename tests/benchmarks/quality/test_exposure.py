"""The exposure bench against prefixes that are scored one by one, and its figures against sums written out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from sacrebleu import corpus_bleu, corpus_chrf

import compressor
from benchmarks.__main__ import main
from benchmarks.quality.config import ExposureConfig
from benchmarks.quality.exposure import measure
from benchmarks.quality.exposure_figures import (
    by_length,
    by_position,
    excess_intervals,
    hallucination_rate,
    means_of,
    repetition_rate,
)
from benchmarks.quality.prefix_scores import ModelPair, PrefixScores, score_prefixes
from compressor.cli.errors import EXIT_CODES
from compressor.errors import ConfigError, DataError, ModelError, VocabularyError
from compressor.models.base import Seq2SeqModel
from compressor.models.weights import Run, load_run
from compressor.progress import Bar
from compressor.teacher_config import TeacherConfig
from compressor.teachers.native import NativeTeacher

SMALL = ["student.d_model=16", "student.encoder_ffn=16", "student.decoder_ffn=16", "training.updates=40"]
EXAMPLES, LEAST = 6, 2


@pytest.fixture(scope="module")
def make_student(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``make_student(teacher, name)``: a student of a teacher that has learned little."""

    def make(teacher: Path, name: str, *overrides: str) -> Path:
        out = tmp_path_factory.mktemp("students") / name
        changes = [*SMALL, f"teacher.path={teacher}", "method.name=imitkd+full", *overrides]
        return compressor.distill(tiny_recipe, out, overrides=changes, progress=False)

    return make


@pytest.fixture(scope="module")
def student(tiny_run: Path, make_student: Callable[..., Path]) -> Path:
    return make_student(tiny_run, "student", "tokenizer.output_vocabulary=targets")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def logits_after(model: Seq2SeqModel, source: list[int], prefix: list[int]) -> np.ndarray:
    """Logits [vocab] after one prefix, in a batch of its own."""
    ids = torch.tensor([source])
    with torch.no_grad():
        return (
            model.decode(model.encode(ids, torch.ones_like(ids, dtype=torch.bool)), torch.tensor([prefix]))[0, -1]
            .numpy()
            .astype(np.float64)
        )


def greedy_by_prefix(run: Run, source: list[int]) -> list[int]:
    """The greedy output, whole prefixes decoded again at every step; EOS is forced at the limit."""
    rules, output = run.generation, list[int]()
    while len(output) < rules.max_new_tokens and output[-1:] != [rules.eos_id]:
        logits = logits_after(run.model, source, [rules.start_id, *output])
        logits[list(rules.suppressed_ids)] = -math.inf
        last = len(output) + 1 == rules.max_new_tokens and rules.forced_eos_id is not None
        output.append(rules.eos_id if last else int(logits.argmax()))
    return output


def test_figures_are_those_of_prefixes_scored_one_by_one(student: Path, tiny_run: Path, tiny_corpus: Path) -> None:
    files = {"source": tiny_corpus / "dev.de", "reference": tiny_corpus / "dev.en"}
    config = ExposureConfig(runs=(student,), examples=EXAMPLES, least_examples=LEAST, batch_tokens=60, **files)
    teacher_row, row = measure(config, progress=False)["rows"]
    pair = {"student": load_run(student), "teacher": load_run(tiny_run)}
    rules, tokenizer = pair["student"].generation, pair["student"].tokenizer
    tokens = rules.allowed_ids(pair["student"].model.config.vocab_size)
    assert len(tokens) < len(pair["teacher"].generation.allowed_ids(pair["student"].model.config.vocab_size))
    lines = {side: path.read_text().splitlines()[:EXAMPLES] for side, path in files.items()}
    sources = [tokenizer.encode_source(line) for line in lines["source"]]
    written = {
        "reference": [tokenizer.encode_target(line) for line in lines["reference"]],
        "teacher": [greedy_by_prefix(pair["teacher"], source) for source in sources],
        "own": [greedy_by_prefix(pair["student"], source) for source in sources],
    }
    at: dict[tuple[str, int], list[tuple[float, bool]]] = {}
    mean_probability: dict[str, list[float]] = {kind: [] for kind in written}
    for kind, outputs in written.items():
        for source, output in zip(sources, outputs, strict=True):
            log_probabilities = []
            for place, token in enumerate(output):
                if place + 1 == rules.max_new_tokens:
                    continue  # forced
                prefix = [rules.start_id, *output[:place]]
                logits = {name: logits_after(run.model, source, prefix) for name, run in pair.items()}
                p, q = (log_softmax(logits[name][tokens]) for name in ("teacher", "student"))
                at.setdefault((kind, place + 1), []).append(
                    (float((np.exp(p) * (p - q)).sum()), p.argmax() == q.argmax())
                )
                allowed = pair["teacher"].generation.allowed_ids(len(logits["teacher"]))
                log_probabilities.append(log_softmax(logits["teacher"][allowed])[allowed.index(token)])
            mean_probability[kind].append(float(np.mean(log_probabilities)))
    positions = [n for n in range(1, 30) if all(len(at.get((kind, n), [])) >= LEAST for kind in written)]
    assert len(positions) > 5 and [one["position"] for one in row["positions"]] == positions
    for one in row["positions"]:
        for kind in written:
            values = at[kind, one["position"]]
            assert one[kind]["examples"] == len(values)
            assert one[kind]["kl"] == pytest.approx(np.mean([kl for kl, _ in values]), rel=1e-4, abs=2e-6)
            assert one[kind]["agreement"] == pytest.approx(np.mean([same for _, same in values]), abs=1e-6)
    means = {kind: np.mean([np.mean([kl for kl, _ in at[kind, n]]) for n in positions]) for kind in written}
    assert row["last_position"] == positions[-1] and row["own_kl"] == pytest.approx(means["own"], rel=1e-4)
    assert row["excess"] == pytest.approx(means["own"] - means["reference"], rel=1e-3, abs=1e-5)
    assert row["excess_over_teacher"] == pytest.approx(means["own"] - means["teacher"], rel=1e-3, abs=1e-5)
    assert row["excess_ci95"][0] <= row["excess"] <= row["excess_ci95"][1]
    assert row["excess_share"] == pytest.approx(means["own"] / means["reference"] - 1, rel=1e-3, abs=1e-5)
    limit = np.quantile(mean_probability["teacher"], 0.01)
    assert row["hallucination_rate"] == pytest.approx(np.mean(np.array(mean_probability["own"]) < limit), abs=1e-6)
    assert teacher_row["hallucination_rate"] == pytest.approx(1 / EXAMPLES, abs=1e-6)
    for measured, kind in ((teacher_row, "teacher"), (row, "own")):
        texts = [tokenizer.decode(output) for output in written[kind]]
        assert measured["chrf"] == pytest.approx(corpus_chrf(texts, [lines["reference"]]).score, abs=1e-4)
    assert teacher_row["own_kl"] is None and teacher_row["positions"] == []


def test_a_teacher_has_no_divergence_from_itself(tiny_run: Path, tiny_corpus: Path) -> None:
    config = ExposureConfig(
        runs=(tiny_run,), teacher=str(tiny_run), source=tiny_corpus / "dev.de", reference=tiny_corpus / "dev.en",
        examples=4, least_examples=4,
    )  # fmt: skip
    teacher, row = measure(config, progress=False)["rows"]
    assert row["own_kl"] == row["reference_kl"] == row["excess"] == 0 and row["excess_share"] is None
    assert row["own_agreement"] == 1 and row["positions"]
    same = ("bleu", "chrf", "repetition_rate", "hallucination_rate", "lengths", "parameters")
    assert [row[key] for key in same] == [teacher[key] for key in same]


def test_positions_that_few_examples_reach_are_left_out() -> None:
    lengths = {"reference": [3, 2], "teacher": [3, 3], "own": [2, 3]}
    scores = {
        kind: PrefixScores(
            np.repeat([0, 1], ends),
            np.concatenate([np.arange(1, end + 1) for end in ends]),
            np.arange(sum(ends)) / 8,
            np.arange(sum(ends)) % 2 == 0,
            np.zeros(sum(ends)),
        )
        for kind, ends in lengths.items()
    }
    first, second = by_position(scores, 2)
    assert first["own"] == {"examples": 2, "kl": 0.125, "agreement": 1.0}  # 0 and 2 eighths, both even
    assert second["reference"] == {"examples": 2, "kl": 0.3125, "agreement": 0.5}  # 1 and 4 eighths
    assert [one["position"] for one in by_position(scores, 1)] == [1, 2, 3]
    assert by_position(scores, 3) == []
    means = means_of([first, second])
    # own: eighths 0, 1 and 2, 3, 4; the teacher's: 0, 1, 2 and 3, 4, 5; references': 0, 1, 2 and 3, 4
    assert means["own_kl"] == pytest.approx((1 + 2) / 8 / 2)
    assert means["excess_over_teacher"] == pytest.approx((1 + 2 - 1.5 - 2.5) / 8 / 2)
    assert means["excess"] == means["excess_over_teacher"] and means["excess_share"] == pytest.approx(-1 / 4)


def test_intervals_are_those_of_examples_drawn_with_replacement() -> None:
    rng, examples, size = np.random.default_rng(7), 40, 3
    example, position = np.repeat(np.arange(examples), size), np.tile(np.arange(1, size + 1), examples)
    shared = np.repeat(10 * rng.random(examples), size)  # hard examples are hard in all contexts
    values = {"reference": shared, "teacher": shared * 0, "own": shared + 0.5 + 0.1 * rng.random(len(shared))}
    scores = {kind: PrefixScores(example, position, one, one > 0, np.zeros(len(one))) for kind, one in values.items()}
    got = excess_intervals(scores, by_position(scores, 1), examples)
    for name, kind in (("excess_ci95", "reference"), ("excess_over_teacher_ci95", "teacher")):
        of_examples = (values["own"] - values[kind]).reshape(examples, size).mean(axis=1)
        draws = [rng.choice(of_examples, examples).mean() for _ in range(4000)]
        width = np.std(draws)
        assert got[name] == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.2 * width)
    assert got["excess_ci95"][1] - got["excess_ci95"][0] < 0.1


@pytest.mark.parametrize(
    ("output", "source", "repetitive"),
    [
        ("abcdabcdabcd", "efgh", True),  # abcd 3 times, the source's once
        ("abcdabcd", "efgh", False),  # twice
        ("abcdabcd", "efg", True),  # the source has no n-gram
        ("abcdabcdabcd", "efghefgh", False),
        ("abcxabcyabcz", "efgh", False),  # no four tokens again
        ("abc", "", False),
    ],
)
def test_repetition_is_counted_over_that_of_the_source(output: str, source: str, repetitive: bool) -> None:
    ids = [list(map(ord, text)) for text in (output, source)]
    assert repetition_rate([ids[0], [1]], [ids[1], [2]]) == (0.5 if repetitive else 0)


def test_hallucinations_are_below_the_first_percentile_of_the_teacher() -> None:
    of_teacher = -np.arange(1, 202) / 100  # the 1% quantile is the third lowest: -1.99
    assert hallucination_rate(np.array([-0.5, -1.985, -1.995, -7.0]), of_teacher) == 0.5


def test_scores_by_length_are_those_of_each_group() -> None:
    references = [f"the {'very ' * count}old man" for count in range(6)]
    texts = [text.replace("old", "young") if place % 2 else text for place, text in enumerate(references)]
    rows = by_length("translation", texts, references, [3, 4, 5, 6, 7, 8], (4, 7), 2)
    assert [(row["tokens"], row["examples"]) for row in rows] == [("≤ 4", 2), ("5-7", 3)]  # one is longer: left out
    expected = corpus_bleu(texts[2:5], [references[2:5]])
    assert rows[1]["bleu"] == pytest.approx(expected.score, abs=1e-4)


def test_command_report_and_plot(
    student: Path, tiny_run: Path, marian_folder: Path, make_student: Callable[..., Path], tiny_corpus: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    of_marian = make_student(marian_folder, "of_marian", "training.updates=2")
    out, plot = tmp_path / "exposure.json", tmp_path / "exposure.svg"
    files = ["--source", str(tiny_corpus / "dev.de"), "--reference", str(tiny_corpus / "dev.en")]
    command = ["exposure", str(student), str(of_marian), *files, "--examples", "5", "--least-examples", "2"]
    assert main([*command, "--json", str(out)]) == 0
    table = json.loads(out.read_text())
    assert [(row["model"], row["method"]) for row in table["rows"]] == [
        (tiny_run.name, "teacher"), ("student", "imitkd+full"),
        (marian_folder.name, "teacher"), ("of_marian", "imitkd+full"),
    ]  # fmt: skip
    assert table["provenance"]["command"] and table["settings"]["examples"] == 5
    assert main([*command, "--json", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == table["rows"]
    alone = ["exposure", str(student), *files, "--examples", "5", "--least-examples", "2", "--json", str(out)]
    assert main(alone) == 0  # measured again; the rows of the other one stay
    assert json.loads(out.read_text())["rows"] == table["rows"]
    capsys.readouterr()
    assert main(["report", str(out), "--plot", str(plot)]) == 0
    assert "| student | transformer | imitkd+full |" in capsys.readouterr().out
    ElementTree.parse(plot)
    assert "student, imitkd+full" in plot.read_text()


def test_students_of_one_teacher_have_one_row_of_it(student: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    shutil.copytree(student, labelled)
    recipe = yaml.safe_load((labelled / "recipe.yaml").read_text())
    recipe["teacher"] |= {"labels": "somewhere", "num_beams": 3}
    recipe["method"] = {"name": "seqkd"}
    (labelled / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    files = {"source": tiny_corpus / "dev.de", "reference": tiny_corpus / "dev.en"}
    config = ExposureConfig(runs=(student, labelled), examples=EXAMPLES, least_examples=LEAST, **files)
    rows = measure(config, progress=False)["rows"]
    assert [row["method"] for row in rows] == ["teacher", "imitkd+full", "seqkd"]


def test_mistakes_are_one_line(
    student: Path, tiny_run: Path, marian_folder: Path, tiny_corpus: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    files = ["--source", str(tiny_corpus / "dev.de"), "--reference", str(tiny_corpus / "dev.en")]
    ending = [*files, "--json", str(tmp_path / "out.json"), "--examples", "3"]
    for arguments, error, message in [
        (
            [str(tiny_run)],
            DataError,
            "no position is reached by 30 examples; give more lines, or lower --least-example",
        ),
        ([str(tiny_run), "--least-examples", "1"], ConfigError, "its recipe names no teacher; give --teacher"),
        ([str(student), "--least-examples", "1", "--teacher", str(marian_folder)], VocabularyError, "vocabularies"),
    ]:
        assert main(["exposure", *arguments, *ending]) == EXIT_CODES[error]
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
    (tmp_path / "out.json").write_text('{"settings": {}, "rows": []}')
    assert main(["exposure", str(student), "--least-examples", "1", *ending]) == EXIT_CODES[ConfigError]
    assert "--json: its rows are of other settings" in capsys.readouterr().err


def test_models_that_do_not_fit_or_are_damaged_are_refused(tiny_run: Path) -> None:
    run, teacher = load_run(tiny_run), NativeTeacher(TeacherConfig(path=str(tiny_run)))
    with pytest.raises(ConfigError, match=rf"read different contexts \(start_id {run.generation.start_id} and 5\)"):
        ModelPair(run.model, teacher, run.generation.model_copy(update={"start_id": 5}))
    with torch.no_grad():
        run.model.output_bias[7] = math.nan
    bar = Bar(Console(quiet=True), shown=False)
    with pytest.raises(ModelError, match="its output has NaN"):
        score_prefixes(ModelPair(run.model, teacher, run.generation), [[5, 2]], [[6, 2]], 100, bar, "contexts")
