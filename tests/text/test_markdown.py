"""Inline signs of Markdown: which characters are signs, by hand and by markdown-it."""

from __future__ import annotations

import random
import re
import time

import pytest
from markdown_it import MarkdownIt

from compressor.text.markdown import labels_of, read_signs


def show(text: str, labels: frozenset[str] = frozenset()) -> str:
    """The text with the signs in braces, and elements that stay as they are with a bar."""
    marked, cursor = "", 0
    for sign in read_signs(text, labels):
        bar = {"verbatim": "|", "image": "!", "single": ".", "break": "/", "escape": "\\"}.get(sign.kind, "")
        marked += text[cursor : sign.start] + "{" + bar + text[sign.start : sign.end] + "}"
        cursor = sign.end
    return marked + text[cursor:]


@pytest.mark.parametrize(
    "marked",
    [
        "Ein {*}sehr{*} {**}guter{**} {_}Hund{_} und {__}zwei{__} {~~}Katzen{~~}.",
        "2 * 3 * 4, 2*3*4, *.txt, snake_case_name, * allein, a_b_, ~x~, **kwargs, *args",
        "{*}{**}beides{**}{*} {**}{*}eins{*} zwei{**} {*}eins {**}zwei{**}{*}",
        "{**}H{**}yper{**}T{**}ext, Leser*innen und Käufer*innen, foo_bar_baz, „{*}Ja{*}“",
        "{**}„Ja“{**} {*}(nein){*}",
        "{|`a*b*`} {|`` c`d ``} {|```e```} ``offen {|`f`}",
        r"{\\*}kein Sinn{\\*}, {\\`}x{\\`}, C:\Temp\-x, \\{*}x{*}".replace(r"{\\", "{\\\\"),
        "{[}Link{](a_b_c(d)e.html)} {[}x{](<a b> \"T (1)\")} [kein] (Link) [a](b c)",
        "{[}a {*}b{*}{](c)} {*}a {[}b{](c)}{*} *a {[}b*{](c)} {[}x{](y 'z')}",
        "[a {[}b{](c)} d](e)",
        "{!![a *b* [c](d)](e.png)} {[}{!![a](b)}{](c)}",
        "{[}Text{][label]} [Text] Note{.[^1]} ![a]",
        "{|<https://a.de/x_y_>} {|<a.b@c.de>} {<b>}fett{</b>} {<x>}a{</x>} {/<br>}{.<img src='a'>}{.<wbr>}",
        "{|<code>a *b*</code>} {|<kbd>Strg</kbd>} <Name> a<b, c>d <3 {.</b>} {/<p class=\"a\">}",
        "{*}a <x b{*} <!-- *c* --> d* e*",
        "{<b>}a {*}b{*}{</b>} {*}a {.<i>}b{*} c{.</i>}",
    ],
)  # fmt: skip
def test_signs_of_a_line(marked: str) -> None:
    text = marked
    for sign in ("{|", "{!", "{.", "{/", "{\\", "{", "}"):
        text = text.replace(sign, "")
    assert show(text) == marked


def test_links_by_their_own_text_need_a_definition() -> None:
    text = "Die [große FAQ], das [Handbuch][] und [x].\n\n[Große  FAQ]: a.html\n[handbuch]: <b.html>\n"
    labels = labels_of(text)
    assert labels == {"grosse faq", "handbuch"}
    assert show(text.partition("\n")[0], labels) == "Die {[}große FAQ{]}, das {[}Handbuch{][]} und [x]."
    assert [sign.written for sign in read_signs("Die [FAQ].", frozenset({"faq"}))] == ["", "][FAQ]"]


PARTS = [*r"*ab[]!.()é`\ ", "*", "**", "_", "__", "``", "](x)", "~~", '"', '[a](b "c")']


def kind(text: str, start: int, end: int, is_emphasis: bool) -> str:
    if not is_emphasis:
        return "link"
    return "s" if text[start] == "~" else "strong" if end - start == 2 else "em"


@pytest.mark.parametrize("seed", range(8))
def test_random_lines_are_read_as_markdown_it_reads_them(seed: int) -> None:
    peer = MarkdownIt("commonmark").enable("strikethrough")
    draw = random.Random(seed)
    for _ in range(800):
        text = "a" + "".join(draw.choices(PARTS, k=draw.randrange(1, 16))) + "z"
        # Rows of tildes, links by reference, and one asterisk within a word are read by other rules.
        if "~~~" in text or "][" in text or re.search(r"[^\W_]\*[^\W_]", text):
            continue
        tokens = peer.parseInline(text)[0].children or []
        expected = [token.type for token in tokens if token.type not in ("text", "softbreak", "hardbreak")]
        signs = [sign for sign in read_signs(text) if sign.kind != "escape"]
        names = {"verbatim": "code_inline", "image": "image"}
        read = [
            names.get(sign.kind) or f"{kind(text, sign.start, sign.end, sign.is_emphasis)}_{sign.kind}"
            for sign in signs
        ]
        assert read == expected, repr(text)


@pytest.mark.parametrize(
    "part",
    ["*a ", "a* ", "**a **", "_a", "*_", "[", "](", "[a](", "[a](b) ", "[[a](b) ", "![a", "`", "<a x=\"", "<code>",
     "<b>", "\\", "~~a ", "[a][", "<http:", "[a](b \"", "[a](b '(", "[a]((a", "*a**b ", "<!-- *", "*a_b ", "]"],
)  # fmt: skip
def test_rows_of_signs_take_linear_time(part: str) -> None:
    start = time.monotonic()
    read_signs(part * (300_000 // len(part)))
    ticks = " ".join("`" * (count % 400 + 1) for count in range(1_000))
    read_signs(ticks)
    assert time.monotonic() - start < 20
