"""Markup around translations: what stays, what is translated, and where inline tags go."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser

import pytest
from selectolax.lexbor import LexborHTMLParser

from compressor.text.markup import Markup, XmlTags

VOID = {"br", "img", "wbr", "x"}


def upper(source: str, xml: XmlTags | None = None) -> str:
    """The rendering of a translation that upper-cases: every character has its place."""
    markup = Markup(source, xml)
    return markup.render(markup.text.upper(), [], {})


UPPER = [
    ("<b>d</b><i>o</i><a>g</a>", "<b>D</b><i>O</i><a>G</a>"),
    ("<p>ein <b>sehr <i>alter</i></b> hund</p>", "<p>EIN <b>SEHR <i>ALTER</i></b> HUND</p>"),
    ("<b><i><u>ein hund</u></i></b>", "<b><i><u>EIN HUND</u></i></b>"),
    ("<b>ein</b>\n<i>hund</i>", "<b>EIN</b>\n<i>HUND</i>"),
    ("<b>ein\n</b><i>\n  hund</i>\n", "<b>EIN\n</b><i>\n  HUND</i>\n"),
    ("<div>\n  <b> ein </b> <i> hund </i>\n</div>\n", "<div>\n  <b> EIN </b> <i> HUND </i>\n</div>\n"),
    ("fisch &amp; mehl &lt;b&gt; &uuml;ber", "FISCH &amp; MEHL &lt;B&gt; ÜBER"),
    ("ein&nbsp;hund", "EIN&nbsp;HUND"),
    ("ein <!-- ein <b> --> hund<!--zwei-->", "EIN <!-- ein <b> --> HUND<!--zwei-->"),
    ("<script>if (a<b) x('<p>ein')</script>ein", "<script>if (a<b) x('<p>ein')</script>EIN"),
    (
        "<STYLE>p{a:b}</STYLE >ein<textarea>zwei <b></textarea>",
        "<STYLE>p{a:b}</STYLE >EIN<textarea>zwei <b></textarea>",
    ),
    ("<a href='?a=1&b=2' title=\"ein > hund\" x=y>hund</a>", "<a href='?a=1&b=2' title=\"ein > hund\" x=y>HUND</a>"),
    ("ein<br>hund <img src=x alt='ein hund'> bellt<hr/>laut", "EIN<br>HUND <img src=x alt='ein hund'> BELLT<hr/>LAUT"),
    ("der <code>ls -l</code> befehl", "DER <code>ls -l</code> BEFEHL"),
    ("<pre>ein hund</pre>ein", "<pre>ein hund</pre>EIN"),
    ("ein <span translate=no>ein <b>x</b></span> hund", "EIN <span translate=no>ein <b>x</b></span> HUND"),
    ("<p class='a notranslate'>ein</p><p class=b>ein</p>", "<p class='a notranslate'>ein</p><p class=b>EIN</p>"),
    ("<td>ein</td><td>12&nbsp;345</td>", "<td>EIN</td><td>12&nbsp;345</td>"),
    ("<b>ein <p>zwei</b> drei</p></i>", "<b>EIN <p>ZWEI</b> DREI</p></i>"),
    ("<b>ein <i>zwei</b> drei</i> vier", "<b>EIN <i>ZWEI</b> DREI</i> VIER"),
    ("a < b und 3 > c <3", "A &lt; B UND 3 &gt; C &lt;3"),
    ("ein <b hund", "EIN <b hund"),
    ("ein <!-- hund", "EIN <!-- hund"),
    (
        "<!DOCTYPE html><html><head><title>ein</title></head></html>",
        "<!DOCTYPE html><html><head><title>EIN</title></head></html>",
    ),
    ("ein <x id=1 /> hund <b></b>", "EIN <x id=1 /> HUND <b></b>"),
    ("", ""),
    ("<img src=x> 12 &amp 3", "<img src=x> 12 &amp 3"),
]


@pytest.mark.parametrize(("source", "expected"), UPPER, ids=[source[:30] for source, _ in UPPER])
def test_text_is_translated_and_markup_stays(source: str, expected: str) -> None:
    assert upper(source) == expected


REORDERED = [
    (
        "Der <b>Hund</b> fraß den <i>Ball</i>.",
        "The dog ate the ball.",
        {"Hund": "Dog.", "Ball": "ball"},
        "The <b>dog</b> ate the <i>ball</i>.",
    ),
    (
        "<i>Gestern</i> sah ich <b>dich</b>.",
        "I saw you yesterday.",
        {"Gestern": "Yesterday.", "dich": "You"},
        "I saw <b>you</b> <i>yesterday</i>.",
    ),
    (
        "Er lebt in <a href='#'>Berlin</a>, seit 1990.",
        "Since 1990 he has lived in Berlin.",
        {},
        "Since 1990 he has lived in <a href='#'>Berlin</a>.",
    ),
    (
        "<b>Der <i>rote</i> Wagen</b> steht hier.",
        "Here stands the red car.",
        {"rote": "red", "Der rote Wagen": "The red car."},
        "Here stands <b>the <i>red</i> car</b>.",
    ),
    ("<b>Ein Hund bellt.</b> Er ist laut.", "A dog barks. He is loud.", {}, "<b>A dog barks.</b> He is loud."),
    (
        "Eine Frau im <b>roten Kleid</b>, sie sitzt.",
        "A woman in a red dress is sitting.",
        {"roten Kleid": "Red dress it."},
        "A woman in a <b>red dress</b> is sitting.",
    ),
    ("<b><a>Hunde</a></b>", "Dogs", {}, "<b><a>Dogs</a></b>"),
    ("<b>H</b>und", "Dog", {}, "<b>D</b>og"),
]


@pytest.mark.parametrize(("source", "output", "phrases", "expected"), REORDERED)
def test_inline_tags_follow_their_words(source: str, output: str, phrases: dict[str, str], expected: str) -> None:
    markup = Markup(source)
    assert set(phrases) <= set(markup.phrases)
    sentence = re.match(r"[^.]*\.", markup.text), re.match(r"[^.]*\.", output)
    anchors = [(sentence[0].end(), sentence[1].end())] if sentence[0] and sentence[1] else []
    assert markup.render(output, anchors, phrases) == expected


def test_blocks_are_paragraphs_and_anchors_part_them() -> None:
    markup = Markup("<ul><li>Ein Hund<li>Zwei <b>Katzen</b></ul>")
    assert markup.text == "Ein Hund\n\nZwei Katzen"
    output = "A very big dog\n\nCats, two"
    anchors = [(0, 0), (8, 14), (10, 16), (21, 25)]
    assert markup.render(output, anchors, {"Katzen": "cats"}) == "<ul><li>A very big dog<li><b>Cats</b>, two</ul>"


def test_phrases_are_whole_words_of_a_line() -> None:
    markup = Markup(
        "<b>Ein</b> <i>gr</i>oßer <u>Hund.</u> <a>eins zwei drei vier fünf sechs</a><p><b>Nur dies.</b></p>"
    )
    assert markup.phrases == ["Ein", "Hund"]


class Nesting(HTMLParser):
    """Checks that tags are nested, and collects them and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def random_markup(draw: random.Random, depth: int, number: list[int]) -> str:
    parts = []
    for _ in range(draw.randint(1, 4)):
        kind = draw.random()
        if depth and kind < 0.5:
            number[0] += 1
            name = f"t{number[0]}"
            parts.append(f"<{name}>{random_markup(draw, depth - 1, number)}</{name}>")
        elif kind < 0.6:
            parts.append(draw.choice(["<img>", "<wbr>", "<x/>"]))
        else:
            parts.append(draw.choice(["Hund", "die Katze ", " bellt", ",", " x &amp; y", "\n ", " "]))
    return "".join(parts)


