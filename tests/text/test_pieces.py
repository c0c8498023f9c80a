"""Inline signs of a sentence in its translation: each once, around the words that correspond."""

from __future__ import annotations

import random
import re
import time

import pytest
from markdown_it import MarkdownIt

from compressor.text.pieces import Sentence, join
from compressor.text.placeholders import without_echoes
from compressor.text.segmentation import segment


def sentence_of(text: str) -> Sentence:
    (sentence,) = (piece for piece in segment(text, "de") if isinstance(piece, Sentence))
    return sentence


@pytest.mark.parametrize(
    ("text", "output", "phrases", "rendered"),
    [
        ("Der **Hund** sah *alle* Katzen.", "The dog saw all cats.", {"Hund": "Dog", "alle": "All"},
         "The **dog** saw *all* cats."),
        ("Gestern war [das Haus](a.html#b_c) leer.", "The house was empty yesterday.", {"das Haus": "The house"},
         "[The house](a.html#b_c) was empty yesterday."),
        ("Mit `a b` geht `c`.", "`X2` works with `X1`.", {}, "`c` works with `a b`."),
        ("Mit `a` geht es.", "It works with X1, X1.", {}, "It works with `a`, `a`."),
        ("Mit `a`, `b` und `c`.", "With `X1`, `X3` and `X3`.", {}, "With `a`, `b` and `c`."),
        ("Mit `a` geht es.", "これはX1を使う。", {}, "これは`a`を使う。"),
        ("Mit `a` und `b`.", "With `X2`.", {}, "`a` With `b`."),
        ("Mit `a` geht es.", "It works.", {}, "It `a` works."),
        ("Der [Befehl `a`](b) läuft.", "The `X1` command runs.", {"Befehl": "command"},
         "The [`a` command](b) runs."),
        ("Das ist **`a`** und [`b`](c).", "This is `X1` and `X2`.", {}, "This is **`a`** and [`b`](c)."),
        ("Klick ![Rad](a.png) an.", "Click `X1`.", {"Rad": "Wheel"}, "Click ![Wheel](a.png)."),
        ("Die [FAQ] hilft der [Katze][].", "The FAQ helps the cat.", {"FAQ": "FAQ", "Katze": "cat"},
         "The [FAQ] helps the [cat][Katze]."),
        (r"Es kostet 2 \* 3 Euro\*.", "It costs 2 * 3 euros*.", {}, r"It costs 2 \* 3 euros\*."),
        ("Er sagte __Ja__ dazu.", "Yes, he said.", {"Ja": "Yes"}, "__Yes__, he said."),
        ("Note[^1] und Ende.", "A note and end.", {}, "A note[^1] and end."),
        ("Ein ***Hund*** bellt.", "A dog barks.", {"Hund": "dog"}, "A ***dog*** barks."),
        ("Ein ~~alter~~ Hund.", "", {"alter": "old"}, ""),
        ("Ein [Hund](a) bellt.", "", {}, "[Hund](a)"),
        ("Ein <i>Hund</i> bellt.", "", {}, "<i></i>"),
        ("Das <b>war *gut*</b> hier.", "It was good here.", {"war gut": "was good", "gut": "good"},
         "It <b>was *good*</b> here."),
        ("Er ist *sicher* da.", "He is safely there.", {"sicher": "safe"}, "He is *safely* there."),
        ("Die [Liste der Hunde](a) fehlt.", "The list of the dogs is missing.", {"Liste der Hunde": "List of dogs"},
         "The [list of the dogs](a) is missing."),
        ("Er ändert die **ID des Autors**.", "He changes the author's ID.", {"ID des Autors": "ID of the author"},
         "He changes **the author's ID**."),
        ("Der Name **Alma** ist alt.", "The name of it is old.", {}, "The **name** of it is old."),
        ("Kommt, *los jetzt*!", "Come, go!", {}, "Come, *go*!"),
    ],
)  # fmt: skip
def test_signs_are_placed_in_the_translation(text: str, output: str, phrases: dict[str, str], rendered: str) -> None:
    sentence = sentence_of(f"{text}\n\n[faq]: a.html\n[katze]: b.html")
    assert sentence.render(output, phrases) == rendered
    assert set(phrases) <= set(sentence.phrases)


def test_signs_of_an_element_that_goes_on_in_the_next_sentence() -> None:
    text = "Das ist **sehr gut. Es ist** neu."
    first, second = (piece for piece in segment(text, "de") if isinstance(piece, Sentence))
    assert first.render("This is very good.", {"sehr gut": "very good"}) == "This is **very good."
    assert second.render("It is new.", {"Es ist": "It is"}) == "It is** new."


