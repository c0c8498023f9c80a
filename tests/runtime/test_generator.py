"""Texts in, texts out: order, blank lines, limits, and independence of the batch."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compressor.decoding.search import beam_search, pad_sources
from compressor.errors import BundleError, InputError, TooLongError
from compressor.models.weights import load_run
from compressor.runtime.generator import Generator
from compressor.runtime.results import Result
from compressor.runtime.sources import SourceEncoder

TEXTS = ["Der Hund sieht den Baum.", "", "Der Baum", "  ", "den Hund sieht der Baum den Hund.", "Der Hund."]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def generator(tiny_bundle: Path, request: pytest.FixtureRequest) -> Generator:
    return Generator.load(tiny_bundle, precision=request.param, intra_threads=1)


@pytest.fixture(scope="module")
def int8(tiny_bundle: Path) -> Generator:
    return Generator.load(tiny_bundle, intra_threads=1)


def test_as_many_come_out_as_went_in_and_blank_stays_blank(generator: Generator) -> None:
    results = generator.generate(TEXTS)
    assert [bool(result.text) for result in results] == [bool(text.strip()) for text in TEXTS]
    assert results[1] == results[3] == Result("", [], 0, 0, False, "eos")
    assert generator.generate([]) == [] and generator.generate([""]) == [results[1]]


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 2}, {"batch_tokens": 1}, {"batch_tokens": 30}])
def test_the_output_does_not_depend_on_the_batch(generator: Generator, options: dict[str, int]) -> None:
    texts = TEXTS * 3
    assert generator.generate(texts, **options) == generator.generate(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("beams", [1, 3])
def test_batches_at_a_time_change_nothing(tiny_bundle: Path, beams: int) -> None:
    alone, two = (Generator.load(tiny_bundle, intra_threads=1, inter_threads=count) for count in (1, 2))
    for options in ({}, {"batch_size": 1}, {"batch_tokens": 20}):
        assert two.generate(TEXTS * 3, num_beams=beams, **options) == alone.generate(
            TEXTS * 3, num_beams=beams, **options
        )  # type: ignore[arg-type]
    with pytest.raises(InputError, match="inter_threads is 0"):
        Generator.load(tiny_bundle, inter_threads=0)


@pytest.mark.parametrize("beams", [1, 3])
def test_options_may_differ_by_text(int8: Generator, beams: int) -> None:
    texts, limits, penalties = [*TEXTS, ""], [*range(1, len(TEXTS) + 1), 5], [0.3 * i for i in range(len(TEXTS) + 1)]
    together = int8.generate(texts, num_beams=beams, max_new_tokens=limits, length_penalty=penalties)
    for text, limit, penalty, result in zip(texts, limits, penalties, together, strict=True):
        assert int8.generate([text], num_beams=beams, max_new_tokens=limit, length_penalty=penalty) == [result]
    with pytest.raises(InputError, match="max_new_tokens has 2 entries and there are"):
        int8.generate(texts, max_new_tokens=[3, 4])


def test_a_result_says_how_it_ended(int8: Generator) -> None:
    (result,) = int8.generate(["Der Hund sieht den Baum."])
    eos = int8.manifest.generation.eos_id
    assert result.finish_reason == "eos" and result.token_ids[-1] == eos
    assert result.output_tokens == len(result.token_ids)
    assert result.input_tokens == len(int8.tokenizer.encode_source("Der Hund sieht den Baum."))
    (cut,) = int8.generate(["Der Hund sieht den Baum."], max_new_tokens=2)
    forced = int8.manifest.generation.forced_eos_id
    assert cut.token_ids == [result.token_ids[0], result.token_ids[1] if forced is None else forced]
    assert cut.finish_reason == "length" and cut.text == int8.tokenizer.decode(cut.token_ids)


def test_a_source_over_the_limit(int8: Generator) -> None:
    limit = int8.manifest.max_source_tokens
    long = " ".join(["Hund"] * limit)
    tokens = len(int8.tokenizer.encode_source(long))
    with pytest.raises(
        TooLongError, match=rf"text 2 has {tokens} tokens, the limit is {limit}: .*longest_first"
    ) as error:
        int8.generate(["Hund", long])
    assert (error.value.actual, error.value.limit) == (tokens, limit)
    short, cut = int8.generate(["Hund", long], truncation="longest_first")
    assert cut.truncated and cut.input_tokens == limit and not short.truncated


def test_a_cut_source_keeps_its_end(int8: Generator) -> None:
    limit, eos = int8.manifest.max_source_tokens, int8.tokenizer.eos_id
    other = next(token for token in range(int8.manifest.vocab_size) if token != eos)
    encoder = SourceEncoder(int8.tokenizer, int8.manifest)
    ((ids, cut),) = encoder.check([[other] * (limit + 5) + [eos]], "longest_first")
    assert cut and ids == [other] * (limit - 1) + [eos]
    assert encoder.check([[other] * limit], "error") == [([other] * limit, False)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 0}, "num_beams is 0: give an integer from 1 to"),
        ({"num_beams": 10_000}, "num_beams is 10000: give an integer from 1 to"),
        ({"num_return_sequences": 2}, "num_return_sequences is 2: give 1 to num_beams, which is 1"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"no_repeat_ngram_size": True}, "no_repeat_ngram_size is True"),
        ({"length_penalty": math.nan}, "length_penalty is nan: give a number"),
        ({"early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"top_k": 5}, "unknown options: top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0: give an integer from 1 to 32"),
        ({"max_new_tokens": 10**9}, "give an integer from 1 to 32"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"batch_size": 0}, "give 1 or more"),
        ({"batch_tokens": 0}, "give 1 or more"),
        ({"truncation": "only_first"}, "truncation is 'only_first'"),
    ],
)
def test_parameters_are_checked(int8: Generator, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        int8.generate(["Der Hund."], **options)


def test_beams_give_their_best_and_its_alternatives(generator: Generator, tiny_run: Path) -> None:
    run, texts = load_run(tiny_run), ["Der Hund sieht den Baum.", "", "Der Baum"]
    results = generator.generate(texts, num_beams=4, num_return_sequences=3, length_penalty=0.7)
    assert results[1] == Result("", [], 0, 0, False, "eos")
    sources = [run.tokenizer.encode_source(text) for text in texts if text]
    rules = run.generation.model_copy(update={"length_penalty": 0.7})
    expected = beam_search(run.model, rules, *pad_sources(sources, rules.pad_id), num_beams=4, num_return=3)
    if generator.precision == "fp32":
        for result, hypotheses in zip(results[::2], expected, strict=True):
            outputs = [(result.token_ids, result.score), *((one.token_ids, one.score) for one in result.alternatives)]
            assert [tokens for tokens, _ in outputs] == [hypothesis.tokens for hypothesis in hypotheses]
            assert [score for _, score in outputs] == pytest.approx([one.score for one in hypotheses], abs=1e-4)
    alone = [generator.generate([text], num_beams=4, num_return_sequences=3, length_penalty=0.7)[0] for text in texts]
    assert [result.token_ids for result in alone] == [result.token_ids for result in results]
    (piece,) = generator.stream(texts[0], num_beams=4, length_penalty=0.7)
    assert piece == results[0].text


def test_an_output_begins_with_its_prefix(int8: Generator) -> None:
    sources = [int8.tokenizer.encode_source(text) for text in ("Der Hund sieht den Baum.", "Der Baum", "Der Hund.")]
    free = int8.generate_ids(sources)
    begun = int8.generate_ids(sources, prefixes=[free[0][:2], [], free[2][:1]])
    assert begun == free  # what it would have written anyway changes nothing
    other = free[0][1]
    assert int8.generate_ids(sources[1:2], prefixes=[[other]], num_beams=2)[0][0] == other
    for prefixes, said in (
        ([[]], "3 sources and 1 prefixes"),
        ([[10**6], [], []], "prefix 1: token id 1000000"),
        ([[], [int8.manifest.generation.eos_id], []], "prefix 2: token id"),
        ([[], [], [other] * 4], "prefix 3 has 4 tokens, and max_new_tokens is 4"),
    ):
        with pytest.raises(InputError, match=said):
            int8.generate_ids(sources, prefixes=prefixes, max_new_tokens=4)


@pytest.mark.parametrize(
    ("ids", "said"), [([[1, 2], [10**9]], "text 2: token id 1000000000"), ([[-1]], "token id -1"), ([[]], "no tokens")]
)
def test_ids_are_checked(int8: Generator, ids: list[list[int]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        int8.generate_ids(ids)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("Hund", "one string"),
        (["ok", "a\ud800b"], "text 2: no valid Unicode at character 2"),
        ([None], "not a string"),
    ],
)
def test_texts_are_checked(int8: Generator, texts: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        int8.generate(texts)


def test_precisions_and_threads_are_checked(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"precision 'fp16': this bundle has fp32, int8"):
        Generator.load(tiny_bundle, precision="fp16")
    with pytest.raises(InputError, match="intra_threads is 0"):
        Generator.load(tiny_bundle, intra_threads=0)
    with pytest.raises(BundleError, match="no such bundle"):
        Generator.load(tmp_path / "none")


def test_it_runs_without_torch(tiny_bundle: Path) -> None:
    code = """
import sys
for name in ("torch", "transformers", "onnx", "onnx_ir", "datasets"):
    sys.modules[name] = None  # an import raises ImportError
from compressor.runtime.generator import Generator
generator = Generator.load(sys.argv[1], intra_threads=1)
print(generator.generate(["Der Hund sieht den Baum."])[0].text)
assert "".join(generator.stream("Der Hund.")) == generator.generate(["Der Hund."])[0].text
"""
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr
