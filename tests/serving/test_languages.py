"""Codes that clients send, and languages of texts."""

from __future__ import annotations

from typing import Any

import pytest

from compressor.errors import InputError
from serving.errors import Problem
from serving.languages import detect, name_of, resolve, source_of

CODES = [
    ("de", ["de", "en"], "de"),
    ("DE", ["de"], "de"),
    ("en-US", ["de", "en"], "en"),
    ("pt_BR", ["pt", "pt-br"], "pt-br"),
    ("zh", ["zh-Hans"], "zh-Hans"),
    ("d", ["de"], None),
    ("", ["de"], None),
]


@pytest.mark.parametrize(("code", "served", "expected"), CODES)
def test_a_code_means_the_nearest_served_one(code: str, served: list[str], expected: str | None) -> None:
    assert resolve(code, served) == expected


TEXTS = {
    "de": "Der Hund läuft durch den verschneiten Wald.",
    "en": "The dog is running through the snowy forest.",
    "fr": "Le chien court à travers la forêt enneigée.",
    "es": "El perro corre por el bosque nevado.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_only_served_languages_are_detected(code: str) -> None:
    ranking = detect(TEXTS[code], ["de", "EN-us", "fr", "es"])
    assert ranking[0].language.lower()[:2] == code
    assert sum(one.probability for one in ranking) == pytest.approx(1)
    assert {one.language for one in detect(TEXTS[code], ["de", "fr"])} == {"de", "fr"}


def test_the_source_is_one_that_is_translated_to_the_target() -> None:
    targets = {"de": ["en"], "en": ["de"], "fr": ["en"]}
    assert source_of(TEXTS["fr"], targets, "en").language == "fr"
    english = source_of(TEXTS["en"], targets, "en")
    assert english.language in ("de", "fr") and english.probability < 0.5
    assert source_of("1234", targets, "de").language == "en"


def test_languages_that_cannot_be_told_apart_must_be_named() -> None:
    assert source_of("abc", {"xx": ["yy"]}, "yy") == ("xx", 0.0)
    with pytest.raises(Problem, match="cannot be detected"):
        source_of("abc", {"xx": ["zz"], "yy": ["zz"]}, "zz")


def test_names() -> None:
    assert [name_of(code) for code in ("de", "pt-BR", "nb", "xx")] == ["German", "Portuguese", "Norwegian Bokmål", "xx"]


def test_mistakes_name_the_place_in_the_request_when_texts_go_to_several_models(start: Any, make_engine: Any) -> None:
    german, english = make_engine("translation", "de", "fr"), make_engine("translation", "en", "fr")
    server = start({"de-fr": german, "en-fr": english})

    def refuse(texts: Any, truncation: Any) -> Any:
        raise InputError("{text}: no", index=0)

    english.encode = refuse
    body = {"text": ["Der Hund läuft.", "The dog is running."], "target_lang": "FR"}
    answer = server.client.post("/v2/translate", json=body)
    assert answer.json()["errors"] == [{"message": "the text: no", "pointer": "/text/1"}]
