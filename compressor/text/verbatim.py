"""Blocks of lines that pass unchanged: blank lines, code, scripts, comments, definitions of links, metadata."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from compressor.text.markdown import DEFINITION

_FENCE = re.compile(r"(`{3,}(?=[^`]*$)|~{3,})(\s*$)?")
"""A line that opens fenced code; with nothing after the signs (group 2) it may close it (CommonMark 0.31, 4.5)."""
_COMMENT, _COMMENT_END = "<!--", "-->"
_ELEMENT = re.compile(r"<(pre|script|style|svg|math|textarea)(?=[\s>]|$)", re.IGNORECASE)
"""HTML whose lines are no text (CommonMark 0.31, 4.6, and elements that are never translated)."""
_NOTE = re.compile(r"\[![A-Z]+\]|:{3,}\s*[\w-]*")
"""A line with the kind of a note, as GitHub and Docusaurus have it."""
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
        self._lines_with: dict[str, list[int]] = {}
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
            return self._end_with(_COMMENT_END, start)
        if element := _ELEMENT.match(content):
            return self._end_with(f"</{element[1].lower()}>", start)
        return start + 1 if _NOTE.fullmatch(content) or DEFINITION.fullmatch(content) else start

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

    def _end_with(self, ending: str, start: int) -> int:
        """Returns the line after a block; ``start`` where nothing ends it, or text follows its end on the same line."""
        if ending not in self._lines_with:
            contents = enumerate(self._contents)
            self._lines_with[ending] = [index for index, content in contents if ending in content.lower()]
        lines = self._lines_with[ending]
        place = bisect_left(lines, start)
        is_end = place < len(lines) and self._contents[lines[place]].lower().endswith(ending)
        return lines[place] + 1 if is_end else start
