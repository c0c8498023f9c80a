"""The contract of DeepL, for its clients: ``/v2/translate``, ``/v2/languages`` and ``/v2/usage``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from compressor.runtime.results import FinishReason
from compressor.text.markup import XmlTags
from serving.detected import Translation, translate_detected
from serving.errors import Problem, ProblemItem, documented
from serving.form_body import FormRoute, form_schema, parse_form
from serving.languages import base, name_of, pairs, resolve
from serving.models import Service
from serving.schemas import Inputs

router = APIRouter(prefix="/v2", route_class=FormRoute, tags=["deepl"])
_PROBLEMS = documented(400, 403, 413, 415, 422, 429, 500, 503, 504)
_VARIANTS = {"en": ("EN-GB", "EN-US"), "pt": ("PT-BR", "PT-PT")}
"""Codes that the client wants in place of the language as a target."""
_UNLIMITED = 10**12


def _tag_list(value: Any) -> Any:
    return [name for name in value.split(",") if name] if isinstance(value, str) else value


Tags = Annotated[list[str], BeforeValidator(_tag_list, json_schema_input_type=str | list[str])]


class DeepLRequest(BaseModel):
    """Texts to translate, as JSON or as a form. Hints that change nothing here, such as `context`, are ignored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": ["Guten Tag."], "target_lang": "EN-US"}]})

    text: Inputs
    target_lang: str = Field(description="Language code; a region is ignored.")
    source_lang: str | None = Field(default=None, description="Language code; detected when left out.")
    split_sentences: Literal["0", "1", "nonewlines", 0, 1] | None = None
    tag_handling: Literal["xml", "html", ""] | None = Field(
        default=None, description="What the texts are, if marked up."
    )
    outline_detection: bool | None = None
    splitting_tags: Tags = []
    non_splitting_tags: Tags = []
    ignore_tags: Tags = []
    formality: str | None = Field(default=None, description="Only what a model may ignore: `default`, `prefer_*`.")
    glossary_id: str | None = Field(default=None, description="Refused: there are no glossaries.")


class DeepLTranslation(BaseModel):
    """Translation of one text."""

    detected_source_language: str
    text: str
    billed_characters: int
    truncated: bool
    finish_reason: FinishReason


class DeepLResponse(BaseModel):
    """Translations, in the order of the texts."""

    translations: list[DeepLTranslation]


class DeepLLanguage(BaseModel):
    """A language."""

    language: str
    name: str
    supports_formality: Literal[False] = False


class DeepLUsage(BaseModel):
    """Characters that this process of the server has translated by these routes, and a limit that it does not have."""

    character_count: int
    character_limit: int = _UNLIMITED


@router.post("/translate", responses=_PROBLEMS, openapi_extra=form_schema("DeepLRequest"))
async def translate(body: DeepLRequest, request: Request) -> DeepLResponse:
    """Translates texts, each from its own language if none is given."""
    service: Service = request.app.state.service
    _refuse_unserved(body)
    source, target = _languages(service, body)
    has_tags = bool(body.tag_handling)
    fields = {
        "format": "html" if has_tags else "text",
        "truncation": "split",
        "split": "none" if str(body.split_sentences) == "0" and not has_tags else "sentences",
    }
    xml = _xml_tags(body) if body.tag_handling == "xml" else None
    translations = await translate_detected(request, service, body.text, source, target, fields, xml)
    state = request.app.state
    state.deepl_characters = getattr(state, "deepl_characters", 0) + sum(map(len, body.text))
    rows = zip(body.text, translations, strict=True)
    return DeepLResponse(translations=[_translation(text, one) for text, one in rows])


@router.get("/languages", responses=documented(400, 403, 422, 503))
@router.post("/languages", responses=documented(400, 403, 422, 503))
async def languages(request: Request, type: Literal["source", "target"] | None = None) -> list[DeepLLanguage]:
    """Lists the source languages, or those that `type` names. DeepL's client sends it as a form, by GET too."""
    targets = pairs(request.app.state.service)
    if (type or parse_form(await request.body()).get("type")) != "target":
        codes = [(base(code).upper(), name_of(code)) for code in targets]
    else:
        served = sorted({target for several in targets.values() for target in several})
        codes = [(one, name_of(code)) for code in served for one in _VARIANTS.get(base(code), (base(code).upper(),))]
    return [DeepLLanguage(language=code, name=name) for code, name in dict.fromkeys(codes)]


@router.get("/usage", responses=documented(403))
async def usage(request: Request) -> DeepLUsage:
    """Counts the characters of texts that this process has translated."""
    return DeepLUsage(character_count=getattr(request.app.state, "deepl_characters", 0))


def _refuse_unserved(body: DeepLRequest) -> None:
    """Raises Problem (422) for options that would change the translation, and that no model here has."""
    mistakes = []
    if body.formality and body.formality != "default" and not body.formality.startswith("prefer_"):
        message = "is not served; prefer_more and prefer_less may be sent, and change nothing"
        mistakes.append(ProblemItem(message=message, pointer="/formality"))
    if body.glossary_id:
        mistakes.append(ProblemItem(message="glossaries are not served", pointer="/glossary_id"))
    if mistakes:
        raise Problem(422, errors=mistakes)


def _languages(service: Service, body: DeepLRequest) -> tuple[str | None, str]:
    """Returns the served codes that a request means; None for a source that is to be detected.

    Raises:
        Problem: 422, a language, or the pair, is not served.
    """
    targets = pairs(service)
    served = ", ".join(f"{source}-{target}" for source in targets for target in targets[source])
    target = resolve(body.target_lang, dict.fromkeys(one for several in targets.values() for one in several))
    if target is None:
        raise _not_served("target_lang", served)
    if not body.source_lang:
        return None, target
    source = resolve(body.source_lang, targets)
    if source is None or target not in targets[source]:
        raise _not_served("source_lang", served)
    return source, target


def _not_served(field: str, served: str) -> Problem:
    return Problem(422, errors=[ProblemItem(message=f"not served; pairs are {served}", pointer=f"/{field}")])


def _xml_tags(body: DeepLRequest) -> XmlTags:
    return XmlTags(
        splitting=frozenset(body.splitting_tags),
        non_splitting=frozenset(body.non_splitting_tags),
        untranslated=frozenset(body.ignore_tags),
        by_content=body.outline_detection is not False,
    )


def _translation(text: str, translation: Translation) -> DeepLTranslation:
    return DeepLTranslation(
        detected_source_language=base(translation.source.language).upper(),
        text=translation.result.text,
        billed_characters=len(text),
        truncated=translation.result.truncated,
        finish_reason=translation.result.finish_reason,
    )
