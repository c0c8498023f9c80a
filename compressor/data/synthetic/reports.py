"""Draws short reports with headlines: the embedded corpus for summarization.

A headline follows from its report alone. Its facts are in different sentences, in varying order and wording, between
sentences that do not matter; numbers in words become digits; the winner follows from the score, and the decision from
the vote. So the first sentence alone never determines the headline.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from compressor.data.synthetic.lexicon import (
    CITIES,
    MEN,
    WOMEN,
    pairs,
)
from compressor.data.synthetic.numbers import english

Facts = tuple[list[str], str]
"""Sentences that the headline needs, the opening first, and the headline."""

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_SURNAMES = "Becker Brandt Fischer Hoffmann Keller Krause Lange Meyer Novak Petersen Richter Rossi Schulz Vogel Weber"
_COMPANIES = "Nordwind Altmark Belmont Carema Delphin Elbtal Fontana Granit Helvia Orbis Primus Solara Tavora Veltis"
_PRODUCTS = "furniture|bicycles|shoes|solar panels|toys|kitchen machines|medicine|software|paper|chocolate"
_PROJECTS = "bridge|school|hospital|stadium|library|tram line|swimming pool|bus station|market hall|theater"
_ANIMALS = "penguin|tiger|monkey|parrot|snake|kangaroo|flamingo|wolf|goat|turtle"
_SPOTS = "garage|garden|supermarket|church|school yard|parking lot|kitchen|post office|cinema|barn"
_MUSEUMS = "railway museum|art museum|toy museum|city museum|museum of photography|maritime museum"
_GROUPS = "bus drivers|nurses|teachers|train drivers|pilots|postal workers|bakers|dock workers"
_CUPS = "cup final|opening match|semi-final|quarter-final|derby"
_DISASTERS = "storm|flood|fire|earthquake|snowstorm|explosion"
_HABITS = (
    ("slept eight hours", "sleeping eight hours"), ("walked every day", "walking every day"),
    ("ate less sugar", "eating less sugar"), ("learned a language", "learning a language"),
    ("played an instrument", "playing an instrument"), ("worked at night", "working at night"),
    ("drank a lot of coffee", "drinking a lot of coffee"), ("owned a dog", "owning a dog"),
)  # fmt: skip
_EFFECTS = (
    ("remembered more words", "memory", True), ("fell ill less often", "health", True),
    ("solved problems faster", "thinking", True), ("slept worse", "sleep", False),
    ("made more mistakes", "concentration", False), ("felt tired more often", "energy", False),
)  # fmt: skip
_FILLERS = (
    "{name}, who lives nearby, said: \"I have never seen anything like it.\"",
    "The mayor, {name}, will speak to reporters on {day}.",
    "It was the {nth} time this year.",
    "Local people talked about nothing else on {day}.",
    "The weather was cold and wet.",
    "A spokeswoman, {woman}, did not want to comment.",
    "Pictures were shared thousands of times on the internet.",
    "A television crew from {city} was there as well.",
    "{name} from {city} had predicted this in a letter to the newspaper.",
    "Something similar happened in {city} {n} years ago.",
    "\"We are all very surprised,\" said {name}.",
    "Nobody had expected it so soon.",
)  # fmt: skip


def report_pair(rng: Random) -> tuple[str, str]:
    """Draws one report of three to six sentences and its headline."""
    sentences, headline = rng.choice(_EVENTS)(rng)
    fillers = rng.sample(_FILLERS, rng.randint(max(0, 3 - len(sentences)), 6 - len(sentences)))
    opening, *rest = sentences
    rest += [_fill(rng, filler) for filler in fillers]
    rng.shuffle(rest)
    if rng.random() < 0.2:  # not every report opens with its subject
        rest.insert(1, opening)
    else:
        rest.insert(0, opening)
    return " ".join(rest), headline[0].upper() + headline[1:]


def _fill(rng: Random, filler: str) -> str:
    """Draws what stands in the braces of a sentence."""
    nth = rng.choice(("second", "third", "fourth", "fifth"))
    woman = f"{rng.choice(WOMEN.split())} {rng.choice(_SURNAMES.split())}"
    return filler.format(
        name=_name(rng), woman=woman, day=_day(rng), city=_city(rng), nth=nth, n=english(rng.randint(2, 60))
    )


def _name(rng: Random) -> str:
    """Draws first name and surname of a person."""
    return f"{rng.choice((WOMEN + ' ' + MEN).split())} {rng.choice(_SURNAMES.split())}"


def _day(rng: Random) -> str:
    """Draws a day of the week."""
    return rng.choice(_DAYS.split())


def _city(rng: Random) -> str:
    """Draws the English name of a city."""
    return rng.choice(pairs(CITIES))[1]


def _one(rng: Random, words: str) -> str:
    """Draws one of the words in a list that is separated by bars."""
    return rng.choice(words.split("|"))


def _number(rng: Random, low: int, high: int) -> tuple[int, str]:
    """Draws a number, with its spelling in the report: words or digits."""
    number = rng.randint(low, high)
    return number, english(number) if number < 100 and rng.random() < 0.6 else f"{number:,}"


def _an(word: str) -> str:
    """Puts a or an before a word."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _disaster(rng: Random) -> Facts:
    """Draws sentences and headline on a disaster in a city."""
    kind, city = _one(rng, _DISASTERS), _city(rng)
    hurt, hurt_words = _number(rng, 2, 80)
    homes, homes_words = 100 * rng.randint(2, 90), rng.choice(("were without power", "had no electricity"))
    dark = f"About {homes:,} homes {homes_words} for hours."
    force = {"earthquake": "strong", "explosion": "loud"}.get(kind, "heavy")
    opening = rng.choice((
        f"A {force} {kind} hit {city} on {_day(rng)} morning.",
        f"People in {city} will not forget the {kind} of last {_day(rng)}.",
    ))  # fmt: skip
    if rng.random() < 0.5:
        treated = rng.choice(
            (f"Doctors treated {hurt_words} people.", f"{hurt_words.capitalize()} people were injured.")
        )
        return [opening, treated, *([dark] if rng.random() < 0.5 else [])], f"{hurt} hurt in {city} {kind}"
    safe = rng.choice(("Nobody was hurt.", "There were no injuries."))
    return [opening, safe, dark], f"{kind} leaves {homes:,} homes in {city} without power"


