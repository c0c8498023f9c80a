"""The DeepL contract, with the real ``deepl`` client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import deepl
import pytest


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(deepl.http_client, "max_network_retries", 0)


def client(server: Any, key: str = "any") -> deepl.DeepLClient:
    return deepl.DeepLClient(key, server_url=str(server.client.base_url).rstrip("/"))


@pytest.fixture
def api(pairs: Any) -> Iterator[deepl.DeepLClient]:
    with closing(client(pairs)) as one:
        yield one


def test_a_text_is_translated_to_a_variant_of_a_language(api: deepl.DeepLClient) -> None:
    for target in ("EN-US", "EN-GB"):
        result = api.translate_text("guten tag", source_lang="DE", target_lang=target)
        assert (result.text, result.detected_source_lang, result.billed_characters) == ("GUTEN TAG", "DE", 9)


def test_each_text_has_its_detected_language(api: deepl.DeepLClient) -> None:
    texts = ["Die Katze schläft nicht.", "Der Hund schläft heute."]
    results = api.translate_text(texts, target_lang="FR")
    assert [(one.text, one.detected_source_lang) for one in results] == [(text.upper(), "DE") for text in texts]
    assert api.translate_text("The dog sleeps today.", target_lang="DE").detected_source_lang == "EN"


def test_languages_and_usage(api: deepl.DeepLClient) -> None:
    assert [(one.code, one.name) for one in api.get_source_languages()] == [("DE", "German"), ("EN", "English")]
    targets = ["DE", "EN-GB", "EN-US", "FR"]
    assert [one.code for one in api.get_target_languages()] == targets
    before = api.get_usage().character
    assert before.valid and not before.limit_reached
    api.translate_text(["ab", "c"], source_lang="DE", target_lang="EN-US")
    assert api.get_usage().character.count == before.count + 3


def test_html_and_xml_keep_their_markup(api: deepl.DeepLClient) -> None:
    options = {"source_lang": "DE", "target_lang": "EN-US"}
    html = api.translate_text("<p>guten <b>tag</b><br>ein</p>", tag_handling="html", **options)
    assert html.text == "<p>GUTEN <b>TAG</b><br>EIN</p>"
    xml = api.translate_text(
        '<D><P>guten <x id="1"/> tag</P><K>ein</K></D>', tag_handling="xml", ignore_tags=["K"], **options
    )
    assert xml.text == '<D><P>GUTEN <x id="1"/> TAG</P><K>ein</K></D>'


def test_truth_beyond_the_clients_fields(pairs: Any) -> None:
    body = {"text": "a b c d e", "source_lang": "DE", "target_lang": "EN", "context": "x", "formality": "prefer_more"}
    expected = {
        "detected_source_language": "DE",
        "text": "A B C D",
        "billed_characters": 9,
        "truncated": False,
        "finish_reason": "length",
    }
    for sent in ({"json": body}, {"data": body}):
        assert pairs.client.post("/v2/translate", **sent).json() == {"translations": [expected]}
    two = pairs.client.post("/v2/translate", data={**body, "text": ["a", "b"]}).json()["translations"]
    assert [one["text"] for one in two] == ["A", "B"]


def test_sentences_can_be_left_together(pairs: Any) -> None:
    body = {"text": ["Eins zwei. Drei."], "source_lang": "DE", "target_lang": "EN"}
    for value, seen in (
        ("0", ["Eins zwei. Drei."]),
        ("1", ["Eins zwei.", "Drei."]),
        ("nonewlines", ["Eins zwei.", "Drei."]),
    ):
        pairs.engine.seen.clear()
        assert pairs.client.post("/v2/translate", json={**body, "split_sentences": value}).is_success
        assert sorted(pairs.engine.seen) == sorted(seen)


REFUSED = [
    ({"target_lang": "XX"}, "target_lang: not served; pairs are de-en, de-fr, en-de"),
    ({"target_lang": "FR", "source_lang": "EN"}, "source_lang: not served"),
    ({"formality": "more"}, "formality: is not served"),
    ({"text": ["a", " "]}, "/text/1: is an empty text"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_an_error_is_shown_by_the_client(api: deepl.DeepLClient, options: dict[str, Any], message: str) -> None:
    with pytest.raises(deepl.DeepLException, match="422") as error:
        api.translate_text(**{"text": "geheim", "source_lang": "DE", "target_lang": "EN-US", **options})
    assert message in str(error.value) and "geheim" not in str(error.value)


def test_glossaries_are_refused(pairs: Any) -> None:
    body = {"text": ["a"], "target_lang": "EN", "glossary_id": "x"}
    answer = pairs.client.post("/v2/translate", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/glossary_id")


def test_a_wrong_key_is_the_clients_own_error(start: Any) -> None:
    server = start(api_key="s3cret")
    with closing(client(server, "wrong")) as api, pytest.raises(deepl.AuthorizationException):
        api.translate_text("a", target_lang="EN-US")
    with closing(client(server, "s3cret")) as api:
        assert api.translate_text("a", target_lang="EN-US").text == "A"