@pytest.mark.parametrize("seed", range(60))
def test_no_tag_and_no_text_is_lost(seed: int) -> None:
    draw = random.Random(seed)
    source = "Wort " + random_markup(draw, 3, [0])
    markup = Markup(source)
    words = [draw.choice(["dog", "the cat", "barks,", "&", "x"]) for _ in range(draw.randint(0, 8))]
    output = " ".join(words)
    phrases = {phrase: draw.choice(words or [""]) for phrase in markup.phrases}
    before, after = Nesting(), Nesting()
    before.feed(source)
    after.feed(markup.render(output, [], phrases))
    after.close()
    assert after.opened == []
    assert sorted(before.tags) == sorted(after.tags)
    assert "".join(after.text.split()) == "".join(output.split())


DOCUMENTS = [
    "<!DOCTYPE html><html><head><meta charset=utf-8><title>Ein</title><style>p{}</style></head>"
    "<body class=a><h1>Zwei <em>drei</em></h1><ul><li>vier<li>fünf <a href=x>sechs</a></ul></body></html>",
    "<table><tr><td>Ein <td>zwei<tr><td><b>drei</table><p>vier<p>fünf<div>sechs",
    "<p>Ein <b>zwei <i>drei</b> vier</i> fünf</p><select><option>sechs<option>sieben</select>",
    '<a href="x"y>Ein</a><a title=\'a>b\'>zwei</a><img alt="drei"/><br/>vier</br>fünf',
    "Ein &auml; &#228; &amp;amp; &lt;p&gt; &nbsp; zwei &copy drei",
]


@pytest.mark.parametrize("source", DOCUMENTS)
def test_a_parser_reads_the_same_tree_and_text(source: str) -> None:
    markup = Markup(source)
    assert LexborHTMLParser(markup.render(markup.text, [], {})).html == LexborHTMLParser(source).html
    tree = LexborHTMLParser(source)
    for node in tree.css("script, style"):
        node.decompose()
    assert tree.root is not None
    assert "".join(markup.text.split()) == "".join(tree.root.text(separator=" ").split())