def _match(rng: Random) -> Facts:
    """Draws sentences and headline on a match of two teams."""
    one, two = rng.sample([english_name for _, english_name in pairs(CITIES)], 2)
    cup, first, second = _one(rng, _CUPS), rng.randint(0, 5), rng.randint(0, 5)
    opening = rng.choice((
        f"{one} and {two} met in the {cup} on {_day(rng)}.",
        f"The {cup} between {one} and {two} was sold out on {_day(rng)}.",
    ))  # fmt: skip
    crowd = f"{rng.randint(5, 80)},000 people watched the game."
    names = [(one, first), (two, second)]
    rng.shuffle(names)
    score = " and ".join(
        f"{team} scored {english(goals) if goals else 'no'} goal{'s' * (goals != 1)}" for team, goals in names
    )
    if first == second:
        return [opening, f"{score}.", crowd], f"{one} and {two} draw {first}-{second} in {cup}"
    winner, loser = (one, two) if first > second else (two, one)
    return [opening, f"{score}.", crowd], f"{winner} beat {loser} {max(first, second)}-{min(first, second)} in {cup}"


def _company(rng: Random) -> Facts:
    """Draws sentences and headline on the results of a company."""
    company, product = rng.choice(_COMPANIES.split()), _one(rng, _PRODUCTS)
    percent, percent_words = _number(rng, 2, 60)
    jobs, jobs_words = _number(rng, 20, 900)
    up, hiring = rng.random() < 0.5, rng.random() < 0.5
    opening = rng.choice((
        f"{company}, which makes {product} in {_city(rng)}, published its results on {_day(rng)}.",
        f"The {_city(rng)} company {company} sells {product} in {english(rng.randint(5, 60))} countries.",
    ))  # fmt: skip
    profits = f"Profits {'rose' if up else 'fell'} by {percent_words} percent to {rng.randint(2, 99)} million euros."
    change = rng.choice(
        (f"It wants to hire {jobs_words} people.", f"{jobs_words.capitalize()} new jobs are planned.")
        if hiring
        else (f"It will cut {jobs_words} jobs.", f"{jobs_words.capitalize()} people must leave.")
    )
    if rng.random() < 0.5:
        return [opening, profits], f"{company} profits {'up' if up else 'down'} {percent} percent"
    return [
        opening,
        profits,
        change,
    ], f"{company} to {'create' if hiring else 'cut'} {jobs} jobs as profits {'rise' if up else 'fall'}"


def _vote(rng: Random) -> Facts:
    """Draws sentences and headline on a vote about a new building."""
    city, project = _city(rng), _one(rng, _PROJECTS)
    (yes, yes_words), (no, no_words) = _number(rng, 5, 40), _number(rng, 5, 40)
    if yes == no:
        return _vote(rng)
    opening = rng.choice((
        f"The council of {city} discussed plans for a new {project} on {_day(rng)}.",
        f"Does {city} need a new {project}? The council met on {_day(rng)} to decide.",
    ))  # fmt: skip
    votes = rng.choice((
        f"{yes_words.capitalize()} members were for the plan and {no_words} against it.",
        f"{no_words.capitalize()} members voted against the plan, {yes_words} for it.",
    ))  # fmt: skip
    cost = f"It would cost {rng.randint(2, 95)} million euros."
    verdict = "approves" if yes > no else "rejects"
    return [opening, votes, *([cost] if rng.random() < 0.6 else [])], f"{city} {verdict} new {project}"


