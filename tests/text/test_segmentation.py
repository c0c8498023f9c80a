"""Sentences of a text, and what stands between them: nothing is lost, and little is split wrongly."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from compressor.text.copied import needs_translation
from compressor.text.pieces import Sentence, join
from compressor.text.segmentation import segment
from compressor.text.sentences import WINDOW, split_sentences

NASTY = {
    "empty": "",
    "white space": " \t\u3000\n\r\n \u00a0",
    "CRLF": "Ja.\r\nNein.\r\n\r\nGut.",
    "Unicode separators": "Ja.\u2028Nein.\u2029Gut.\x85Gut\x0bgut\x0cgut",
    "carriage return": "Ja.\rNein.",
    "NUL": "Ja\x00. Nein.\x00",
    "right to left": "مرحبا. كيف حالك؟ \u202eabc\u202c שלום. Gut.",
    "combining marks": "e\u0301. A\u030a. \u0301\u0302",
    "emoji": "Ja! 👩‍👩‍👧 Nein. 🎉",
    "control tokens": "</s> <pad> Ja. </s>",
    "a word": "x" * 100_000,
    "white space only, long": " " * 200_000,
    "10,000 lines": "Zeile ohne Punkt am Ende\n" * 10_000,
    "10,000 wide lines": ("Das ist eine Zeile mit etwa sechzig Zeichen und ohne Punkt am En\n") * 10_000,
    "10,000 sentences": "Das ist ein Satz. " * 10_000,
    "Chinese": "今天天气很好。我们去公园。" * 2_000,
    "an open quotation": "„Er ging. " * 10_000,
    "a long quotation": "„" + "Er ging weg. " * 10_000 + "“",
    "quotation signs": ">" * 100_000,
    "bullets": "- " * 50_000,
    "numbers": "1. " * 50_000,
    "table": "|" * 20_000,
    "backticks": "`" * 50_001,
    "markup": "<a" * 50_000,
    "at signs": "a@b." * 25_000,
    "an open fence": "Ja.\n```\nNein.\n",
    "open fences": "```x\n" * 20_000,
    "open comments": "<!-- a\n" * 20_000 + "--> b\n-->\n",
    "open metadata": "---\n" + "a: b\n" * 20_000,
}
"""Inputs that are unusual, or that took a regular expression quadratic time."""


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
def test_pieces_join_to_the_exact_text(text: str) -> None:
    pieces = segment(text, "de")
    assert join(pieces) == text
    assert all(piece.flat == piece.flat.strip() for piece in pieces if isinstance(piece, Sentence))


def test_pieces_of_random_texts_join_to_the_exact_text() -> None:
    draw = random.Random(0)
    alphabet = 'aB3.!?:," \n\r\t\u2028\x00\x85„“()1.-*>#|`~🎉e\u0301مر。א\u202e'
    for _ in range(2000):
        text = "".join(draw.choices(alphabet, k=draw.randrange(60)))
        assert join(segment(text, draw.choice(["de", "en", "zh", "xx"]))) == text, repr(text)


def show(text: str, language: str = "de") -> list[str]:
    """Sentences in brackets, everything else as it is."""
    return [f"[{piece.flat}]" if isinstance(piece, Sentence) else piece for piece in segment(text, language)]


@pytest.mark.parametrize(
    "sentences",
    [
        "Das ist z. B. gut. |Er kommt.",
        "Dr. Müller und Prof. Meier, d. h. die Ärzte. |Gut.",
        "Am 3. Oktober war es. |Ja.",
        "Im 19. Jahrhundert begann der 2. Weltkrieg nicht.",
        "2. Bundesliga heute. |Tor!",
        "Inkl. MwSt. kostet es 5 Euro. |Die Fa. Bosch zahlt.",
        "Er sagte: „Komm her!“ |Dann ging er.",
        "„Wirklich?“ fragte sie. |Ja.",
        "A. Müller kam. |B. Schmidt ging.",
        "Version 2.0.1 von Node.js ist da. |Gut.",
        "das ist gut. |wie geht es dir? |gut.",
        "DAS IST GUT. |WIE GEHT ES?",
        "Es war 1989. |Dann kam 1990.",
    ],
)
def test_sentences_of_german(sentences: str) -> None:
    assert "|".join(split_sentences(sentences.replace("|", ""), "de")) == sentences


def test_a_long_quotation_is_split_and_its_marks_stay_with_their_sentences() -> None:
    inside = "Wir haben sehr lange auf diesen Tag gewartet und freuen uns darüber."
    text = f"Er sagte: „{' '.join([inside] * 6)}“ „Danke.“ Dann ging er."
    pieces = split_sentences(text, "de")
    assert pieces[0] == f"Er sagte: „{inside} " and pieces[5] == f"{inside}“ "
    assert "".join(pieces[6:]) == "„Danke.“ Dann ging er."


def test_a_window_splits_as_the_whole_text_does() -> None:
    text = "Am 3. Oktober kam Dr. Müller, z. B. aus Köln. Er ging im 2. Jahr. " * (4 * WINDOW // 60)
    assert set(split_sentences(text, "de")) == {
        "Am 3. Oktober kam Dr. Müller, z. B. aus Köln. ",
        "Er ging im 2. Jahr. ",
    }


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("# Titel\n\nText.\n", ["# ", "[Titel]", "\n\n", "[Text.]", "\n"]),
        ("  - Eins\n  * Zwei", ["  - ", "[Eins]", "\n  * ", "[Zwei]"]),
        ("1. Eins. Zwei.\n2) Drei", ["1. ", "[Eins.]", " ", "[Zwei.]", "\n2) ", "[Drei]"]),
        ("a) Eins\n(b) Zwei\n[x] Drei", ["a) ", "[Eins]", "\n(b) ", "[Zwei]", "\n[x] ", "[Drei]"]),
        ("1.2 Eins\n1.2.3. Zwei\n→ Drei", ["1.2 ", "[Eins]", "\n1.2.3. ", "[Zwei]", "\n→ ", "[Drei]"]),
        ("8.30 Uhr. Ja.\n1.5 mal zwei", ["[8.30 Uhr.]", " ", "[Ja.]", "\n", "[1.5 mal zwei]"]),
        ("\ufeff# Titel", ["\ufeff# ", "[Titel]"]),
        ("```pip``` ist gut.\nJa.", ["[`X1` ist gut.]", "\n", "[Ja.]"]),
        ("```sh\nEins\n```sh\nZwei\n```\nDrei", ["```sh\nEins\n```sh\nZwei\n```\n", "[Drei]"]),
        ("Ja.\n```\nNein.\n", ["[Ja.]", "\n```\n", "[Nein.]", "\n"]),
        ("<!-- Eins\nZwei -->\nDrei", ["<!-- Eins\nZwei -->\n", "[Drei]"]),
        ("<!-- Eins\nZwei", ["[<!-- Eins]", "\n", "[Zwei]"]),
        ("---\ntitle: Eins\ntags:\n  - Zwei\n---\nDrei", ["---\ntitle: Eins\ntags:\n  - Zwei\n---\n", "[Drei]"]),
        ("---\nEin Satz: gut.\n---\nZwei", ["---\n", "[Ein Satz: gut.]", "\n---\n", "[Zwei]"]),
        ("a. Eins\nB. Zwei", ["a. ", "[Eins]", "\nB. ", "[Zwei]"]),
        ("II. Drei\niv. Vier", ["II. ", "[Drei]", "\niv. ", "[Vier]"]),
        ("z. B. Katzen\nd. h. Ja\nv. Chr. war", ["[z. B. Katzen]", "\n", "[d. h. Ja]", "\n", "[v. Chr. war]"]),
        ("> Eins.\n> > Zwei.", ["> ", "[Eins.]", "\n> > ", "[Zwei.]"]),
        ("3. Oktober ist Feiertag.", ["[3. Oktober ist Feiertag.]"]),
        ("| Name | Wert |\n|---|---|\n| 3 | 4 |", ["| ", "[Name]", " | ", "[Wert]", " |\n|---|---|\n| 3 | 4 |"]),
        ("Los:\n```\nrm Datei\n```\nGut.", ["[Los:]", "\n```\nrm Datei\n```\n", "[Gut.]"]),
        ("Hallo.\n\nhttps://example.org/a\n", ["[Hallo.]", "\n\nhttps://example.org/a\n"]),
        ("Ja!  🎉  Nein.", ["[Ja!]", "  🎉  ", "[Nein.]"]),
        ("👍🏽 Gut gemacht ❤️\n🇩🇪 Hallo 👩‍👩‍👧!", ["👍🏽 ", "[Gut gemacht]", " ❤️\n🇩🇪 ", "[Hallo]", " 👩‍👩‍👧!"]),
        ("Taste 3️⃣", ["[Taste 3️⃣]"]),
        ("**Wichtig!** Mehr *hier*.\n_Ende_", ["**", "[Wichtig!]", "** ", "[Mehr hier.]", "\n_", "[Ende]", "_"]),
        ("**a** und **b**", ["[a und b]"]),
        ("> **Hinweis:** Nicht ändern! Gut.", ["> **", "[Hinweis:]", "** ", "[Nicht ändern!]", " ", "[Gut.]"]),
        ("**Hinweis**: Nicht ändern!", ["**", "[Hinweis]", "**: ", "[Nicht ändern!]"]),
        ("![Bild](a/b.png)", ["![", "[Bild]", "](a/b.png)"]),
        ('- [Hilfe](c.html "Titel")', ["- [", "[Hilfe]", '](c.html "Titel")']),
        ("Siehe [a](b) und [c](d)", ["[Siehe a und c]"]),
        ("Laden: https://a.de/b.\nFrist: morgen", ["[Laden:]", " https://a.de/b.\n", "[Frist: morgen]"]),
        ("Los:\n\n    make test\n    cd /tmp\n\nGut.", ["[Los:]", "\n\n    make test\n    cd /tmp\n\n", "[Gut.]"]),
        ("Los:\n\n    Wer reitet\n    so spät?", ["[Los:]", "\n\n    ", "[Wer reitet]", "\n    ", "[so spät?]"]),
        ("- Eins\n\n    und zwei", ["- ", "[Eins]", "\n\n    ", "[und zwei]"]),
        ("Wort\n: Erklärung.", ["[Wort]", "\n: ", "[Erklärung.]"]),
        ("Name\tAlter\t42\nSo\tGut. Ja.", ["[Name]", "\t", "[Alter]", "\t42\n", "[So]", "\t", "[Gut.]", " ", "[Ja.]"]),
        ('Anna;"Köln, Mitte";12,50', ["[Anna]", ';"', "[Köln, Mitte]", '";12,50']),
        ("Eins; zwei; drei", ["[Eins; zwei; drei]"]),
        ("Eins;zwei", ["[Eins;zwei]"]),
        ("&lt;Name&gt; fehlt", ["[&lt;Name&gt; fehlt]"]),
        (">>eng<< Ja.", ["[>>eng<< Ja.]"]),
    ],
)  # fmt: skip
def test_layout_stays_out_of_the_sentences(text: str, pieces: list[str]) -> None:
    assert show(text) == pieces


WRAPPED = """\
Diese Anleitung beschreibt ausführlich, wie man das
Programm einrichtet. Sie ist
kurz.
"""


def test_wrapped_lines_are_read_as_running_text() -> None:
    first, _, second, _ = segment(WRAPPED, "de")
    assert isinstance(first, Sentence) and isinstance(second, Sentence)
    assert first.flat == "Diese Anleitung beschreibt ausführlich, wie man das Programm einrichtet."
    assert first.breaks == ((51, "\n"),)
    assert second.text == "Sie ist\nkurz."


@pytest.mark.parametrize(
    "text",
    [
        "Datei öffnen\nDatei speichern\nBeenden",
        "Ein Titel\nDieser Absatz hat eine Zeile, die recht lang ist, damit sie umbrochen aussieht",
        "Dieser Absatz hat eine Zeile, die recht lang ist, damit\n- ein Punkt einer Liste folgt",
        "Dieser Absatz hat eine Zeile, die recht lang ist, damit  \nZeilen in Markdown folgen",
        "> Dieser Absatz hat eine Zeile, die recht lang ist, damit\nZeilen ohne Zitat folgen",
        "Ein Absatz, der gar nicht umbrochen ist, ist lang. " * 4 + "Und so\nweiter geht es hier",
    ],
)
def test_lines_that_were_not_wrapped_stay_apart(text: str) -> None:
    assert not any(isinstance(piece, Sentence) and piece.breaks for piece in segment(text, "de"))


@pytest.mark.parametrize(
    ("output", "wrapped"),
    [
        ("eins zwei drei vier fünf sechs", "eins zwei\n> drei vier\n> fünf sechs"),
        ("eins zwei", "eins\n> zwei"),
        ("eins", "eins"),
        ("", ""),
    ],
)
def test_an_output_gets_the_line_breaks_of_its_sentence(output: str, wrapped: str) -> None:
    sentence = Sentence("aaaaaaaaa bbbbbbbbbb cccccccccc", ((9, "\n> "), (20, "\n> ")))
    assert sentence.text == "aaaaaaaaa\n> bbbbbbbbbb\n> cccccccccc"
    assert sentence.rewrap(output) == wrapped


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("Hund", True), ("犬", True), ("5 kg", True), ("und/oder", True), ("Siehe https://a.de", True), ("Q&A", True),
        ("", False), ("18,10 €", False), ("+49 30 123-45", False), ("... – !?", False), ("🎉👍", False),
        ("\u0301", False),
        ("https://example.org/a?b=c", False), ("www.example.org.", False), ("<mailto:a.b@example.org>", False),
        ("a.b@example.org", False), ("a@b", True), ("@a.b", True), ("/usr/local/bin", False), ("~/x ./y ../z", False),
        ("C:\\Windows\\x.dll", False), ("docs/index.md", False), ("%1$s", False), ("%d %(name)s", False),
        ("{name}", False), ("${HOME}", False), ("{{ user }}", False), ("<br/>", False), ("</s>", False),
        ("0x80070005", False), ("v2.0.1-beta", False), ("--port=80 -v", False), ("config.yaml", False),
        ("max_size", False), ("<!-- Wort -->", False), ("z.B.", True), ("-Datei", True), ("E-Mail", True),
        ("Co.", True),
        ("<b>fett</b>", True), ("`ls -l`", False), ("`ls` zeigt", True), ("https://a.de b@c.de 5", False),
    ],
)  # fmt: skip
def test_texts_without_a_word_need_no_translation(text: str, needed: bool) -> None:
    assert needs_translation(text) is needed


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import compressor.text.segmentation"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Alles klar 😊 bis morgen", ["[Alles klar]", " 😊 ", "[bis morgen]"]),
        ("Danke ❤️!", ["[Danke]", " ❤️!"]),
        ("Schritt 1 ➡️ Datei öffnen", ["[Schritt 1]", " ➡️ ", "[Datei öffnen]"]),
        ("**Gut 😀.**", ["**", "[Gut]", " 😀.**"]),
        ("**Ein Satz. Noch ein Satz.**", ["**", "[Ein Satz.]", " ", "[Noch ein Satz.]", "**"]),
        ("- **Datei** - Öffnet eine.", ["- **", "[Datei]", "** - ", "[Öffnet eine.]"]),
        ("Siehe:\n[Anleitung](anleitung.md).", ["[Siehe:]", "\n", "[Anleitung.]"]),
        ("| `-d` | Name \\| Pfad | – |", ["| `-d` | ", "[Name | Pfad]", " | – |"]),
        ("<!-- Kommentar --> Der Hund.", ["<!-- Kommentar --> ", "[Der Hund.]"]),
        ("Fehler: %s\\nBitte erneut.", ["[Fehler:]", " %s\\n", "[Bitte erneut.]"]),
        ("Der Ordner C:\\neu ist leer.", ["[Der Ordner `X1` ist leer.]"]),
        ("IBAN: DE89 3704 0044", ["[IBAN:]", " DE89 3704 0044"]),
        ("Preis: 18,10 €", ["[Preis: 18,10 €]"]),
        ("1. Der Hund. 2. Die Katze. 3. Die Maus.",
         ["1. ", "[Der Hund.]", " ", "[2. Die Katze.]", " ", "[3. Die Maus.]"]),
        ("Im 19. und 20. Jahrhundert war das so.", ["[Im 19. und 20. Jahrhundert war das so.]"]),
        ("Am Freitag, 13. Juni, ist zu.", ["[Am Freitag, 13. Juni, ist zu.]"]),
        ("Anfang 3. Quartal, den 1., 2. und 3. Preis.", ["[Anfang 3. Quartal, den 1., 2. und 3. Preis.]"]),
        ("Herr Dipl.-Ing. Meier kommt. Best.-Nr. A12.", ["[Herr Dipl.-Ing. Meier kommt.]", " ", "[Best.-Nr. A12.]"]),
    ],
)  # fmt: skip
def test_marks_codes_and_numbers_within_a_line(text: str, pieces: list[str]) -> None:
    assert show(text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Das *ist* `a b` **gut**.", ["[Das ist `X1` gut.]"]),
        ("Die X1 hat `a`.", ["[Die X1 hat `Y1`.]"]),
        ("Das ist **gut. Und schlecht.** Ende.", ["[Das ist gut.]", " ", "[Und schlecht.]", "** ", "[Ende.]"]),
        ("Der *Kap. B. 2* und `a. B`.", ["[Der Kap. B. 2 und `X1`.]"]),
        ("- `foo` – Tut etwas.\n- `-v`: Zeigt mehr.", ["- `foo` – ", "[Tut etwas.]", "\n- `-v`: ", "[Zeigt mehr.]"]),
        ("**[Hilfe](a.html):** Mehr.", ["**", "[Hilfe:]", "** ", "[Mehr.]"]),
        ("[![Bau](a.png)](b) Das ist gut.", ["[![", "[Bau]", "](a.png)](b) ", "[Das ist gut.]"]),
        ("Klick ![Rad](a.png) an.", ["[Klick `X1` an.]"]),
        ("![](a.png)", ["![](a.png)"]),
        ("Siehe: `pip install x`", ["[Siehe:]", " `pip install x`"]),
        ("Das Zeichen `\\n` trennt.", ["[Das Zeichen `X1` trennt.]"]),
        ("Schreib an <a.b@c.de> oder <https://a.de>.", ["[Schreib an `X1` oder `X2`.]"]),
        ("Eins<br>zwei <b>drei</b><img src=a>", ["[Eins]", "<br>", "[zwei drei]", "<img src=a>"]),
        ("List<String> ist <Name>", ["[List<String> ist <Name>]"]),
        ("</div>", ["</div>"]),
        ("Ein Text[^1].\n\n[^1]: Eine *Note*.", ["[Ein Text.]", "\n\n[^1]: ", "[Eine Note.]"]),
        ("Die [FAQ] hilft.\n\n[FAQ]: a.html 'Titel'", ["[Die FAQ hilft.]", "\n\n[FAQ]: a.html 'Titel'"]),
        ("Die [FAQ] hilft.", ["[Die [FAQ] hilft.]"]),
        ("[Anna]: Hallo", ["[[Anna]: Hallo]"]),
        ("> [!NOTE]\n> Gut.", ["> [!NOTE]\n> ", "[Gut.]"]),
        (":::tip\nGut.\n:::", [":::tip\n", "[Gut.]", "\n:::"]),
        ("<pre>\nEin Hund\n\nbellt</pre>\nGut.", ["<pre>\nEin Hund\n\nbellt</pre>\n", "[Gut.]"]),
        ("<pre>\nEin Hund", ["<pre>\n", "[Ein Hund]"]),
        ("Der <a href='b'\n  title='c'\n  id=d>Link</a> geht.", ["[Der Link geht.]"]),
        ("Der <a href='b'\n  title='c'\n>Link</a> geht.", ["[Der Link geht.]"]),
        ("<div\n  title='Ein Titel'\n>\nEin Satz.</div>", ["<div\n  title='Ein Titel'\n>\n", "[Ein Satz.]", "</div>"]),
        ("> Ein Zitat <b\n> mit zwei Zeilen.", ["> ", "[Ein Zitat <b]", "\n> ", "[mit zwei Zeilen.]"]),
        ("<div class='a'\n  id='b'>\nGut.", ["<div class='a'\n  id='b'>\n", "[Gut.]"]),
        ("Wenn a <b\nGut.", ["[Wenn a <b]", "\n", "[Gut.]"]),
        ('Anna;"Köln; Mitte";12', ["[Anna]", ';"', "[Köln; Mitte]", '";12']),
        ('"Ja; gut";"Nein"', ['"', "[Ja; gut]", '";"', "[Nein]", '"']),
        ('Er sagte "Ja; nein"; dann ging er.', ['[Er sagte "Ja; nein"; dann ging er.]']),
    ],
)  # fmt: skip
def test_inline_signs_are_no_part_of_the_sentences(text: str, pieces: list[str]) -> None:
    assert show(text) == pieces
    assert join(segment(text, "de")) == text


@pytest.mark.parametrize(
    "text",
    [
        "Liebe Kolleginnen und Kollegen, liebe Freunde des Hauses\nAm Montag bleibt das Büro geschlossen.",
        "Zutaten für vier Personen und einen kleinen Hund:\n200 g Mehl\n3 Eier",
        "[12:01] Anna: Hallo zusammen, seid ihr schon da oder noch unterwegs?\n[12:02] Ben: Bin gleich da",
        "dialog.title=Möchten Sie die Datei wirklich löschen\ndialog.ok=Ja\ndialog.no=Nein",
        "2024-10-03 12:00:01 ERROR Datei konnte nicht geöffnet werden\n2024-10-03 12:00:02 INFO Neustart",
        "Von: Anna Schmidt <anna.schmidt@example.de>\nAn: support@example.com",
    ],
)
def test_lines_that_were_never_wrapped_stay_apart(text: str) -> None:
    pieces = segment(text, "de")
    assert [piece for piece in pieces if isinstance(piece, Sentence) and piece.breaks] == []


def test_items_are_read_on_where_the_paragraph_was_wrapped() -> None:
    text = "Das Programm schreibt in jedem Fall mindestens\n20 Zeilen, und danach ist die Datei wieder so\ngroß."
    assert [piece.flat for piece in segment(text, "de") if isinstance(piece, Sentence)] == [text.replace("\n", " ")]


@pytest.mark.parametrize(
    "text", ["`a` " * 50_000, "a" + " " * 100_000 + "b", "<!--" * 25_000, ": x" * 30_000, "😀 " * 50_000]
)
def test_long_rows_of_signs_take_linear_time(text: str) -> None:
    start = time.monotonic()
    assert join(segment(text, "de")) == text
    assert time.monotonic() - start < 20
