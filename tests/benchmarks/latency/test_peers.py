"""Every engine at its best setting, cell by cell: engines pretend, so all times are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.engines.base import EngineSpec
from benchmarks.engines.process import EngineStopped, Info, Reply
from benchmarks.engines.random_model import Shape, random_run, random_texts
from benchmarks.latency import peers
from benchmarks.latency.grid import Hosts, Setting
from benchmarks.latency.peers import KEYS, Model, measure_cell, measure_factors, measure_model
from benchmarks.latency.peers import complete as with_speedup
from benchmarks.latency.tuning import Effort, settings
from benchmarks.reports.peers import by_cell, factors, markdown, ratio
from compressor.errors import ModelError

EFFORT = Effort(rounds=3, turn_s=0.0, pause_s=0.0)
SPECS = [
    EngineSpec(engine="onnx", model="student", path="bundle", precision="int8"),
    EngineSpec(engine="onnx", model="student", path="bundle", precision="fp32"),
    EngineSpec(engine="ctranslate2", model="student", path="run", precision="int8"),
    EngineSpec(engine="transformers", model="student", path="run"),
]
SECONDS = {
    "onnx int8+shortlist": 0.0005,
    "onnx int8": 0.001,
    "onnx fp32": 0.002,
    "ctranslate2 int8": 0.003,
    "ctranslate2 fp32": 0.006,
    "transformers fp32": 0.050,
}
TOKENS = dict.fromkeys(SECONDS, 10) | {"onnx int8+shortlist": 9, "onnx int8": 9}
TOKENS |= {"ctranslate2 int8": 11, "ctranslate2 fp32": 11}


class Pretender:
    """A sentence takes its time; threads inside an operator make it 1.5 times as fast, two batches at a time twice."""

    def __init__(self, spec: EngineSpec, threads: int, log: list[tuple[str, int, int, dict[str, int]]]) -> None:
        self.spec, self.threads, self.log, self.closed = spec, threads, log, False
        self.info = Info(parameters=7, size_mb=1.5, max_num_beams=None, load_s=0.25)
        self.name = f"{spec.engine} {spec.precision}"

    def translate(self, texts: Sequence[str], num_beams: int, **options: int) -> Reply:
        self.log.append((self.name, self.threads, self.spec.inter_threads, options))
        speed = {1: 1.0, 2: 1.5}[self.threads] * self.spec.inter_threads
        if options.get("max_batch_size") == 8:
            speed *= 1.25
        return Reply(len(texts) * num_beams * SECONDS[self.name] / speed, list(texts), [TOKENS[self.name]] * len(texts))

    def reset_peak(self) -> None: ...

    def memory_mb(self) -> float:
        return 12.0

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def log() -> list[tuple[str, int, int, dict[str, int]]]:
    return []


@pytest.fixture
def model() -> Model:
    texts = [f"text {index}" for index in range(64)]
    return Model("6+2-256", SPECS, {"random": texts}, lambda text: 24, {})


def test_what_is_tried_depends_on_the_engine_and_the_batch() -> None:
    assert settings("onnx", 1, 2) == [Setting(1, 1, None), Setting(2, 1, None)]
    assert settings("ctranslate2", 8, 2) == [Setting(1, 1, None), Setting(2, 1, None), Setting(1, 2, 4)]
    assert settings("onnx", 32, 2)[2:] == [Setting(1, 2, 4), Setting(1, 2, 8), Setting(1, 2, 16)]
    assert settings("transformers", 32, 2) == [Setting(1, 1, None), Setting(2, 1, None)]
    assert settings("marian", 8, 2) == [Setting(1, 1, None), Setting(1, 2, 4)]
    assert settings("onnx", 32, 1) == [Setting(1, 1, None)]
    assert settings("onnx", 32, 16)[2:] == [Setting(1, 16, 1), Setting(1, 16, 2)]


def test_each_engine_is_measured_at_its_fastest_setting(model: Model, log: list[Any]) -> None:
    with Hosts(lambda spec, threads: Pretender(spec, threads, log)) as hosts:
        rows = measure_cell(model, "random", 32, 5, hosts, EFFORT, 2)
    chosen = {row["engine"]: (row["intra_threads"], row["inter_threads"], row["max_batch_size"]) for row in rows}
    assert chosen == {"onnx": (1, 2, 8), "ctranslate2": (1, 2, 8), "transformers": (2, 1, None)}
    packed, exact, rival, slow = with_speedup(rows)
    assert list(packed) == [*dict.fromkeys(KEYS)]
    assert packed["p50_ms"] == packed["p99_ms"] == 64.0  # 160 beams of 1 ms, 2.5 times as fast
    assert packed["sentences_per_s"] == 500.0
    assert packed["tokens_per_s"] == 5000.0  # the fp32 tokens count, for everyone
    assert (packed["length_drift"], exact["length_drift"], rival["length_drift"]) == (-0.1, 0.0, 0.1)
    assert packed["target_tokens"] == 10.0 and packed["source_tokens"] == 24
    assert slow["speedup"] == 1.0 and packed["speedup"] == pytest.approx(5333.3333 / 64.0, abs=0.01)
    assert (packed["load_s"], packed["memory_mb"], packed["shortlist"]) == (0.25, 12.0, False)
    assert ratio(by_cell(rows)["6+2-256", "random", 32, 5], ("ctranslate2", "int8")) == pytest.approx(3.0, abs=1e-3)


def test_an_output_that_is_not_as_long_as_it_must_be_is_an_error(model: Model, log: list[Any]) -> None:
    specs = [SPECS[0].model_copy(update={"max_new_tokens": limit}) for limit in (9, 10)]
    with Hosts(lambda spec, threads: Pretender(spec, threads, log)) as hosts:
        assert measure_cell(model._replace(specs=specs[:1]), "random", 8, 1, hosts, EFFORT, 1)
        with pytest.raises(ModelError, match="student onnx int8 wrote 576 tokens for 64 texts, not 10 for each"):
            measure_cell(model._replace(specs=specs[1:]), "random", 8, 1, hosts, EFFORT, 1)


def test_a_shortlist_is_a_row_of_its_own_and_not_in_the_headline(model: Model, log: list[Any]) -> None:
    specs = [*SPECS, SPECS[0].model_copy(update={"precision": "int8+shortlist"})]
    with Hosts(lambda spec, threads: Pretender(spec, threads, log)) as hosts:
        rows = measure_cell(model._replace(specs=specs), "random", 1, 1, hosts, EFFORT, 1)
    assert [(row["engine"], row["precision"], row["shortlist"]) for row in rows if row["engine"] == "onnx"] == [
        ("onnx", "int8", False),
        ("onnx", "fp32", False),
        ("onnx", "int8", True),
    ]
    text = markdown({"rows": [row | {"bleu": None} for row in rows]})
    assert "| 6+2-256 | random | 1 | 1 | 10,000 | 3.00 | – |" in text
    assert "| 6+2-256 | random | 1 | 1 | 10,000 | 0.50 | – | 2.00 |" in text
    assert "3.00 times as fast in the geometric mean of 1 settings" in text


def test_engines_take_turns_and_slow_ones_stop_early(model: Model, log: list[Any]) -> None:
    with Hosts(lambda spec, threads: Pretender(spec, threads, log)) as hosts:
        measure_cell(model, "random", 64, 1, hosts, EFFORT._replace(longest_s=2.0), 1)
    names = ["onnx int8", "onnx fp32", "ctranslate2 int8"]
    tried = [name for name in names for _ in range(1 + 3)]  # the first allocates
    tried += ["transformers fp32"]  # 3.2 s a call: one is enough
    order = [name for name, *_ in log]
    assert order == [*tried, *names, "transformers fp32", *names, *names]


def test_a_peer_that_stops_is_left_out_and_ours_is_not(model: Model, log: list[Any]) -> None:
    def stopping(name: str) -> list[list[str]]:
        class Stopping(Pretender):
            def translate(self, texts: Sequence[str], num_beams: int, **options: int) -> Reply:
                if self.name == name and len(texts) > 8:
                    raise EngineStopped(f"engine {name} stopped")
                return super().translate(texts, num_beams, **options)

        with Hosts(lambda spec, threads: Stopping(spec, threads, log)) as hosts:
            cells = [measure_cell(model, "random", size, 1, hosts, EFFORT, 1) for size in (8, 32)]
        return [[f"{row['engine']} {row['precision']}" for row in rows] for rows in cells]

    everyone = ["onnx int8", "onnx fp32", "ctranslate2 int8", "transformers fp32"]
    assert stopping("transformers fp32") == [everyone, everyone[:3]]
    with pytest.raises(EngineStopped):
        stopping("onnx int8")


def test_hosts_are_shared_among_cells_and_closed(model: Model, log: list[Any]) -> None:
    opened: list[Pretender] = []

    def connect(spec: EngineSpec, threads: int) -> Pretender:
        opened.append(Pretender(spec, threads, log))
        return opened[-1]

    cell = {"shape": "6+2-256", "data": "random", "signature": None, "p50_ms": 1.0}
    known = [cell | {"batch_size": size, "num_beams": beams} for size in (8, 32, 64) for beams in (1, 5)]
    cells = list(measure_model(model, known, connect, EFFORT, 2, quick=False))
    assert [(rows[0]["batch_size"], rows[0]["num_beams"]) for rows in cells] == [(1, 1), (1, 5)]
    searches = {spec.name: 2 if spec.engine == "onnx" else 1 for spec in SPECS}  # ours holds one search at a time
    assert len(opened) == 2 * sum(searches.values()) and all(host.closed for host in opened)


def test_who_was_too_slow_is_left_out_when_a_run_goes_on(model: Model, log: list[Any]) -> None:
    connect = lambda spec, threads: Pretender(spec, threads, log)  # noqa: E731
    first, *_ = measure_model(model, [], connect, EFFORT, 1, quick=True)
    known = [row | {"signature": None, "p50_ms": row["p50_ms"] * 400} for row in first]  # `generate`: 20 s
    rest = [row for cell_rows in measure_model(model, known, connect, EFFORT, 1, quick=True) for row in cell_rows]
    assert {row["engine"] for row in first} - {row["engine"] for row in rest} == {"transformers"}


def test_quality_is_measured_once_for_all_cells_of_a_test_set(model: Model, log: list[Any]) -> None:
    texts, scored = [f"this is text number {index}" for index in range(70)], {"onnx": 100.0, "ctranslate2": 100.0}
    model = model._replace(texts={"tatoeba": texts}, references={"tatoeba": texts})
    connect = lambda spec, threads: Pretender(spec, threads, log)  # noqa: E731
    rows = [row for cell_rows in measure_model(model, [], connect, EFFORT, 1, quick=False) for row in cell_rows]
    assert {row["engine"]: row.get("bleu") for row in rows} == {**scored, "transformers": None}
    before = len(log)
    known = [row for row in with_speedup(rows) if row["batch_size"] < 64]
    again = [row for cell_rows in measure_model(model, known, connect, EFFORT, 1, quick=False) for row in cell_rows]
    assert {row["engine"]: row.get("bleu") for row in again} == {**scored, "transformers": None}
    assert len(log) - before < before / 2  # no test set was translated again


def test_the_student_takes_turns_with_its_searching_teacher(model: Model, log: list[Any]) -> None:
    teachers = [SPECS[2].model_copy(update={"model": "teacher", "precision": name}) for name in ("fp32", "int8")]
    texts = [f"this is text number {index}" for index in range(70)]
    model = Model("de-en", [*SPECS, *teachers], {"tatoeba": texts}, len, {"tatoeba": texts})
    connect = lambda spec, threads: Pretender(spec, threads, log)  # noqa: E731
    known = [{"shape": "de-en", "data": "tatoeba", "model": "student", "engine": "onnx", "precision": "int8",
              "num_beams": 1, "bleu": 41.7, "chrf": 57.2, "rouge_l": None, "signature": "S"},
             {"shape": "de-en", "data": "tatoeba", "model": "teacher", "engine": "ctranslate2", "precision": "fp32",
              "num_beams": 5, "bleu": 46.2, "chrf": 61.4, "rouge_l": None, "signature": "S"}]  # fmt: skip
    rows = measure_factors(model, [], known, connect, EFFORT, 2)
    names = [(row["model"], row["engine"], row["precision"], row["batch_size"], row["num_beams"]) for row in rows]
    assert names == [
        ("student", "onnx", "int8", 1, 1),
        ("teacher", "ctranslate2", "fp32", 1, 5),
        ("teacher", "ctranslate2", "int8", 1, 5),
    ]
    assert [row["p50_ms"] for row in rows] == pytest.approx([1 / 1.5, 5 * 6 / 1.5, 5 * 3 / 1.5], abs=1e-3)
    assert [row["bleu"] for row in rows] == [41.7, 46.2, None]
    turns = [name for name, *_ in log[-3 * 32 * 3 :: 32]]  # three rounds of 32 sentences
    assert turns == ["onnx int8", "ctranslate2 fp32", "ctranslate2 int8"] * 3
    (line,) = factors(rows)
    assert "30.0 times as many" in line and "15.0 times as in CTranslate2 int8 (41.7 BLEU; teacher 46.2)" in line
    assert measure_factors(model, rows, known, connect, EFFORT, 2) == []
    assert measure_factors(model._replace(specs=SPECS), [], known, connect, EFFORT, 2) == []  # no teacher


def test_a_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any], model: Model
) -> None:
    monkeypatch.setattr(
        peers, "ConvertingConnector", lambda folder: lambda spec, threads: Pretender(spec, threads, log)
    )
    monkeypatch.setattr(peers, "random_model", lambda name, folder, engines: model)
    monkeypatch.setattr(peers, "QUICK", EFFORT)
    out = tmp_path / "peers.json"
    arguments = ["--json", str(out), "--shapes", "6+2-256", "--work", str(tmp_path), "--quick"]
    assert main(["peers", *arguments]) == 0
    table = json.loads(out.read_text())
    assert len(table["rows"]) == 4 * len(SPECS) and table["provenance"]["peers"]["quick"]
    log.clear()
    assert main(["peers", *arguments]) == 0
    assert log == [] and json.loads(out.read_text())["rows"] == table["rows"]
    assert main(["peers", *arguments[:-1]]) == 2  # what was measured in a hurry is not taken for the rest
    table["rows"] = [row for row in table["rows"] if row["batch_size"] == 1]
    table["provenance"]["peers"]["remarks"] = ["a remark"]
    out.write_text(json.dumps(table))
    assert main(["peers", *arguments]) == 0
    again = json.loads(out.read_text())
    assert table["provenance"].pop("earlier") == []
    assert len(again["rows"]) == 4 * len(SPECS) and again["provenance"]["earlier"] == [table["provenance"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "big"], "shapes: big: choose from 6+2-256, 6+6-512, or none"),
        (["--peers", "fairseq"], "peers: fairseq: choose from ctranslate2"),
        (["--run", "somewhere"], "--run, --bundle and --test go together"),
        (
            ["--run", "somewhere", "--bundle", "there", "--test", "tatoeba"],
            "--test tatoeba: give NAME=SOURCE,REFERENCE",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["peers", "--json", str(tmp_path / "x.json"), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_the_table_marks_what_is_lost() -> None:
    cell = {"shape": "s", "data": "d", "batch_size": 1, "num_beams": 1, "model": "student", "bleu": None}
    rows = [
        cell | {"engine": "onnx", "precision": "int8", "tokens_per_s": 1200.0, "memory_mb": 30.0},
        cell | {"engine": "ctranslate2", "precision": "int8", "tokens_per_s": 1000.0, "memory_mb": 20.0},
        cell | {"engine": "ctranslate2", "precision": "fp32", "tokens_per_s": 1500.0, "memory_mb": 20.0},
    ]
    rows += [
        row | {"batch_size": 8, "tokens_per_s": row["tokens_per_s"] / divisor}
        for row, divisor in zip(rows, (2, 1, 3), strict=True)
    ]
    text = markdown({"rows": rows})
    assert "| s | d | 1 | 1 | 1,200 | 1.20 | **0.80** | – | – | – | – | – |" in text
    assert "| s | d | 8 | 1 | 600 | **0.60** | 1.20 | – | – | – | – | – |" in text
    assert "0.85 times as fast in the geometric mean of 2 settings, 0.60 to 1.20; slower in 1 of them." in text
    assert "Memory: 1.5 to 1.5 times that of CTranslate2 int8; more in 2 of 2." in text


def test_random_weights_write_as_much_as_they_may_and_texts_are_as_long_as_they_should() -> None:
    from compressor.decoding.search import beam_search, greedy, pad_sources

    run = random_run(Shape(1, 1, 16, 32, 2, 80), max_length=32)
    texts = random_texts(80, 5, 9)
    ids = [run.tokenizer.encode_source(text) for text in texts]
    assert {len(row) for row in ids} == {9} and len(set(texts)) == 5
    assert [run.tokenizer.decode(row) for row in ids] == texts
    source, mask = pad_sources(ids, run.generation.pad_id)
    outputs = greedy(run.model, run.generation, source, mask, 7)
    outputs += [
        hypotheses[0].tokens
        for hypotheses in beam_search(run.model, run.generation, source, mask, num_beams=3, max_new_tokens=7)
    ]
    assert {len(output) for output in outputs} == {7} and {output[-1] for output in outputs} == {0}
    assert not {0, 79} & {token for output in outputs for token in output[:-1]}
