"""What a translation has exactly as its source."""

from __future__ import annotations

import pytest

from compressor.text.literals import literal_spans
from compressor.text.pieces import Sentence
from compressor.text.segmentation import segment


@pytest.mark.parametrize(
    ("text", "literals"),
    [
        ("Siehe https://a.de/b-und-c.pdf.", ["https://a.de/b-und-c.pdf"]),
        ("(Siehe https://de.wikipedia.org/wiki/Haus_(Bau)), ja", ["https://de.wikipedia.org/wiki/Haus_(Bau)"]),
        ("„ftp://a.b“ oder www.beispiel.de/x?", ["ftp://a.b", "www.beispiel.de/x"]),
        ("An hans.maier+x@bei-spiel.co.uk.", ["hans.maier+x@bei-spiel.co.uk"]),
        ("Auf beispiel.de, unter beispiel.org/hilfe", ["beispiel.de", "beispiel.org/hilfe"]),
        ("Alt.Es war neu. Ende.das z.B. S.5, 3.10.2024, 8.30 Uhr", []),
        ("C:\\Neue Dateien, \\\\server\\teil; in", ["C:\\Neue", "\\\\server\\teil"]),
        ("„/etc/hosts“, ~/x und ../y/z", ["/etc/hosts", "~/x", "../y/z"]),
        ("und/oder, km/h, AC/DC, 24/7, / und /x", []),
        ("Foto.JPG, ein-plan.v2.tar.gz.", ["Foto.JPG", "ein-plan.v2.tar.gz"]),
        ("{name} {{ user.name }} ${x} {0} {}", ["{name}", "{{ user.name }}", "${x}", "{0}", "{}"]),
        ("$HOME %(pfad)s %TEMP% $5", ["$HOME", "%(pfad)s", "%TEMP%"]),
        ("Von { a bis b } und $a$: 100% Wolle %s", []),
        ("%{title} (%{n}.%{m}) $A=1, %(model)s.%(field)s.", ["%{title}", "%{n}.%{m}", "$A=1", "%(model)s.%(field)s"]),
        ("18 Staaten und D.C. feiern, d.h. z.B. stdio.h und ab.py", ["stdio.h", "ab.py"]),
        ("Tel. +49 (30) 123 45-67, 0800/123 45 67.", ["+49 (30) 123 45-67", "0800/123 45 67"]),
        ("IBAN DE89 3704 0044 0532 0130 00 mit 12 345 678 EUR, 0,5 und 08.30", ["DE89 3704 0044 0532 0130 00"]),
        ("max_new_tokens und --port=80, a--b, _a_", ["max_new_tokens", "--port=80"]),
        ("</s> und <unk>, <b>", ["</s>", "<unk>"]),
        ("Das α-Teilchen, Ω und µm", ["α", "Ω"]),
        ("Auf Russisch: Добрый день, мир! 你好，世界 שלום Köln", ["Добрый день, мир", "你好，世界 שלום"]),
    ],
)  # fmt: skip
def test_spans(text: str, literals: list[str]) -> None:
    assert [text[start:end] for start, end in literal_spans(text, "de")] == literals


def test_letters_of_the_languages_own_script_are_words() -> None:
    assert list(literal_spans("Добрый день, α, Bär", "ru")) == []


@pytest.mark.parametrize(
    "text", ["de." * 30_000, "a@" * 50_000, "{a" * 50_000, "я, " * 30_000, "/a" * 50_000, "a" * 10**5]
)
def test_long_words_take_linear_time(text: str) -> None:
    assert len(list(literal_spans(text, "de"))) < 2


@pytest.mark.parametrize(
    ("text", "read", "written", "rendered"),
    [
        ("Laden Sie https://a.de/b.", "Laden Sie `X1`.", "Download `X1`.", "Download https://a.de/b."),
        ("**{n}** von *{m}* Dateien.", "`X1` von `X2` Dateien.", "`X1` of `X2` files.", "**{n}** of *{m}* files."),
        ("Siehe [{n}](https://a.de) da.", "Siehe `X1` da.", "See `X1` there.", "See [{n}](https://a.de) there."),
        ("Laden Sie {n}.", "Laden Sie `X1`.", "Load from `X1` from `X1`.", "Load from {n}."),
        ("Laden Sie {n}.", "Laden Sie `X1`.", "Load `X1`, `X1` `X1` now.", "Load {n} now."),
        ("X1 und {n}.", "X1 und `Y1`.", "X1 and `Y1`.", "X1 and {n}."),
        ("Das Wort мир heißt so.", "Das Wort `X1` heißt so.", "It is called `X1`.", "It is called мир."),
    ],
)
def test_models_read_placeholders(text: str, read: str, written: str, rendered: str) -> None:
    (sentence,) = segment(text, "de")
    assert isinstance(sentence, Sentence) and sentence.flat == read
    assert sentence.render(written, {}) == rendered


@pytest.mark.parametrize("text", ["你好世界。", "Привет, мир.", "https://a.de/b, {n}", "</s>"])
def test_without_other_words_a_text_stays_as_it_is(text: str) -> None:
    assert segment(text, "de") == [text]
