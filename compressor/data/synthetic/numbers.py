"""Numbers, dates, times and prices in German and English, in words and in digits."""

from __future__ import annotations

from random import Random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONES = _words(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_TENS = _words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_ENGLISH_ONES = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_ENGLISH_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_MONTHS = _words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
_ENGLISH_MONTHS = _words("January February March April May June July August September October November December")

Pair = tuple[str, str]


def german(number: int) -> str:
    """A number from 0 to 99 in German words (siebenundzwanzig: the ones come first)."""
    if number < 20:
        return "eins" if number == 1 else _ONES[number]
    tens, ones = divmod(number, 10)
    return (_ONES[ones] + "und" if ones else "") + _TENS[tens - 2]


def english(number: int) -> str:
    """A number from 0 to 99 in English words."""
    if number < 20:
        return _ENGLISH_ONES[number]
    tens, ones = divmod(number, 10)
    return _ENGLISH_TENS[tens - 2] + (f"-{_ENGLISH_ONES[ones]}" if ones else "")


def count(rng: Random) -> Pair:
    """Draws a number from 2 to 99, in words or digits."""
    number = rng.choice((rng.randint(2, 12), rng.randint(13, 99)))
    return (german(number), english(number)) if rng.random() < 0.7 else (str(number), str(number))


def clock(rng: Random) -> Pair:
    """Draws a time of day. German half counts towards the next hour: halb acht is half past seven."""
    hour, kind = rng.randint(1, 12), rng.randrange(5)
    following = hour % 12 + 1
    if kind == 0:
        return f"um {'ein' if hour == 1 else german(hour)} Uhr", f"at {english(hour)} o'clock"
    if kind == 1:
        return f"um halb {german(following)}", f"at half past {english(hour)}"
    if kind == 2:
        return f"um Viertel vor {german(hour)}", f"at a quarter to {english(hour)}"
    if kind == 3:
        return f"um Viertel nach {german(hour)}", f"at a quarter past {english(hour)}"
    hour24, minute = rng.randint(1, 23), rng.randrange(5, 60, 5)
    half = f"{(hour24 - 1) % 12 + 1}:{minute:02d} {'am' if hour24 < 12 else 'pm'}"
    return f"um {hour24}.{minute:02d} Uhr", f"at {half}"


def date(rng: Random) -> Pair:
    """Draws a day of the year, or a year."""
    if rng.random() < 0.3:
        year = rng.randint(1950, 2024)
        return f"im Jahr {year}", f"in {year}"
    month, day = rng.randrange(12), rng.randint(1, 28)
    return f"am {day}. {_MONTHS[month]}", f"on {_ENGLISH_MONTHS[month]} {day}"


def ago(rng: Random) -> Pair:
    """Draws a time before now (three weeks ago)."""
    unit = rng.choice((("Tagen", "days"), ("Wochen", "weeks"), ("Monaten", "months"), ("Jahren", "years")))
    words = count(rng)
    return f"vor {words[0]} {unit[0]}", f"{words[1]} {unit[1]} ago"


def price(rng: Random) -> Pair:
    """Draws a price; German writes a decimal comma, and a dot between thousands."""
    euros = rng.choice((rng.randint(2, 99), rng.randint(100, 999), 50 * rng.randint(20, 199)))
    if euros < 100 and rng.random() < 0.5:
        cents = rng.choice((20, 50, 80, 95))
        return f"für {euros},{cents} Euro", f"for {euros}.{cents} euros"
    return f"für {euros:,} Euro".replace(",", "."), f"for {euros:,} euros"
