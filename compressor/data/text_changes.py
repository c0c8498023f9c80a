"""Changes of an example's text: letter case, the final stop, typing mistakes, words that are missing or copied."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from compressor.data.examples import Example

Change = Callable[[Example, random.Random], Example]

STOPS = ".!?…"
COPIED = re.compile(
    r"%\d*\$?[-+0-9.]*[a-zA-Z%]|\$?\{[^{}\s]*\}|\$\w+|<[^<>]+>|\S+@\S+\.\S+|\w+://\S+|www\.\S+|0x[0-9a-fA-F]+|&\w+;|(?<!\S)--?\w[\w-]*|\w*[/\\_]\S+"
)
"""Placeholders, markup, addresses, options and paths: their letters keep their case."""
NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w])")
WORD_START = re.compile(rf"(?:{COPIED.pattern})|(?<!\S)([^\W\d_])")
"""What is copied, or as group 1 the first letter of a word that is not."""
WORD = re.compile(r"[^\W\d_]{4,}")
SWAP_SEPARATORS = str.maketrans(".,", ",.")
ROWS = ("qwertzuiopü", "asdfghjklöä", "yxcvbnm")
NEIGHBOURS = {letter: row[place + 1 : place + 2] or row[place - 1] for row in ROWS for place, letter in enumerate(row)}
"""The key to the right of each letter on a German keyboard; at the end of a row, the key to the left."""
SPELLINGS = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}
LETTERS_PER_TYPO = 40
MISSING_WORDS = 0.1
"""Share of a source's words."""
SYLLABLES = ("ba", "den", "fi", "ka", "lor", "mi", "net", "po", "qua", "ri", "sol", "ta", "ver", "web", "xen", "zu")
EMOJI = "😀😂🙂😉😍👍🎉🚀❤🔥🐶🍕⚠✅"
PLACEHOLDERS = ("%s", "%d", "%1$s", "%2$s", "%1", "%u", "{0}", "{name}", "{count}", "${value}", "$1", "%(file)s")


def upper_case(example: Example, rng: random.Random) -> Example:
    """Returns both sides in capital letters."""
    return _both(example, lambda text: _outside_copied(text, str.upper))


def title_case(example: Example, rng: random.Random) -> Example:
    """Returns both sides with a capital letter at the beginning of every word."""
    return _both(
        example, lambda text: WORD_START.sub(lambda match: match[0] if match[0] != match[1] else match[1].upper(), text)
    )


def lower_case(example: Example, rng: random.Random) -> Example:
    """Returns the source without a capital letter; the reference keeps its own."""
    return example._replace(source=_outside_copied(example.source, str.lower))


def no_stop(example: Example, rng: random.Random) -> Example:
    """Returns both sides without their final stop, where both have one."""
    if not ends_with_stop(example.source) or (example.target and not ends_with_stop(example.target)):
        return example
    return _both(example, lambda text: text.rstrip(STOPS).rstrip() or text)


def typos(example: Example, rng: random.Random) -> Example:
    """Returns the source with a typing mistake or more, one in forty letters."""
    text = example.source
    for _ in range(1 + len(text) // LETTERS_PER_TYPO):
        words = [word for word in WORD.finditer(text) if not COPIED.fullmatch(word[0])]
        if not words:
            break
        word = rng.choice(words)
        place = rng.randrange(word.start() + 1, word.end() - 1)
        text = text[: word.start()] + _misspelt(word[0], place - word.start(), rng) + text[word.end() :]
    return example._replace(source=text)


def missing_words(example: Example, rng: random.Random) -> Example:
    """Returns the source without one word in ten, at least one; a single word stays."""
    words = example.source.split(" ")
    if len(words) == 1:
        return example
    missing = set(rng.sample(range(len(words)), max(1, round(len(words) * MISSING_WORDS))))
    return example._replace(source=" ".join(word for place, word in enumerate(words) if place not in missing))


def copied(example: Example, rng: random.Random) -> Example:
    """Returns both sides with something that is copied: another number in place of a common one, or a new word."""
    if example.target is not None and rng.random() < 0.5 and (changed := _with_other_number(example, rng)):
        return changed
    token = rng.choice(COPIED_WORDS)(rng)
    return _both(example, rng.choice(PLACES)(token))


CHANGES: dict[str, Change] = {
    change.__name__: change for change in (upper_case, title_case, lower_case, no_stop, typos, missing_words, copied)
}


def ends_with_stop(text: str) -> bool:
    """Returns whether a text ends like a sentence."""
    return text.endswith(tuple(STOPS))


def _both(example: Example, change: Callable[[str], str]) -> Example:
    return Example(change(example.source), None if example.target is None else change(example.target))


def _outside_copied(text: str, change: Callable[[str], str]) -> str:
    pieces, end = [], 0
    for match in COPIED.finditer(text):
        pieces += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*pieces, change(text[end:])])


