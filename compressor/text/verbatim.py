"""Blocks of lines that pass unchanged: blank lines, fenced code, comments of several lines, a page's metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FENCE = re.compile(r"(`{3,}(?=[^`]*$)|~{3,})(\s*$)?")
"""A line that opens fenced code; with nothing after the signs (group 2) it may close it (CommonMark 0.31, 4.5)."""
_COMMENT, _COMMENT_END = "<!--", "-->"
_METADATA = re.compile(r"\s*(?:#.*|[\w-]+:(?:\s.*)?|[-\s].*)?")
"""A line of YAML as pages begin with it: a key, what belongs to the key before, or a comment."""


class VerbatimBlocks:
    """The blocks of a text that pass unchanged.

    A block that begins and has no end is none: its lines are text, so that nothing after it is left out in silence.

    Args:
        contents: The lines of the text, without indentation, markers of lists and quotations, and white space after.
        lines: The same lines as they stand in the text, without their line breaks.
    """

    def __init__(self, contents: Sequence[str], lines: Sequence[str]) -> None:
        self._contents, self._lines = contents, lines
        self._next_comment_end = [len(contents)]
        for index in reversed(range(len(contents))):
            self._next_comment_end.append(index if _COMMENT_END in contents[index] else self._next_comment_end[-1])
        self._next_comment_end.reverse()
        self._shortest_unclosed: dict[str, int] = {}

    def end(self, start: int) -> int:
        """Returns the line after the block that begins at line ``start``; ``start`` where none begins."""
        content = self._contents[start]
        if not content:
            return start + 1
        if start == 0 and self._lines[0].strip("\ufeff ") == "---":
            return self._metadata_end()
        if mark := _FENCE.match(content):
            return self._fence_end(start, mark[1])
        if content.startswith(_COMMENT) and _COMMENT_END not in content:
            return self._comment_end(start)
        return start

    def _metadata_end(self) -> int:
        """Returns the line after metadata at the start of a text; 0 where the lines are none."""
        for index, line in enumerate(self._lines[1:], 1):
            if line.rstrip() in ("---", "..."):
                has_key = any(re.match(r"[\w-]+:", before) for before in self._lines[1:index])
                return index + 1 if has_key else 0
            if not _METADATA.fullmatch(line):
                return 0
        return 0

    def _fence_end(self, start: int, mark: str) -> int:
        """Returns the line after fenced code; the line after the fence itself where no other closes it."""
        if len(mark) < self._shortest_unclosed.get(mark[0], len(mark) + 1):
            for index in range(start + 1, len(self._contents)):
                closing = _FENCE.match(self._contents[index])
                if closing and closing[2] is not None and closing[1].startswith(mark):
                    return index + 1
            self._shortest_unclosed[mark[0]] = len(mark)
        return start + 1

    def _comment_end(self, start: int) -> int:
        """Returns the line after a comment; ``start`` where none ends it, or text follows its end on the same line."""
        end = self._next_comment_end[start]
        return end + 1 if end < len(self._contents) and self._contents[end].endswith(_COMMENT_END) else start
