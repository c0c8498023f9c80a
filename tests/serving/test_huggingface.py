"""The Hugging Face contract, with the real ``InferenceClient``."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from huggingface_hub import InferenceClient, constants
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_saved_by_the_user")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it would refuse this machine, too


def client(server: Any, path: str = "", **options: Any) -> InferenceClient:
    return InferenceClient(model=str(server.client.base_url).rstrip("/") + path, **options)


def test_translation_by_name_and_by_default(server: Any) -> None:
    for path in ("/hf/echo", "/", ""):
        answer = client(server, path).translation("guten tag")
        assert (answer.translation_text, answer["finish_reason"], answer["truncated"]) == ("GUTEN TAG", "eos", False)


def test_parameters_of_the_client_reach_the_search(server: Any) -> None:
    over = " ".join("abcdefghi")
    answer = client(server, "/hf/echo").translation(
        over,
        src_lang="de_DE",
        tgt_lang="en_XX",
        clean_up_tokenization_spaces=True,
        truncation="only_first",
        generate_parameters={"num_beams": 3, "max_new_tokens": 5},
    )
    assert (answer.translation_text, answer["finish_reason"], answer["truncated"]) == ("A B C D E", "length", True)
    assert server.engine.options == {"num_beams": 3, "max_new_tokens": 5}


def test_texts_are_read_by_sentences(server: Any) -> None:
    text = "Das ist ein Satz. Das ist noch einer."
    assert client(server).translation(text).translation_text == text.upper()


def test_a_list_has_one_flat_answer_for_each_text(server: Any) -> None:
    answer = server.client.post("/hf/echo", json={"inputs": ["a", "b c"], "options": {"wait_for_model": True}})
    rest = {"truncated": False, "finish_reason": "eos"}
    assert answer.json() == [{"translation_text": "A", **rest}, {"translation_text": "B C", **rest}]


def test_summaries_and_the_default_model(start: Any, make_engine: Any) -> None:
    news, pair = make_engine("summarization", None, None), make_engine("translation", "fr", "en")
    server = start({"news": news, "fr-en": pair})
    assert client(server, "/hf/news").summarization("guten tag").summary_text == "GUTEN TAG"
    assert client(server).summarization("a").summary_text == "A"
    assert client(server).translation("a", src_lang="fr", tgt_lang="en").translation_text == "A"
    with pytest.raises(HfHubHTTPError, match="not served by this model"):
        client(server, "/hf/news").translation("a", src_lang="fr", tgt_lang="en")


REFUSED = [
    ("/hf/nobody", {}, 404, "unknown model"),
    ("/hf/echo", {"src_lang": "xx", "tgt_lang": "en"}, 422, "its languages are de-en"),
    ("/hf/echo", {"generate_parameters": {"num_beams": 100}}, 422, "is 100, the limit is 4"),
    ("/hf/echo", {"generate_parameters": {"temperature": 2}}, 422, "'temperature' is not known"),
]


@pytest.mark.parametrize(("path", "parameters", "status", "message"), REFUSED)
def test_an_error_is_shown_by_the_client(
    server: Any, path: str, parameters: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(HfHubHTTPError) as error:
        client(server, path).translation("geheim", **parameters)
    assert error.value.response.status_code == status
    assert message in str(error.value)
    assert error.value.request_id == error.value.response.headers["x-request-id"]
    assert isinstance(error.value.response.json()["error"], str)


def test_a_key_is_checked_and_a_saved_token_is_not_logged(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "serving")
    server = start(api_key="s3cret")
    assert client(server, token="s3cret").translation("a").translation_text == "A"
    with pytest.raises(HfHubHTTPError) as error:
        client(server).translation("a")
    assert error.value.response.status_code == 401
    assert "hf_saved" not in caplog.text and "s3cret" not in caplog.text
