"""What differs between the dialects in every answer: statuses of errors, and where a client puts texts and its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Dialect(NamedTuple):
    """How the clients of some routes read errors.

    Attributes:
        inputs: Name of the field with the texts.
        statuses: Statuses that these clients expect in place of the native contract's.
        too_many: Stands before the text of a 429.
        key_in_body: A request may have its key in the body, where only the route can check it.
    """

    inputs: str = "inputs"
    statuses: Mapping[int, int] = {}
    too_many: str = ""
    key_in_body: bool = False


NATIVE = Dialect()
_LIBRETRANSLATE = Dialect("q", {401: 403, 404: 400, 422: 400}, "Slowdown: ")
_DEEPL = Dialect("text", {401: 403})
_BY_PATH = {
    **dict.fromkeys(("/translate", "/detect"), _LIBRETRANSLATE._replace(key_in_body=True)),
    **dict.fromkeys(("/languages", "/frontend/settings"), _LIBRETRANSLATE),
}


def dialect_of(path: str) -> Dialect:
    """Returns the dialect of a route."""
    return _DEEPL if path.startswith("/v2/") else _BY_PATH.get(path, NATIVE)
