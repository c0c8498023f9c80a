"""The requests of the load generator in each dialect: paths and bodies of translations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from benchmarks.serving.client import Address, encode_request

DialectName = Literal["native", "libretranslate"]


class Languages(NamedTuple):
    """Codes of source and target language; the native dialect may leave both out."""

    source: str | None = None
    target: str | None = None


class WireFormat(NamedTuple):
    """A path, the JSON body of a request for some texts, and the reader of the texts in its answer."""

    path: str
    body: Callable[[Sequence[str], Languages], dict[str, Any]]
    outputs: Callable[[Any], list[str]]


def _native(texts: Sequence[str], languages: Languages) -> dict[str, Any]:
    named = {name: code for name, code in languages._asdict().items() if code is not None}
    return {"inputs": list(texts), **named}


def _libretranslate(texts: Sequence[str], languages: Languages) -> dict[str, Any]:
    query: str | list[str] = texts[0] if len(texts) == 1 else list(texts)
    return {"q": query, "source": languages.source or "auto", "target": languages.target or "en", "format": "text"}


def _translated_text(answer: Any) -> list[str]:
    translated = answer["translatedText"]
    return [translated] if isinstance(translated, str) else list(translated)


DIALECTS: dict[DialectName, WireFormat] = {
    "native": WireFormat("/v1/translate", _native, lambda answer: [output["text"] for output in answer["outputs"]]),
    "libretranslate": WireFormat("/translate", _libretranslate, _translated_text),
}


def messages(
    dialect: DialectName,
    address: Address,
    texts: Sequence[str],
    texts_per_request: int = 1,
    *,
    languages: Languages = Languages(),  # noqa: B008 (a tuple does not change)
    key: str = "",
) -> list[bytes]:
    """Returns ready requests that have all texts in turn, the last of them filled up with the first texts."""
    chosen = DIALECTS[dialect]
    groups = [
        [texts[(start + offset) % len(texts)] for offset in range(texts_per_request)]
        for start in range(0, len(texts), texts_per_request)
    ]
    bodies = [json.dumps(chosen.body(group, languages), ensure_ascii=False).encode() for group in groups]
    return [encode_request("POST", chosen.path, address, body, key=key) for body in bodies]
