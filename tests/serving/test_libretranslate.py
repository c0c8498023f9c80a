"""The LibreTranslate contract, with the real ``libretranslatepy``."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError

import pytest
from libretranslatepy import LibreTranslateAPI


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def client(server: Any, key: str | None = None) -> LibreTranslateAPI:
    return LibreTranslateAPI(str(server.client.base_url), key)


def translate(server: Any, **fields: Any) -> Any:
    return server.client.post("/translate", json={"source": "de", "target": "en", **fields})


def test_the_client_translates_detects_and_lists_languages(pairs: Any) -> None:
    api = client(pairs)
    assert api.translate("guten tag & ü", "de", "en") == "GUTEN TAG & Ü"
    ranking = api.detect("Das ist ein deutscher Satz, und er ist ziemlich lang.")
    assert ranking[0]["language"] == "de" and 50 < ranking[0]["confidence"] <= 100
    assert api.languages() == [
        {"code": "de", "name": "German", "targets": ["en", "fr"]},
        {"code": "en", "name": "English", "targets": ["de"]},
        {"code": "fr", "name": "French", "targets": []},
    ]


def test_a_string_gives_a_string_and_a_list_a_list(pairs: Any) -> None:
    assert translate(pairs, q="guten tag").json() == {"translatedText": "GUTEN TAG"}
    answer = translate(pairs, q=["a", "a b c d e"], source="DE", target="en-US", alternatives=2)
    assert answer.json() == {"translatedText": ["A", "A B C D"], "alternatives": [[], []]}
    assert (answer.headers["x-finish-reason"], answer.headers["x-truncated"]) == ("eos,length", "false,false")


def test_each_text_of_an_unknown_language_goes_to_its_model(pairs: Any) -> None:
    texts = ["Der Hund schläft heute.", "The dog sleeps today.", "Die Katze schläft nicht."]
    (to_english, to_german) = (translate(pairs, q=texts, source="auto", target=target) for target in ("fr", "de"))
    assert to_english.json()["translatedText"] == [text.upper() for text in texts]
    detected = to_english.json()["detectedLanguage"]
    assert [one["language"] for one in detected] == ["de", "de", "de"]
    assert detected[1]["confidence"] < 50 < detected[0]["confidence"]
    assert to_german.json()["detectedLanguage"][1]["language"] == "en"
    alone = translate(pairs, q=texts[0], source="auto").json()
    assert alone["detectedLanguage"]["language"] == "de"


def test_html_keeps_its_markup(pairs: Any) -> None:
    html = "<p class='x'>guten <b>tag</b> &amp;<br>hallo <script>a<b</script></p>"
    answer = translate(pairs, q=html, format="html").json()
    assert answer == {"translatedText": "<p class='x'>GUTEN <b>TAG</b> &amp;<br>HALLO <script>a<b</script></p>"}


def test_a_sentence_over_the_limit_is_read_in_parts(pairs: Any) -> None:
    text = "eins zwei drei, vier fünf sechs, sieben acht neun zehn"  # 11 tokens; limit 9
    answer = translate(pairs, q=text)
    assert answer.status_code == 200 and answer.headers["x-truncated"] == "false"


REFUSED = [
    ({"q": "a", "source": "zz"}, 400, "zz is not supported"),
    ({"q": "a", "target": "zz"}, 400, "zz is not supported"),
    ({"q": "a", "target": "geheim geheim"}, 400, "the target language is not supported"),
    (
        {"q": "a", "source": "en", "target": "fr"},
        400,
        "French (fr) is not available as a target language from English (en)",
    ),
    ({}, 400, "Invalid request: missing q parameter"),
    ({"q": "a", "source": ""}, 400, "Invalid request: missing source parameter"),
    ({"q": "a", "target": ""}, 400, "Invalid request: missing target parameter"),
    ({"q": "a", "format": "pdf"}, 400, "this format is not supported: text and html are"),
    ({"q": ["a", " "]}, 400, "/q/1: is an empty text"),
    ({"q": ["a"] * 65}, 400, "/q: has 65 texts, the limit is 64"),
]


@pytest.mark.parametrize(("fields", "status", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_errors_have_a_text_in_error(pairs: Any, fields: dict[str, Any], status: int, message: str) -> None:
    for body in (
        {"json": {"source": "de", "target": "en", **fields}},
        {"data": {"source": "de", "target": "en", **fields}},
    ):
        if "data" in body and isinstance(fields.get("q"), list):
            continue
        answer = pairs.client.post("/translate", **body)
        assert (answer.status_code, answer.json()["error"], answer.json()["status"]) == (status, message, status)


def test_bodies_that_are_neither_json_nor_a_form(pairs: Any) -> None:
    for content, kind, status in (
        (b"{", "application/json", 400),
        (b"q=%ff&source=de&target=en", "application/x-www-form-urlencoded", 400),
        (b"a=1&" * 2000, "application/x-www-form-urlencoded", 400),
        (b"q=a", "text/plain", 415),
    ):
        answer = pairs.post(content, "/translate", **{"content-type": kind})
        assert answer.status_code == status and isinstance(answer.json()["error"], str)


def test_a_key_comes_in_the_body_or_in_a_header(start: Any) -> None:
    server = start(api_key="s3cret")
    assert client(server, "s3cret").translate("a", "de", "en") == "A"
    assert client(server, "s3cret").languages()[0]["code"] == "de"
    assert client(server, "s3cret").detect("Guten Tag")
    for key in ("wrong", None):
        with pytest.raises(HTTPError) as error:
            client(server, key).translate("a", "de", "en")
        with error.value as answer:
            assert answer.code == 403 and "valid key" in json.load(answer)["error"]
        with pytest.raises(HTTPError) as error:
            client(server, key).detect("a")
        error.value.close()
    header = {"authorization": "Bearer s3cret"}
    assert server.client.post("/translate", json={"q": "a", "source": "de", "target": "en"}, headers=header).is_success
    assert server.client.get("/frontend/settings").json()["keyRequired"] is True


def test_a_full_queue_asks_to_slow_down(start: Any) -> None:
    server = start(queue_items=1, max_items=1)
    thread = server.background("hold")
    answer = translate(server, q="a")
    server.engine.release.set()
    thread.join()
    assert answer.status_code == 429 and answer.headers["retry-after"]
    assert answer.json()["error"].startswith("Slowdown: ")


def test_health_and_settings(pairs: Any) -> None:
    assert pairs.client.get("/health").json() == {"status": "ok"}
    settings = pairs.client.get("/frontend/settings").json()
    assert settings["language"] == {
        "source": {"code": "de", "name": "German"},
        "target": {"code": "en", "name": "English"},
    }
    assert (settings["charLimit"], settings["keyRequired"], settings["suggestions"]) == (-1, False, False)
