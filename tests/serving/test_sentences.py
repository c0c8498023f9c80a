"""Texts of several sentences over HTTP, with an engine that upper-cases; a word is a token, and so is the end."""

from __future__ import annotations

import json
from typing import Any

import pytest


def deltas(answer: Any) -> list[tuple[int, str]]:
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    return [(event["index"], event["delta"]) for event in events if "delta" in event]


def test_a_text_is_read_by_sentences_and_put_together(start: Any) -> None:
    fresh = start()
    text = "# Titel\r\n\r\n  - Guten Tag. Wie geht's?\n  - 18,10 €\n"
    answer = fresh.translate([text, "42 %s"]).json()
    assert fresh.engine.seen == ["1", "Titel", "Guten Tag.", "Wie geht's?"]
    first, second = answer["outputs"]
    assert first["text"] == "# TITEL\r\n\r\n  - GUTEN TAG. WIE GEHT'S?\n  - 18,10 €\n"
    assert (first["input_tokens"], first["output_tokens"], first["finish_reason"]) == (2 + 3 + 3, 2 + 3 + 3, "eos")
    assert (second["text"], second["input_tokens"], second["truncated"]) == ("42 %s", 0, False)
    assert answer["usage"] == {"input_tokens": 8, "output_tokens": 8}


def test_a_text_is_read_whole_if_asked(start: Any) -> None:
    fresh = start()
    (output,) = fresh.translate("Ja. Nein.\n Gut.", split="none").json()["outputs"]
    assert output["text"] == "JA. NEIN. GUT." and fresh.engine.seen == ["1", "Ja. Nein. Gut."]


def test_summaries_are_of_whole_texts_by_default(start: Any, make_engine: Any) -> None:
    fresh = start({"titles": make_engine("summarization", None, None)})
    answer = fresh.client.post("/v1/summarize", json={"inputs": "Ja.\nNein."})
    assert answer.json()["outputs"][0]["text"] == "JA. NEIN."
    answer = fresh.client.post("/v1/summarize", json={"inputs": "Ja.\nNein.", "split": "sentences"})
    assert answer.json()["outputs"][0]["text"] == "JA.\nNEIN."


def test_signs_of_markdown_are_placed_by_translations_of_their_words(start: Any) -> None:
    fresh = start()
    text = "Das **ist** gut. Das *ist* `x`."
    answer = fresh.translate(text).json()
    assert fresh.engine.seen == ["1", "ist", "Das ist gut.", "Das ist `X1`."]
    assert answer["outputs"][0]["text"] == "DAS **IST** GUT. DAS *IST* `x`."
    assert answer["usage"]["input_tokens"] == 4 + 4  # of the sentences
    stream = fresh.translate(text, stream=True)
    assert deltas(stream) == [(0, "DAS **IST** GUT."), (0, " DAS *IST* `x`.")]


LONG = "Eins zwei drei vier fünf, sechs sieben acht neun zehn."


def test_a_text_ends_as_its_worst_sentence_and_is_truncated_with_one(server: Any) -> None:
    (output,) = server.translate("Ja. Eins zwei drei vier fünf.").json()["outputs"]
    assert (output["text"], output["finish_reason"]) == ("JA. EINS ZWEI DREI VIER", "length")
    assert output["truncated"] is False
    (output,) = server.translate(f"Ja. {LONG}", truncation="longest_first").json()["outputs"]
    assert (output["truncated"], output["input_tokens"]) == (True, 2 + 9)


def test_sentences_that_are_not_whole_are_counted(server: Any) -> None:
    text = "Ja. Eins zwei drei vier fünf. Ja. Eins zwei drei vier sechs. Ja loop."
    (output,) = server.translate(text).json()["outputs"]
    assert (output["length_stops"], output["repetition_stops"], output["finish_reason"]) == (2, 1, "repetition")


def test_a_long_sentence_is_refused_or_read_in_parts(server: Any) -> None:
    refused = server.translate(["Ja.", f"Ja. {LONG}"])
    (mistake,) = refused.json()["errors"]
    assert (refused.status_code, mistake["pointer"]) == (422, "/inputs/1")
    assert mistake["message"].startswith("has a sentence of 11 tokens, the limit is 9; ")
    parts = server.translate(LONG, truncation="split", parameters={"max_new_tokens": 6}).json()["outputs"][0]
    assert (parts["text"], parts["truncated"], parts["finish_reason"]) == (LONG.upper(), False, "eos")


@pytest.mark.parametrize(
    ("inputs", "pieces"),
    [
        (["Guten Tag. Gut!\n", "Ja."], [(0, "GUTEN"), (0, " TAG."), (0, " GUT!"), (0, "\n"), (1, "JA.")]),
        (["- Ja.\n- 42\n"], [(0, "- JA."), (0, "\n- 42\n")]),
        (["42"], [(0, "42")]),
    ],
)
def test_a_stream_has_sentence_after_sentence(server: Any, inputs: list[str], pieces: list[tuple[int, str]]) -> None:
    answer = server.translate(inputs, stream=True)
    assert deltas(answer) == pieces
    assert "event: done" in answer.text


def test_the_queue_counts_texts(start: Any, wait_until: Any) -> None:
    small = start(queue_items=2, max_items=2)
    held = small.background("hold")
    waiting = small.background("Ja. Nein. Gut. Ja. Nein. Gut.")
    assert small.service.batcher.items == 2
    assert small.translate("d").status_code == 429
    small.engine.release.set()
    held.join()
    waiting.join()
    wait_until(lambda: small.service.batcher.items == 0)
    assert small.engine.seen[2:] == ["Ja.", "Nein.", "Gut.", "Ja.", "Nein.", "Gut."]


def test_a_sentence_that_fails_fails_its_request(server: Any, wait_until: Any) -> None:
    assert server.translate("Ja. boom. Nein.").status_code == 500
    wait_until(lambda: server.service.batcher.items == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_of_many_lines_is_answered_whole(server: Any, stream: bool) -> None:
    text = "Ja.\n" * 1000
    answer = server.translate(text, stream=stream)
    output = "".join(delta for _, delta in deltas(answer)) if stream else answer.json()["outputs"][0]["text"]
    assert output == text.upper()
