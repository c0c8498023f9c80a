"""Text that stays as it is: numbers, addresses, paths, names of programs, placeholders, markup."""

from __future__ import annotations

import re

_MARKUP = re.compile(
    r"`[^`]*`|<!--[^>]{0,1000}-->|\]\([^()\s]*(?:\s\"[^\"]*\")?\)|</?\w[^<>]*>|\$?\{\s?[\w.$:|-]*\s?\}"
)
_COPIED = re.compile(
    r"[A-Za-z][\w+.-]*://\S+|(?i:www)\.\S+"  # URLs
    r"|(?:~|\.{1,2})?/\S+|[A-Za-z]:\\\S*|\\\\\S+|[\w.-]+(?:/[\w.-]+)+\.\w{1,5}"  # paths
    r"|%(?:\d+\$)?[-+#0-9.]*[A-Za-z]{1,2}|%\(\w+\)[A-Za-z]|%\w+%|\$[A-Za-z_]\w*"  # placeholders
    r"|--[A-Za-z][\w-]*(?:=\S*)?|-[A-Za-z]|0[xX][0-9A-Fa-f]+|[vV]?\d+(?:\.\d+)+[\w.+-]*"  # options, numbers, versions
    r"|[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+|[A-Za-z0-9-]{2,}(?:\.[A-Za-z0-9-]+)*\.(?:[a-z][a-z0-9]{1,4}|[A-Z][A-Z0-9]{1,4})"
    r"|[A-Z]{1,4}\d[\dA-Z]*|(?:\\[nrt])+"  # codes, line breaks as programs write them
)
_EDGES = "()[]<>\"'„“”‚‘’«»,;:!?*_`"


def needs_translation(text: str) -> bool:
    """Returns whether a text has a word: not only numbers, signs, emoji, URLs, e-mail addresses, paths and markup."""
    if not any(map(str.isalpha, text)):
        return False
    words = _MARKUP.sub(" ", text).split()
    return any(any(map(str.isalpha, word)) and not is_copied(word) for word in words)


def is_copied(word: str) -> bool:
    """Returns whether a word, without the signs around it, is an address, a path, a placeholder or the like."""
    word = word.strip(_EDGES).rstrip(".").rstrip(_EDGES)
    name, at, domain = word.partition("@")
    return bool(name and at and "." in domain.strip(".") and "@" not in domain) or bool(_COPIED.fullmatch(word))