def _opening(rng: Random) -> Facts:
    """Draws sentences and headline on a museum that opens."""
    city, museum, day = _city(rng), _one(rng, _MUSEUMS), _day(rng)
    years = english(rng.randint(2, 12))
    opening = f"After {years} years of work the {museum} in {city} is almost finished."
    late = rng.random() < 0.4
    when = (
        f"Visitors were expected on {_day(rng)}, but the roof is not ready."
        if late
        else f"The first visitors may come on {day}."
    )
    money = rng.choice(("Children will not have to pay.", f"A ticket will cost {english(rng.randint(4, 20))} euros."))
    return [opening, when, money], f"{museum} in {city} {'opens late' if late else f'to open on {day}'}"


def _crash(rng: Random) -> Facts:
    """Draws sentences and headline on a crash of two vehicles."""
    city, other = _city(rng), _city(rng)
    one, two = rng.sample(("truck", "car", "bus", "tractor", "taxi", "motorcycle"), 2)
    age, hours = rng.randint(18, 89), rng.randint(2, 12)
    opening = rng.choice((
        f"{_an(one).capitalize()} and {_an(two)} collided near {city} on {_day(rng)}.",
        f"There was a crash between {_an(one)} and {_an(two)} not far from {city} on {_day(rng)}.",
    ))  # fmt: skip
    road = f"The road to {other} was closed for {english(hours)} hours."
    which, words = rng.choice((
        (one, f"The driver of the {one}, who is {english(age)} years old, was taken to hospital."),
        (two, f"The driver of the {two}, a woman aged {age}, broke her arm."),
        ("", "Both drivers were unharmed."),
    ))  # fmt: skip
    hurt = f"{which} driver, {age}, hurt in crash near {city}"
    unharmed = f"road to {other} closed for {hours} hours after crash"
    return [opening, words, road], hurt if which else unharmed


def _escape(rng: Random) -> Facts:
    """Draws sentences and headline on an animal that escaped."""
    city, animal, spot = _city(rng), _one(rng, _ANIMALS), _one(rng, _SPOTS)
    opening = rng.choice((
        f"{_an(animal).capitalize()} escaped from the zoo in {city} on {_day(rng)}.",
        f"When the zoo in {city} opened on {_day(rng)}, its youngest {animal} was gone.",
    ))  # fmt: skip
    if rng.random() < 0.6:
        recapture = rng.choice((
            f"{_name(rng)} discovered the animal in {_an(spot)} {english(rng.randint(2, 30))} hours later.",
            f"The police caught it in {_an(spot)} after a long search.",
        ))  # fmt: skip
        return [opening, recapture], f"{city} {animal} found in {spot}"
    missing = rng.choice(("It has not been found yet.", "The search goes on."))
    return [opening, missing], f"{city} zoo searches for {animal}"


def _study(rng: Random) -> Facts:
    """Draws sentences and headline on a study of habits."""
    (did, doing), (effect, noun, good) = rng.choice(_HABITS), rng.choice(_EFFECTS)
    people, city = 50 * rng.randint(2, 90), _city(rng)
    opening = f"Researchers in {city} asked {people:,} people about their habits."
    result = rng.choice((f"Those who {did} {effect} than others.", f"Compared with others, people who {did} {effect}."))
    scale = f"The study took {english(rng.randint(2, 20))} years."
    return [opening, result, scale], f"{doing} may {'improve' if good else 'harm'} {noun}, {city} study says"


def _strike(rng: Random) -> Facts:
    """Draws sentences and headline on a strike for more money."""
    city, group = _city(rng), _one(rng, _GROUPS)
    percent, percent_words = _number(rng, 3, 20)
    opening = f"The {group} of {city} did not go to work on {_day(rng)}."
    demand = rng.choice((
        f"They want {percent_words} percent more money.", f"Their union demands a raise of {percent_words} percent.",
    ))  # fmt: skip
    if rng.random() < 0.5:
        return [opening, demand], f"{city} {group} strike for {percent} percent more pay"
    end = rng.choice((f"After talks with {_name(rng)} both sides agreed.", "Late at night a deal was reached."))
    return [opening, demand, end], f"{city} {group} end strike"


_EVENTS: tuple[Callable[[Random], Facts], ...] = (
    _disaster, _match, _company, _vote, _opening, _crash, _escape, _study, _strike,
)  # fmt: skip
