"""Languages of a server: their codes and names, which one a client means, and which one a text is in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from serving.errors import Problem
from serving.models import Service

_DETECTED_CHARACTERS = 2000
"""Of a text; more of it says nothing new."""

_NAMES = (
    "af:Afrikaans am:Amharic an:Aragonese ar:Arabic as:Assamese az:Azerbaijani be:Belarusian bg:Bulgarian "
    "bn:Bengali br:Breton bs:Bosnian ca:Catalan cs:Czech cy:Welsh da:Danish de:German dz:Dzongkha el:Greek "
    "en:English eo:Esperanto es:Spanish et:Estonian eu:Basque fa:Persian fi:Finnish fo:Faroese fr:French "
    "ga:Irish gl:Galician gu:Gujarati he:Hebrew hi:Hindi hr:Croatian ht:Haitian hu:Hungarian hy:Armenian "
    "id:Indonesian is:Icelandic it:Italian ja:Japanese jv:Javanese ka:Georgian kk:Kazakh km:Khmer kn:Kannada "
    "ko:Korean ku:Kurdish ky:Kyrgyz la:Latin lb:Luxembourgish lo:Lao lt:Lithuanian lv:Latvian mg:Malagasy "
    "mk:Macedonian ml:Malayalam mn:Mongolian mr:Marathi ms:Malay mt:Maltese nb:Norwegian_Bokmål ne:Nepali "
    "nl:Dutch nn:Norwegian_Nynorsk no:Norwegian oc:Occitan or:Odia pa:Punjabi pl:Polish ps:Pashto "
    "pt:Portuguese qu:Quechua ro:Romanian ru:Russian rw:Kinyarwanda se:Northern_Sami si:Sinhala sk:Slovak "
    "sl:Slovenian sq:Albanian sr:Serbian sv:Swedish sw:Swahili ta:Tamil te:Telugu th:Thai tl:Tagalog "
    "tr:Turkish ug:Uyghur uk:Ukrainian ur:Urdu vi:Vietnamese vo:Volapük wa:Walloon xh:Xhosa zh:Chinese zu:Zulu"
)
NAMES = {pair[:2]: pair[3:].replace("_", " ") for pair in _NAMES.split()}
"""English names by ISO 639-1 code."""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    """Returns the identifier, whose loading takes a moment; it is not restricted, because threads share it."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class Detected(NamedTuple):
    """A language and the probability, up to 1, that a text is in it rather than in another served one."""

    language: str
    probability: float


def base(code: str) -> str:
    """Returns the language of a code without its region or script: ``de`` of ``de-AT`` and ``de_DE``."""
    return re.split("[-_]", code.lower())[0]


def name_of(code: str) -> str:
    """Returns the English name of a language, or its code."""
    return NAMES.get(base(code), code)


def resolve(code: str, served: Iterable[str]) -> str | None:
    """Returns the served code that a client means, of the same language at least, or None."""
    served = list(served)
    same = [one for one in served if one.lower().replace("_", "-") == code.lower().replace("_", "-")]
    return next(iter(same or [one for one in served if base(one) == base(code)]), None)


def pairs(service: Service) -> dict[str, list[str]]:
    """Returns the target languages of each source language, of all models that name both.

    Raises:
        NotReady: the models are not loaded.
    """
    service.require_models()
    targets: dict[str, list[str]] = {}
    for model in service.models.values():
        source, target = model.info.source, model.info.target
        if model.info.task == "translation" and source and target and target not in targets.setdefault(source, []):
            targets[source].append(target)
    return targets


def detect(text: str, served: Sequence[str]) -> list[Detected]:
    """Returns the served languages that can be told apart, from the likeliest to the least likely for a text."""
    codes = {base(code): code for code in reversed(served)}
    ranking = [(codes[code], score) for code, score in _identifier().rank(text[:_DETECTED_CHARACTERS]) if code in codes]
    total = sum(score for _, score in ranking)
    return [Detected(code, score / total if total else 1 / len(ranking)) for code, score in ranking]


def source_of(text: str, targets: dict[str, list[str]], target: str) -> Detected:
    """Returns the likeliest language of a text among those that are translated to ``target``.

    Its probability is among all served languages: low if the text is in one that is not translated to it.

    Raises:
        Problem: 422, no such language can be told from others.
    """
    served = list(dict.fromkeys([*targets, *(one for several in targets.values() for one in several)]))
    sources = [source for source in targets if target in targets[source]]
    ranking = [one for one in detect(text, served) if one.language in sources]
    if ranking:
        return ranking[0]
    if len(sources) == 1:
        return Detected(sources[0], 0.0)
    raise Problem(422, "the source language cannot be detected among those that are served: name it")