def test_xml_elements_beside_text_are_inside_a_sentence() -> None:
    source = '<?xml version="1.0"?><Doc><Para>ein <x id="1"/> <T>hund</T></Para>\n<T>zwei</T><![CDATA[ein]]></Doc>'
    markup = Markup(source, XmlTags())
    assert markup.text.split("\n\n") == ["ein hund", "zwei"]
    assert markup.render(markup.text.upper(), [], {}) == source.replace(">ein <", ">EIN <").replace(
        "hund", "HUND"
    ).replace("zwei", "ZWEI")


def test_xml_tags_can_be_named() -> None:
    source = "<d>ein <s>zwei</s> drei <k>vier</k> <n>fünf</n></d>"
    tags = XmlTags(splitting=frozenset({"s"}), untranslated=frozenset({"k"}), by_content=False)
    assert Markup(source, tags).text.split("\n\n") == ["ein ", "zwei", "drei `X1` fünf"]
    assert upper(source, tags) == "<d>EIN <s>ZWEI</s> DREI <k>vier</k> <n>FÜNF</n></d>"
    inside = XmlTags(non_splitting=frozenset({"p"}))
    assert Markup("<d><p>ein</p> <p>hund</p></d>", inside).text == "ein hund"


@pytest.mark.parametrize(
    "source",
    [
        "<" * 20_000,
        "<a " * 10_000,
        "<!--" * 10_000,
        "<b>" * 6_000 + "ein" + "</b>" * 6_000,
        "<b>" * 6_000 + "ein" + "</i>" * 6_000,
        "<b>ein</b> " * 4_000,
        "<script>" * 6_000,
        "<a x=" + "= " * 10_000,
    ],
    ids=lambda source: source[:8],
)
def test_long_and_broken_markup_takes_linear_time(source: str) -> None:
    assert upper(source).upper() == source.upper()


@pytest.mark.parametrize(
    ("source", "output", "expected"),
    [
        ("<p>Bitte <code>a.txt</code> öffnen.</p>", "Please open.", "<p>Please <code>a.txt</code> open.</p>"),
        ("<p>Sie <kbd>Strg</kbd>+<kbd>C</kbd>.</p>", "You `X1`+`X2`.", "<p>You <kbd>Strg</kbd>+<kbd>C</kbd>.</p>"),
        ("<p>Hat 10 m<sup>2</sup> Fläche.</p>", "Has 10 m2 of area.", "<p>Has 10 m<sup>2</sup> of area.</p>"),
        ("<p>H<sub>2</sub>O ist H<sub>2</sub>O.</p>", "H2O is H2O.", "<p>H<sub>2</sub>O is H<sub>2</sub>O.</p>"),
    ],
)
def test_tags_between_words_and_within_them(source: str, output: str, expected: str) -> None:
    assert Markup(source).render(output, [], {}) == expected


@pytest.mark.parametrize(
    ("source", "text", "output", "expected"),
    [
        (
            "<p>Mit <kbd>Strg</kbd> wird <code>a&lt;<b>b</b></code> geöffnet.</p>",
            "Mit `X1` wird `X2` geöffnet.",
            "This opens `X2` & `x1`.",
            "<p>This opens <code>a&lt;<b>b</b></code> &amp; <kbd>Strg</kbd>.</p>",
        ),
        (
            "<p>Die <a href=x>Datei <code>a</code></a> fehlt.</p>",
            "Die Datei `X1` fehlt.",
            "The `X1` file is missing.",
            "<p>The <a href=x><code>a</code> file</a> is missing.</p>",
        ),
        (
            "<p>Von X1 nach <i translate=no>Bad Y1</i> fahren.</p>",
            "Von X1 nach `Z1` fahren.",
            "Go from X1 to `Z1`.",
            "<p>Go from X1 to <i translate=no>Bad Y1</i>.</p>",
        ),
        (
            "<p>Taste <svg><path d=1></svg> Start</p>",
            "Taste Start",
            "Key Start",
            "<p>Key <svg><path d=1></svg> Start</p>",
        ),
    ],
)
def test_elements_that_are_not_translated_are_read_as_placeholders(
    source: str, text: str, output: str, expected: str
) -> None:
    markup = Markup(source)
    assert markup.text == text
    assert markup.render(output, [], dict.fromkeys(markup.phrases, "file")) == expected


def test_neighbouring_buttons_labels_and_links_are_read_apart() -> None:
    source = "<button>Ja</button><button>Nein</button><label>Name</label><input><a>Start</a><a>Hilfe</a>"
    assert Markup(source).text.split("\n\n") == ["Ja", "Nein", "Name", "Start", "Hilfe"]
    assert Markup("<p><a>Start</a> und <a>Hilfe</a></p>").text == "Start und Hilfe"
