"""The native contract, with an engine that upper-cases; a word is a token, and so is the end of sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from compressor.errors import InputError


def test_one_text_gives_one_output(server: Any) -> None:
    answer = server.translate("guten tag", source="de", target="en")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": answer.headers["x-request-id"],
        "model": "echo",
        "outputs": [
            {
                "index": 0,
                "text": "GUTEN TAG",
                "input_tokens": 3,
                "output_tokens": 3,
                "truncated": False,
                "finish_reason": "eos",
                "length_stops": 0,
                "repetition_stops": 0,
            }
        ],
        "usage": {"input_tokens": 3, "output_tokens": 3},
    }


def test_outputs_are_in_input_order_and_usage_is_their_sum(server: Any) -> None:
    answer = server.translate(["a b c", "d", "e f"]).json()
    assert [output["text"] for output in answer["outputs"]] == ["A B C", "D", "E F"]
    assert [output["index"] for output in answer["outputs"]] == [0, 1, 2]
    assert answer["usage"] == {"input_tokens": 4 + 2 + 3, "output_tokens": 4 + 2 + 3}


def test_all_fields_are_accepted_together(server: Any) -> None:
    limits = {"max_new_tokens": 6, "min_new_tokens": 2}
    parameters = {"num_beams": 4, **limits, "no_repeat_ngram_size": 3, "length_penalty": 0.6}
    answer = server.translate(
        ["a b c d e f"],
        source="DE",
        target="en",
        model="echo",
        format="text",
        split="none",
        truncation="longest_first",
        parameters=parameters,
        timeout_ms=5000,
        stream=False,
    )
    assert answer.status_code == 200
    (output,) = answer.json()["outputs"]
    assert (output["text"], output["finish_reason"]) == ("A B C D E F", "length")
    assert server.engine.options == parameters


def test_the_default_output_limit_is_the_models(server: Any) -> None:
    (output,) = server.translate("a b c d e f").json()["outputs"]
    assert (output["text"], output["output_tokens"], output["finish_reason"]) == ("A B C D", 4, "length")


def test_a_loop_is_named_as_the_reason(server: Any) -> None:
    loop, whole = server.translate(["a b c loop", "a b"]).json()["outputs"]
    assert (loop["text"], loop["finish_reason"], whole["finish_reason"]) == ("A B", "repetition", "eos")


def test_the_limit_of_a_source_is_a_default(start: Any, make_engine: Any) -> None:
    engine = make_engine()
    engine.manifest.default_max_new_tokens = lambda source_tokens, min_new_tokens: source_tokens - 2  # here 3
    (by_default,) = start({"echo": engine}).translate("a b c d").json()["outputs"]
    (asked,) = start({"echo": engine}).translate("a b c d", parameters={"max_new_tokens": 5}).json()["outputs"]
    assert (by_default["text"], by_default["finish_reason"]) == ("A B C", "length")
    assert (asked["text"], asked["finish_reason"]) == ("A B C D", "eos")


def test_the_default_limit_knows_the_shortest_output_that_was_asked_for(start: Any, make_engine: Any) -> None:
    engine = make_engine()
    engine.manifest.default_max_new_tokens = lambda source_tokens, min_new_tokens: 2 if min_new_tokens is None else 6
    server = start({"echo": engine})
    outputs = [server.translate("a b c", parameters=one).json()["outputs"][0] for one in ({}, {"min_new_tokens": 3})]
    assert [output["text"] for output in outputs] == ["A B", "A B C"]


def test_outputs_are_counted_by_the_reason_of_their_end(start: Any) -> None:
    server = start()
    server.translate(["a", "b", "a b c d e f", "a b loop"])
    server.translate(["a", "a b loop"], stream=True).read()
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    counts = {
        reason: float(lines[f'compress_outputs_total{{finish_reason="{reason}",model="echo"}}'])
        for reason in ("eos", "length", "repetition")
    }
    assert counts == {"eos": 3, "length": 1, "repetition": 2}


def test_html_keeps_its_markup_and_counts_its_text_alone(server: Any) -> None:
    html = "<h1>ein <i>hund</i></h1>\n<p class=a>zwei katzen<br>und <b>drei</b></p>"
    outputs = server.translate([html, "<img src=ein>"], format="html").json()["outputs"]
    expected = "<h1>EIN <i>HUND</i></h1>\n<p class=a>ZWEI KATZEN<br>UND <b>DREI</b></p>"
    assert [output["text"] for output in outputs] == [expected, "<img src=ein>"]
    assert [output["input_tokens"] for output in outputs] == [3 + 3 + 3, 0]


def test_a_sentence_of_html_over_the_limit_is_named_by_its_text(server: Any) -> None:
    over = "<p>" + " ".join(f"<b>{letter}</b>" for letter in "abcdefghi") + "</p>"
    mistakes = server.translate(["<p>a</p>", over], format="html").json()["errors"]
    assert [mistake["pointer"] for mistake in mistakes] == ["/inputs/1"]
    cut = server.translate(over, format="html", truncation="longest_first").json()["outputs"][0]
    assert cut["truncated"] is True and cut["text"].count("<b>") == 9


def test_html_whose_phrases_cannot_be_read_alone_is_translated_without_them(start: Any, make_engine: Any) -> None:
    engine = make_engine()
    encode = engine.encode

    def with_language(texts: Sequence[str], truncation: Any) -> Any:  # as a Marian model of several languages
        for index, text in enumerate(texts):
            if not text.startswith(">>fra<<"):
                raise InputError("has no target language", index=index)
        return encode(texts, truncation)

    server = start({"echo": engine})
    engine.encode = with_language  # after the warm-up
    answer = server.translate(">>fra<< ein <b>hund</b>", format="html")
    assert answer.status_code == 200 and "<b>HUND</b>" in answer.json()["outputs"][0]["text"]
    assert server.translate("ein <b>hund</b>", format="html").json()["errors"][0]["pointer"] == "/inputs/0"


def test_a_summary_of_html_is_refused(start: Any, make_engine: Any) -> None:
    server = start({"news": make_engine("summarization", None, None)})
    answer = server.client.post("/v1/summarize", json={"inputs": "<p>a</p>", "format": "html"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/format")


def test_a_text_over_the_source_limit_is_refused_or_truncated(server: Any) -> None:
    exactly, over = " ".join("abcdefgh"), " ".join("abcdefghi")  # 9 and 10 tokens with the end of sentence; limit 9
    assert server.translate(exactly).json()["outputs"][0]["truncated"] is False
    refused = server.translate(["fine", over])
    assert refused.status_code == 422
    (mistake,) = refused.json()["errors"]
    assert mistake["pointer"] == "/inputs/1"
    assert "10 tokens" in mistake["message"] and "limit is 9" in mistake["message"]
    assert server.translate(over, truncation="longest_first").json()["outputs"][0]["truncated"] is True


REFUSED = [
    ({"format": "html", "split": "none"}, "/split", "html is read by sentences"),
    ({"format": "html", "stream": True}, "/stream", "html comes as a whole"),
    ({"format": "pdf"}, "/format", "'text' or 'html'"),
    ({"split": "words"}, "/split", "'sentences' or 'none'"),
    ({"truncation": "only_first"}, "/truncation", "'error', 'longest_first' or 'split'"),
    ({"parameters": {"num_beams": 10000}}, "/parameters/num_beams", "is 10000, the limit is 4"),
    ({"parameters": {"num_beams": 0}}, "/parameters/num_beams", "greater than or equal to 1"),
    ({"parameters": {"max_new_tokens": 10**9}}, "/parameters/max_new_tokens", "is 1000000000, the limit is 6"),
    ({"parameters": {"max_new_tokens": 1.5}}, "/parameters/max_new_tokens", "integer"),
    ({"parameters": {"max_new_tokens": True}}, "/parameters/max_new_tokens", "integer"),
    ({"parameters": {"min_new_tokens": 7}}, "/parameters/min_new_tokens", "is 7, the limit is 6"),
    ({"parameters": {"min_new_tokens": -1}}, "/parameters/min_new_tokens", "greater than or equal to 0"),
    ({"parameters": {"no_repeat_ngram_size": 7}}, "/parameters/no_repeat_ngram_size", "is 7, the limit is 6"),
    ({"parameters": {"no_repeat_ngram_size": "2"}}, "/parameters/no_repeat_ngram_size", "integer"),
    ({"parameters": {"length_penalty": 1000}}, "/parameters/length_penalty", "less than or equal to 100"),
    ({"parameters": {"top_k": 5}}, "/parameters", "'top_k' is not known"),
    ({"parameters": [1]}, "/parameters", "valid dictionary"),
    ({"timeout_ms": 0}, "/timeout_ms", "greater than or equal to 1"),
    ({"timeout_ms": 10**9}, "/timeout_ms", "the limit is 300000"),
    ({"stream": "yes"}, "/stream", "boolean"),
    ({"source": "xx"}, "/source", "pairs are de-en"),
    ({"source": "de", "target": "xx"}, "/target", "pairs are de-en"),
    ({"model": 3}, "/model", "string"),
    ({"sorce": "de"}, "", "'sorce' is not known"),
    ({"inputs": []}, "/inputs", "empty list"),
    ({"inputs": None}, "/inputs", "a string or a list of strings"),
    ({"inputs": 7}, "/inputs", "a string or a list of strings"),
    ({"inputs": {"a": 1}}, "/inputs", "a string or a list of strings"),
    ({"inputs": ["a", 7]}, "/inputs/1", "string"),
    ({"inputs": ""}, "/inputs/0", "empty text"),
    ({"inputs": ["a", " \n"]}, "/inputs/1", "empty text"),
    ({"inputs": ["a"] * 65}, "/inputs", "has 65 texts, the limit is 64"),
]


@pytest.mark.parametrize(("fields", "pointer", "message"), REFUSED, ids=[str(fields)[:40] for fields, _, _ in REFUSED])
def test_an_unsupported_value_is_a_422_with_a_pointer(
    server: Any, fields: dict[str, Any], pointer: str, message: str
) -> None:
    answer = server.client.post("/v1/translate", json={"inputs": "geheim", **fields})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert [mistake["pointer"] for mistake in body["errors"]] == [pointer]
    assert message in body["errors"][0]["message"]
    assert "geheim" not in answer.text


def test_all_mistakes_are_reported_at_once(server: Any) -> None:
    fields = {"format": "html", "split": "none", "parameters": {"num_beams": 5, "max_new_tokens": 99}}
    answer = server.translate(["a", ""], **fields)
    pointers = {mistake["pointer"] for mistake in answer.json()["errors"]}
    assert pointers == {"/split", "/parameters/num_beams", "/parameters/max_new_tokens", "/inputs/1"}


def test_an_unknown_model_is_a_404(server: Any) -> None:
    for name in ("nobody", "../../etc/passwd", "", "x" * 5000, "\x00"):
        answer = server.translate("a", model=name)
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith(": echo")
        assert name == "" or name not in answer.text


def test_a_text_as_a_key_is_not_repeated(server: Any) -> None:
    answer = server.post(b'{"inputs": "a", "my secret text": 1}')
    assert answer.status_code == 422
    assert "secret" not in answer.text


def test_a_model_is_selected_by_name_task_or_languages(start: Any, make_engine: Any) -> None:
    several = start(
        {
            "de-en": make_engine(),
            "de-en-fp32": make_engine(),
            "en-de": make_engine("translation", "en", "de"),
            "news": make_engine("summarization", None, None),
        }
    )
    chosen = {
        ("de", "en", None): "de-en",
        ("en", "de", None): "en-de",
        ("de", None, None): "de-en",
        (None, "de", None): "en-de",
        (None, None, "de-en-fp32"): "de-en-fp32",
    }
    for (source, target, model), name in chosen.items():
        assert several.translate("a", source=source, target=target, model=model).json()["model"] == name
    ambiguous = several.translate("a")
    assert (ambiguous.status_code, ambiguous.json()["errors"][0]["pointer"]) == (422, "/source")
    assert several.translate("a", model="news").json()["errors"][0]["pointer"] == "/model"
    assert several.translate("a", source="de", target="en", model="en-de").status_code == 422
    summary = several.client.post("/v1/summarize", json={"inputs": "a b", "model": "news"})
    assert (summary.json()["model"], summary.json()["outputs"][0]["text"]) == ("news", "A B")
    assert several.client.post("/v1/summarize", json={"inputs": "a", "source": "de"}).status_code == 422
    assert [model["id"] for model in several.client.get("/v1/models").json()["models"]] == list(several.engines)


def test_models_lists_languages_and_limits(server: Any) -> None:
    assert server.client.get("/v1/models").json() == {
        "models": [
            {
                "id": "echo",
                "task": "translation",
                "source": "de",
                "target": "en",
                "precision": "int8",
                "max_source_tokens": 9,
                "max_new_tokens": 6,
                "max_num_beams": 4,
                "max_items": 64,
            }
        ]
    }


def test_a_task_that_is_not_served_is_a_422(server: Any) -> None:
    answer = server.client.post("/v1/summarize", json={"inputs": "a"})
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (422, "only translation is served")


def test_unusual_characters_are_accepted(server: Any) -> None:
    read = {"a\x00b": "AB", "\u202eabc\u202c": "ABC"}  # what nobody sees is not read
    for text in (*read, "\U0001f469\u200d\U0001f469\u200d\U0001f467", "e\u0301", "x" * 100_000):
        answer = server.translate(text)
        assert answer.status_code == 200
        assert answer.json()["outputs"][0]["text"] == read.get(text, text.upper())


def test_limits_come_from_the_settings(start: Any) -> None:
    strict = start(max_items=2, max_new_tokens=3, max_timeout_ms=100, timeout_ms=100)
    assert "limit is 2" in strict.translate(["a"] * 3).text
    assert "limit is 3" in strict.translate("a", parameters={"max_new_tokens": 4}).text
    assert "limit is 100" in strict.translate("a", timeout_ms=101).text
    assert strict.translate("a b c d").json()["outputs"][0]["output_tokens"] == 3
