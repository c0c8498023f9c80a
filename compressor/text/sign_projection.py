"""Places the inline signs of Markdown in the translation of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compressor.text.placeholders import PlaceholderTranslation
from compressor.text.projection import Inline


class SignedTranslation(PlaceholderTranslation):
    """The translation of a sentence of Markdown.

    Args:
        text: The sentence without signs.
        output: Its translation.
        phrases: Translations of ``phrases_of``, and of the texts of images.
        root: The sentence with its elements.
        breaks: Offsets of spaces of the output, and what is to stand there.
        escaped: Characters that need a backslash.
    """

    most_words = 12

    def __init__(
        self,
        text: str,
        output: str,
        phrases: Mapping[str, str],
        root: Inline,
        breaks: Iterable[tuple[int, str]] = (),
        escaped: Iterable[str] = (),
    ) -> None:
        super().__init__(text, output, [(0, 0), (len(text), len(output))], phrases, root)
        self._root = root
        self._escaped = str.maketrans({character: f"\\{character}" for character in escaped})
        self._exact = sorted([*self._exact, *((offset, offset + 1, exact) for offset, exact in breaks)])

    def render_sentence(self) -> str:
        """Returns the translation with the signs of the sentence."""
        return self.render(self._root)

    def _plain(self, text: str) -> str:
        return text.translate(self._escaped)

    def _element(self, node: Inline, start: int, end: int) -> str:
        if node.is_verbatim:
            return super()._element(node, start, end)
        first, last = start, end
        while first < last and self._output[first].isspace():
            first += 1
        while last > first and self._output[last - 1].isspace():
            last -= 1
        inside = self._inside(node, first, last)
        opening, closing = node.opening, node.closing
        if not inside.strip() and node.start < node.end:
            if node.is_emphasis:
                opening = closing = ""
            elif opening == "[":
                inside = self._text[node.start : node.end]
        elif node.relabelled and inside != self._text[node.start : node.end]:
            closing = node.relabelled
        elif node.is_emphasis and opening[:1] == "_" and self._is_inside_word(first, last):
            opening, closing = opening.replace("_", "*"), closing.replace("_", "*")
        return self._write(start, first) + opening + inside + closing + self._write(last, end)

    def _is_inside_word(self, start: int, end: int) -> bool:
        return self._output[max(0, start - 1) : start].isalnum() or self._output[end : end + 1].isalnum()
