"""Vocabulary of the embedded German-English corpus, as tables.

Rows end at a semicolon or a line end; a comment above each table gives its format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

# gender singular plural | English singular [plural] | classes. An asterisk marks weak masculines (den Jungen).
NOUNS = """
m Mann Männer | man men | person; f Frau Frauen | woman women | person
m Nachbar* Nachbarn | neighbor | person; m Junge* Jungen | boy | person
m Student* Studenten | student | person; m Kollege* Kollegen | colleague | person
m Arzt Ärzte | doctor | person; m Lehrer Lehrer | teacher | person
m Bruder Brüder | brother | person; m Freund Freunde | friend | person
m Koch Köche | cook | person; m Polizist* Polizisten | officer | person
m Bauer* Bauern | farmer | person; m Gast Gäste | guest | person
f Tochter Töchter | daughter | person; f Schwester Schwestern | sister | person
f Tante Tanten | aunt | person; f Richterin Richterinnen | judge | person
f Ärztin Ärztinnen | doctor | person; f Chefin Chefinnen | boss bosses | person
f Kundin Kundinnen | customer | person; n Kind Kinder | child children | person
n Mädchen Mädchen | girl | person; m Onkel Onkel | uncle | person
f Tür Türen | door | open paint; n Fenster Fenster | window | open wash
m Schrank Schränke | cupboard | open paint buy; m Koffer Koffer | suitcase | open carry buy
f Kiste Kisten | box boxes | open carry; f Flasche Flaschen | bottle | open carry small
f Tasche Taschen | bag | open carry buy small; n Paket Pakete | parcel | open carry give
n Buch Bücher | book | read small buy give; m Brief Briefe | letter | read write give small
f Zeitung Zeitungen | newspaper | read small buy; m Bericht Berichte | report | read write give
f Nachricht Nachrichten | message | read write; n Gedicht Gedichte | poem | read write
m Vertrag Verträge | contract | read write; f Rechnung Rechnungen | bill | read give small
m Apfel Äpfel | apple | eat buy small give; f Birne Birnen | pear | eat buy small
m Kuchen Kuchen | cake | eat bake buy give; f Suppe Suppen | soup | eat cook
n Ei Eier | egg | eat cook buy; n Brötchen Brötchen | roll | eat bake buy
f Kartoffel Kartoffeln | potato potatoes | eat cook buy; m Pilz Pilze | mushroom | eat cook buy
m Tisch Tische | table | paint buy wash; m Stuhl Stühle | chair | paint buy carry
f Lampe Lampen | lamp | device buy; n Bild Bilder | picture | paint buy give
m Spiegel Spiegel | mirror | wash buy; n Regal Regale | shelf shelves | paint buy
f Uhr Uhren | clock | repair buy give; m Teppich Teppiche | carpet | wash buy
n Auto Autos | car | repair wash buy wait; n Fahrrad Fahrräder | bicycle | repair wash buy
m Bus Busse | bus buses | wait repair; m Zug Züge | train | wait
n Boot Boote | boat | repair paint buy; n Taxi Taxis | taxi | wait
m Computer Computer | computer | device repair buy; f Maschine Maschinen | machine | device repair buy
n Radio Radios | radio | device repair buy; f Heizung Heizungen | heater | device repair
m Schlüssel Schlüssel | key | small give; n Messer Messer | knife knives | small wash buy
m Hut Hüte | hat | wear small buy; n Hemd Hemden | shirt | wear wash buy
m Mantel Mäntel | coat | wear wash buy; f Jacke Jacken | jacket | wear wash buy
m Schuh Schuhe | shoe | wear buy; n Kleid Kleider | dress dresses | wear wash buy
f Blume Blumen | flower | small give buy; n Geschenk Geschenke | present | open small give buy
m Hund Hunde | dog | animal wash; f Katze Katzen | cat | animal
n Pferd Pferde | horse | animal buy; m Vogel Vögel | bird | animal
f Kuh Kühe | cow | animal buy; n Schaf Schafe | sheep sheep | animal buy
n Zimmer Zimmer | room | tidy paint; n Büro Büros | office | tidy
f Küche Küchen | kitchen | tidy paint; m Keller Keller | cellar | tidy paint
"""

# first part | English | heads it goes with. Compounds multiply the nouns, whose parts a student must translate.
COMPOUNDS = """
Küchen | kitchen | Tür Fenster Tisch Stuhl Schrank Lampe Uhr Messer Regal
Garten | garden | Tür Tisch Stuhl Lampe Blume
Keller | cellar | Tür Fenster Lampe Schlüssel Regal
Büro | office | Tür Fenster Stuhl Lampe Schrank Schlüssel Uhr Computer
Schlafzimmer | bedroom | Tür Fenster Schrank Lampe Spiegel Teppich
Wohnzimmer | living room | Tür Fenster Tisch Lampe Teppich Uhr
Holz | wooden | Tür Tisch Stuhl Kiste Boot Regal
Metall | metal | Tür Tisch Kiste Regal
Leder | leather | Tasche Jacke Schuh Koffer Hut
Kinder | children's | Buch Zimmer Schuh Fahrrad Jacke Kleid
Schul | school | Buch Tasche Bus
Sommer | summer | Kleid Mantel Jacke Schuh Hut
Winter | winter | Mantel Jacke Schuh
Liebes | love | Brief Gedicht
Wasser | water | Flasche
Wein | wine | Flasche Kiste
Apfel | apple | Kuchen
Kirsch | cherry | Kuchen
Käse | cheese | Brötchen
Kartoffel | potato | Suppe
Tomaten | tomato | Suppe
Pilz | mushroom | Suppe
Arbeits | work | Vertrag Zimmer
Miet | rental | Vertrag Auto
Strom | electricity | Rechnung
Polizei | police | Auto Boot Hund Bericht
Gäste | guest | Zimmer
"""

# Compounds whose meaning is not that of their parts: form | English, head as above.
IDIOMS = """
Haustür | front door | Tür; Schreibtisch | desk | Tisch; Bücherregal | bookshelf/bookshelves | Regal
Handtasche | handbag | Tasche; Taschenlampe | flashlight | Lampe; Wörterbuch | dictionary/dictionaries | Buch
Kochbuch | cookbook | Buch; Handschuh | glove | Schuh; Kühlschrank | fridge | Schrank
Armbanduhr | watch | Uhr
"""

# infinitive (_ after a separable prefix) er-form participle [sein] [+case or preposition+case] | English base past
# participle [particle] | class of the object. An English particle after "+" stands behind a pronoun (pick it up).
VERBS = """
lesen liest gelesen | read read read | read; schreiben schreibt geschrieben | write wrote written | write
kaufen kauft gekauft | buy bought bought | buy; verkaufen verkauft verkauft | sell sold sold | buy
suchen sucht gesucht | look looked looked for | small; finden findet gefunden | find found found | small
öffnen öffnet geöffnet | open opened opened | open; reparieren repariert repariert | repair | repair
putzen putzt geputzt | clean | wash; waschen wäscht gewaschen | wash | wash
essen isst gegessen | eat ate eaten | eat; kochen kocht gekocht | cook | cook
streichen streicht gestrichen | paint | paint; backen backt gebacken | bake | bake
tragen trägt getragen | carry | carry; verlieren verliert verloren | lose lost lost | small
vergessen vergisst vergessen | forget forgot forgotten | small; besuchen besucht besucht | visit | person
fragen fragt gefragt | ask | person; treffen trifft getroffen | meet met met | person
sehen sieht gesehen | see saw seen | person; füttern füttert gefüttert | feed fed fed | animal
verstecken versteckt versteckt | hide hid hidden | small; bezahlen bezahlt bezahlt | pay paid paid for | buy
an_rufen ruft angerufen | call | person; ab_holen holt abgeholt | pick picked picked +up | person
ein_laden lädt eingeladen | invite | person; auf_räumen räumt aufgeräumt | tidy tidied tidied +up | tidy
weg_werfen wirft weggeworfen | throw threw thrown +away | small; ein_packen packt eingepackt | pack | small
mit_bringen bringt mitgebracht | bring brought brought +along | small; auf_machen macht aufgemacht | open | open
zu_machen macht zugemacht | close | open; ein_schalten schaltet eingeschaltet | turn +on | device
aus_schalten schaltet ausgeschaltet | turn +off | device; an_probieren probiert anprobiert | try +on | wear
zurück_geben gibt zurückgegeben | return | small; ab_schließen schließt abgeschlossen | lock | open
helfen hilft geholfen +dat | help | person; danken dankt gedankt +dat | thank | person
folgen folgt gefolgt sein +dat | follow | person; zu_hören hört zugehört +dat | listen to | person
antworten antwortet geantwortet +dat | answer | person; warten wartet gewartet auf+acc | wait for | wait
sprechen spricht gesprochen mit+dat | talk to | person; lachen lacht gelacht über+acc | laugh at | person
denken denkt gedacht an+acc | think thought thought of | person; träumen träumt geträumt von+dat | dream of | buy
schlafen schläft geschlafen | sleep slept slept |; arbeiten arbeitet gearbeitet | work |
singen singt gesungen | sing sang sung |; tanzen tanzt getanzt | dance |
weinen weint geweint | cry |; schwimmen schwimmt geschwommen sein | swim swam swum |
auf_stehen steht aufgestanden sein | get got got +up |
ein_schlafen schläft eingeschlafen sein | fall fell fallen +asleep |
an_kommen kommt angekommen sein | arrive |; zurück_kommen kommt zurückgekommen sein | come came come +back |
geben gibt gegeben | give gave given | give give; zeigen zeigt gezeigt | show showed shown | give give
schicken schickt geschickt | send sent sent | give give; bringen bringt gebracht | bring brought brought | give give
fahren fährt gefahren sein | go went gone | city; fliegen fliegt geflogen sein | fly flew flown | city
reisen reist gereist sein | travel | city; um_ziehen zieht umgezogen sein | move | city
"""

# German | English | classes
ADJECTIVES = """
groß | big | thing; klein | small | thing person; alt | old | thing person; neu | new | thing person
rot | red | thing; blau | blue | thing; grün | green | thing; schwarz | black | thing; weiß | white | thing
teuer | expensive | thing; billig | cheap | thing; schön | beautiful | thing; schwer | heavy | thing
kaputt | broken | thing; schmutzig | dirty | thing; lang | long | thing; dunkel | dark | thing
jung | young | person; müde | tired | person feel; freundlich | friendly | person; nett | nice | person feel
klug | clever | person feel; traurig | sad | person feel; fröhlich | cheerful | person feel
reich | rich | person feel; krank | sick | person feel; hungrig | hungry | feel; wütend | angry | person feel
"""

# where something happens: German | English
PLACES = """
in der Küche | in the kitchen; im Garten | in the garden; im Park | in the park; in der Schule | at school
im Büro | at the office; am Bahnhof | at the station; im Museum | at the museum; im Wald | in the forest
in der Bibliothek | at the library; im Dorf | in the village; auf der Straße | on the street
auf dem Markt | at the market; im Krankenhaus | at the hospital; am Strand | on the beach
zu Hause | at home; hinter dem Haus | behind the house; neben der Kirche | next to the church
vor dem Rathaus | in front of the town hall; im Zug | on the train; unter der Brücke | under the bridge
"""

CITIES = """
Berlin Hamburg München=Munich Köln=Cologne Wien=Vienna Genf=Geneva Prag=Prague Paris Rom=Rome Zürich=Zurich London
Nürnberg=Nuremberg Mailand=Milan Madrid Brüssel=Brussels Venedig=Venice Warschau=Warsaw Athen=Athens
"""
# After a possessive these nouns mean a spouse (my husband).
SPOUSES = {"man": "husband", "men": "husbands", "woman": "wife", "women": "wives"}
WOMEN = "Anna Maria Laura Sophie Clara Helga Julia Nina Petra Sabine Eva Ida Greta Lena Marta"
MEN = "Paul Jonas Felix Karl Tobias Stefan Peter Max Lukas Emil Otto Anton Ralf Simon Jakob"


@dataclass(frozen=True)
class Noun:
    """A noun in both languages; ``gender`` is m, f or n, ``classes`` name the verbs that take it as an object."""

    gender: str
    singular: str
    plural: str
    weak: bool
    english: str
    english_plural: str
    classes: frozenset[str]


@dataclass(frozen=True)
class Verb:
    """A verb in both languages. ``objects`` is the class of its object; a ``movable`` particle follows a pronoun."""

    prefix: str
    base: str
    third: str
    participle: str
    auxiliary: str
    preposition: str
    case: str
    english: str
    past: str
    english_participle: str
    particle: str
    movable: bool
    objects: str
    ditransitive: bool


@dataclass(frozen=True)
class Adjective:
    """An adjective; ``classes`` are thing, person (attributes) and feel (predicates of people)."""

    german: str
    english: str
    classes: frozenset[str]

    @property
    def stem(self) -> str:
        """The stem to which endings are added (teuer, teure; müde, müde)."""
        return re.sub("(?<=[uk])e(?=[rl]$)", "", self.german).removesuffix("e")


@cache
def rows(table: str) -> tuple[tuple[str, ...], ...]:
    """Splits a table into rows of cells."""
    lines = (row.strip() for row in re.split(r"[;\n]", table))
    return tuple(tuple(cell.strip() for cell in row.split("|")) for row in lines if row)


@cache
def pairs(words: str) -> tuple[tuple[str, str], ...]:
    """Splits ``Köln=Cologne Paris`` into (German, English) pairs; ``_`` means a space, and no ``=`` the same word."""
    split = (word.replace("_", " ").partition("=") for word in words.split())
    return tuple((german, english or german) for german, _, english in split)


def plural(word: str) -> str:
    """The regular English plural."""
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


@cache
def nouns() -> tuple[Noun, ...]:
    """All nouns, compounds included."""
    simple = {}
    for german, english, classes in rows(NOUNS):
        gender, singular, many = german.split()
        one, _, irregular = english.partition(" ")
        name = singular.removesuffix("*")
        simple[name] = Noun(
            gender, name, many, singular != name, one, irregular or plural(one), frozenset(classes.split())
        )
    compounds = []
    for first, english, heads in rows(COMPOUNDS):
        for name in heads.split():
            head = simple[name]
            compounds.append(
                _compound(head, first + name.lower(), f"{english} {head.english}", f"{english} {head.english_plural}")
            )
    for whole, english, name in rows(IDIOMS):
        one, _, irregular = english.partition("/")
        compounds.append(_compound(simple[name], whole, one, irregular or plural(one)))
    return (*simple.values(), *compounds)


def _compound(head: Noun, whole: str, english: str, english_plural: str) -> Noun:
    """Returns the noun ``whole``, which ends with ``head`` and is inflected like it."""
    first = whole[: len(whole) - len(head.singular)]
    return Noun(
        head.gender, whole, first + head.plural.lower(), head.weak, english, english_plural, head.classes | {"compound"}
    )


@cache
def nouns_of(kind: str) -> tuple[Noun, ...]:
    """The nouns of a class."""
    return tuple(noun for noun in nouns() if kind in noun.classes)


@cache
def verbs() -> tuple[Verb, ...]:
    """All verbs."""
    return tuple(_verb(*row) for row in rows(VERBS))


def _verb(german: str, english: str, objects: str) -> Verb:
    """Returns the verb of a row of ``VERBS``."""
    infinitive, third, participle, *extra = german.split()
    prefix, _, base = infinitive.rpartition("_")
    preposition, case = "", "acc"
    for item in extra:
        if "+" in item:
            preposition, _, case = item.partition("+")
    parts = english.split()
    if len(parts) < 3:  # a regular verb, perhaps with a particle
        past = re.sub("(?<=[^aeo])y$", "i", parts[0]).removesuffix("e") + "ed"
        parts[1:1] = [past, past]
    particle = parts[3] if len(parts) > 3 else ""
    classes = objects.split()
    return Verb(
        prefix, base, third, participle, "sein" if "sein" in extra else "haben", preposition, case,
        parts[0], parts[1], parts[2], particle.lstrip("+"), particle.startswith("+"),
        classes[0] if classes else "", len(classes) > 1,
    )  # fmt: skip


@cache
def adjectives_of(kind: str) -> tuple[Adjective, ...]:
    """The adjectives of a class."""
    adjectives = (
        Adjective(german, english, frozenset(classes.split())) for german, english, classes in rows(ADJECTIVES)
    )
    return tuple(adjective for adjective in adjectives if kind in adjective.classes)