def _misspelt(word: str, place: int, rng: random.Random) -> str:
    """Returns a word with a mistake at ``place``, which is neither its first nor its last letter."""
    before, letter, after = word[:place], word[place], word[place + 1 :]
    special = [index for index, one in enumerate(word) if one in SPELLINGS]
    if special and rng.random() < 0.5:
        place = rng.choice(special)
        return word[:place] + SPELLINGS[word[place]] + word[place + 1 :]
    match rng.randrange(4):
        case 0:
            return before + after
        case 1:
            return before + letter + letter + after
        case 2:
            return before + after[0] + letter + after[1:]
        case _:
            return before + NEIGHBOURS.get(letter, letter) + after


def _with_other_number(example: Example, rng: random.Random) -> Example | None:
    """Returns both sides with another number; None where they share none that occurs once on each side."""
    assert example.target is not None
    numbers = NUMBER.findall(example.source)
    for number in numbers:
        for translated in (number, number.translate(SWAP_SEPARATORS)):
            if numbers.count(number) == 1 and NUMBER.findall(example.target).count(translated) == 1:
                new = "".join(rng.choice("123456789") if one.isdigit() else one for one in number)
                new = new if not number.isdigit() else str(rng.randrange(10 ** rng.randint(1, 6)))
                replaced = new if translated == number else new.translate(SWAP_SEPARATORS)
                return Example(_put(example.source, number, new), _put(example.target, translated, replaced))
    return None


def _put(text: str, number: str, new: str) -> str:
    return NUMBER.sub(lambda match: new if match[0] == number else match[0], text)


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3)))


COPIED_WORDS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: rng.choice(PLACEHOLDERS),
    lambda rng: rng.choice(PLACEHOLDERS),
    lambda rng: rng.choice(EMOJI),
    lambda rng: str(rng.randrange(10 ** rng.randint(1, 7))),
    lambda rng: ".".join(str(rng.randrange(30)) for _ in range(rng.randint(2, 4))),
    lambda rng: f"{rng.randint(1950, 2049)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
    lambda rng: f"https://{_name(rng)}.{rng.choice(('de', 'org', 'com'))}/{_name(rng)}",
    lambda rng: f"www.{_name(rng)}.{rng.choice(('de', 'org', 'com'))}",
    lambda rng: f"{_name(rng)}@{_name(rng)}.{rng.choice(('de', 'org', 'com'))}",
    lambda rng: f"/{_name(rng)}/{_name(rng)}.{rng.choice(('txt', 'conf', 'py'))}",
    lambda rng: f"--{_name(rng)}",
    lambda rng: f"{_name(rng)}_{_name(rng)}",
    lambda rng: f"0x{rng.randrange(16**6):06x}",
)
"""Makers of words that a translation copies."""


def _before_stop(text: str, word: str) -> str:
    return f"{text[:-1]} {word}{text[-1]}" if ends_with_stop(text) else f"{text} {word}"


PLACES: tuple[Callable[[str], Callable[[str], str]], ...] = (
    lambda word: lambda text: f"{word} {text}",
    lambda word: lambda text: f"{word}: {text}",
    lambda word: lambda text: f"{text} {word}",
    lambda word: lambda text: _before_stop(text, word),
    lambda word: lambda text: _before_stop(text, f"({word})"),
    lambda word: lambda text: f"<b>{text}</b>",
    lambda word: lambda text: f'<a href="{word}">{text}</a>',
)
"""Where a copied word, or markup, stands in both sides."""