def test_line_breaks_come_with_signs() -> None:
    text = (
        "> Das Programm schreibt **in jedem Fall** noch `eine\n> Datei` ohne Inhalt, und zwar auch dann, wenn sie\n"
        "> *neu* ist."
    )
    sentence = sentence_of(text)
    assert (sentence.flat[-8:], sentence.breaks) == ("neu ist.", ((87, "\n> "),))
    output = "In any case, the program writes a `X1` file without any contents, even if it is new."
    rendered = sentence.render(output, {"in jedem Fall": "In any case", "neu": "new"})
    assert rendered == (
        "**In any case**, the program writes a `eine\n> Datei` file without any contents, even if it\n> is *new*."
    )


def test_underscores_within_a_word_become_asterisks() -> None:
    sentence = sentence_of("Wort " + "_ein_ " * 60)  # so many are placed in proportion
    rendered = sentence.render("x" * len(sentence.flat), {})
    assert "_" not in rendered and rendered.replace("*", "") == "x" * len(sentence.flat)


def test_phrases_are_words_that_need_a_translation() -> None:
    text = "Die **Maus** [42](a) und `b` *eins zwei drei vier fünf sechs sieben* ![Ein Bild](c) <b>Maus</b>."
    assert sentence_of(text).phrases == ["Ein Bild", "Maus", "eins zwei drei vier fünf sechs sieben"]
    assert sentence_of("Ein Hund bellt.").phrases == []


PARTS = ["Hund", "die", "Wort. Der", "`ls -l`", "**", "*", "_", "~~", "[", "](x.html)", "![Bild](b.png)", "<b>", "</b>",
         "<br>", "<kbd>K</kbd>", "<https://a.de>", "\\*", "[^1]", "[l]", " ", "\n", ",", "<!-- c -->", "**fett**",
         "*kursiv*", "[ein Link](u)", "**ein `b` da**", "😀", ":", " – ", "|", ";", "\\n"]  # fmt: skip
WORDS = ["dog", "the", "cat", "`X1`", "X2", "`X3`", "x1", "is", ",", ".", "*", "`", "(", "`X1", "X10"]


@pytest.mark.parametrize("seed", range(6))
def test_no_code_and_no_letter_is_lost(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(300):
        text = "".join(draw.choice(PARTS) + draw.choice([" ", ""]) for _ in range(draw.randrange(1, 25)))
        pieces = segment(text + draw.choice(["", "\n[l]: u/v"]), "de")
        assert join(pieces).startswith(text)
        for sentence in (piece for piece in pieces if isinstance(piece, Sentence)):
            output = " ".join(draw.choices(WORDS, k=draw.randrange(12)))
            phrases = {phrase: draw.choice(["dog", "the cat", "X1", ""]) for phrase in sentence.phrases}
            rendered = sentence.render(output, phrases)
            assert all(mark.raw in rendered for mark in sentence.marks if mark.kind == "verbatim")
            letters = iter(rendered)
            expected = re.sub(r"`?\b[Xx]\d+\b`?|[^a-z]", "", without_echoes(output))
            assert all(letter in letters for letter in expected), (sentence, output)


@pytest.mark.parametrize("seed", range(4))
def test_a_translation_has_the_elements_of_its_source(seed: int) -> None:
    peer = MarkdownIt("commonmark").enable("strikethrough")
    draw = random.Random(seed)
    words = ["Hund", "Katze", "sieht", "den", "alten", "Baum", "„Ja“", "nur"]
    signs = ["{}", "{}", "**{}**", "*{}*", "_{}_", "~~{}~~", "[{}](a_b.html)", "`{}`", "***{}***"]
    for _ in range(200):
        text = " ".join(draw.choice(signs).format(draw.choice(words)) for _ in range(draw.randrange(2, 8)))
        sentence = Sentence("")
        for piece in segment(f"Es ist {text} da.", "de"):
            sentence = piece if isinstance(piece, Sentence) else sentence
        tokens = draw.sample(sentence.flat.split(), k=len(sentence.flat.split()))
        read, written = (
            sorted(token.type for token in peer.parseInline(line)[0].children or [] if token.type != "text")
            for line in (sentence.text, sentence.render(" ".join(tokens), {}))
        )
        assert written == read


@pytest.mark.parametrize("part", ["*a* ", "[a](b) ", "`a` ", "**`a`** ", "*_", "<b>a ", "<b>a</b> ", "\\*a ", "[^1]a "])
def test_many_signs_take_linear_time(part: str) -> None:
    start = time.monotonic()
    sentence = sentence_of("Wort " + part * (8_000 // len(part)))
    sentence.render(sentence.flat.lower(), dict.fromkeys(sentence.phrases, "a"))
    assert time.monotonic() - start < 10
