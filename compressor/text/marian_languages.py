"""Target languages of multilingual Marian models: tokens such as ``>>fra<<`` at the start of a source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compressor.errors import InputError

MAX_SHOWN = 40
"""Languages that a message lists."""
MAX_LENGTH = 20
"""Characters of a language that a message repeats."""


def language_tokens(vocabulary: Iterable[str]) -> tuple[str, ...]:
    """The tokens of a Marian vocabulary that name a target language (``>>fra<<``), in alphabetical order."""
    return tuple(sorted(token for token in vocabulary if token.startswith(">>") and token.endswith("<<")))


def check_language(text: str, languages: Sequence[str]) -> None:
    """Checks that a source begins with one of the target languages, where a Marian model writes several.

    Raises:
        InputError: it begins with none, or with an unknown one; lists the languages.
    """
    code = text.partition("<<")[0] + "<<" if text.startswith(">>") and "<<" in text else ""
    if code in languages or len(languages) < 2:
        return
    more = f" and {len(languages) - MAX_SHOWN} more" if len(languages) > MAX_SHOWN else ""
    shown = ", ".join(languages[:MAX_SHOWN]) + more
    named = code if len(code) <= MAX_LENGTH else "the text in >>…<<"
    problem = f"{named} is not a language of the model" if code else "the model writes several languages"
    raise InputError(
        f"{problem}: begin every source with one of {shown} (a recipe says it once, in teacher.source_prefix)"
    )
