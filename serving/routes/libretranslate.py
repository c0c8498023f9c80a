"""The contract of LibreTranslate, for its clients."""

from __future__ import annotations

import asyncio
import re
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from serving.detected import Translation, translate_detected
from serving.errors import Problem, documented
from serving.form_body import FormRoute, form_schema
from serving.languages import Detected, detect, name_of, pairs, resolve
from serving.middleware import require_key
from serving.models import Service
from serving.schemas import Health

router = APIRouter(route_class=FormRoute, tags=["libretranslate"])
_PROBLEMS = documented(400, 403, 413, 415, 429, 500, 503, 504)
_CODE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,2}")


class LibreTranslateRequest(BaseModel):
    """Texts to translate, as JSON or as a form."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"q": "Ein Hund rennt im Park.", "source": "auto", "target": "en"}]}
    )

    q: str | list[str] | None = Field(default=None, description="One text, or several in JSON.")
    source: str | None = Field(default=None, description="Language code, or `auto`.")
    target: str | None = Field(default=None, description="Language code.")
    format: str | None = Field(default=None, description="`text` or `html`.")
    alternatives: int | None = Field(default=None, ge=0, description="Further translations; none are made here.")
    api_key: str | None = None


class LibreTranslateDetectRequest(BaseModel):
    """A text whose language is to be told, as JSON or as a form."""

    q: str | list[str] | None = None
    api_key: str | None = None


class DetectedLanguage(BaseModel):
    """A language, and how certain it is."""

    confidence: float = Field(description="0 to 100.")
    language: str

    @classmethod
    def of(cls, detected: Detected) -> DetectedLanguage:
        """Returns a detected language in the contract's units."""
        return cls(confidence=round(100 * detected.probability, 1), language=detected.language.lower())


class LibreTranslateResponse(BaseModel):
    """Translations, in a list if the request had one."""

    translatedText: str | list[str]
    detectedLanguage: DetectedLanguage | list[DetectedLanguage] | None = None
    alternatives: list[str] | list[list[str]] | None = None


class LibreTranslateLanguage(BaseModel):
    """A language, and those it can be translated to."""

    code: str
    name: str
    targets: list[str]


@router.post(
    "/translate",
    responses=_PROBLEMS,
    response_model_exclude_none=True,
    openapi_extra=form_schema("LibreTranslateRequest"),
)
async def translate(body: LibreTranslateRequest, request: Request, response: Response) -> LibreTranslateResponse:
    """Translates one text or several. `X-Finish-Reason` and `X-Truncated` say of each whether it is whole."""
    require_key(request, body.api_key)
    service: Service = request.app.state.service
    texts = _texts(body.q)
    source, target = _languages(service, body.source, body.target)
    if (body.format or "text") not in ("text", "html"):
        raise Problem(400, "this format is not supported: text and html are")
    fields = {"format": body.format or "text", "truncation": "split"}
    translations = await translate_detected(request, service, texts, source, target, fields)
    results = [one.result for one in translations]
    response.headers["X-Finish-Reason"] = ",".join(one.finish_reason for one in results)
    response.headers["X-Truncated"] = ",".join(str(one.truncated).lower() for one in results)
    return _response(translations, isinstance(body.q, list), source is None, body.alternatives or 0)


@router.post("/detect", responses=_PROBLEMS, openapi_extra=form_schema("LibreTranslateDetectRequest"))
async def detect_language(body: LibreTranslateDetectRequest, request: Request) -> list[DetectedLanguage]:
    """Tells in which of the served languages a text is, the likeliest first."""
    require_key(request, body.api_key)
    targets = pairs(request.app.state.service)
    served = sorted({*targets, *(target for several in targets.values() for target in several)})
    detected = await asyncio.to_thread(detect, "\n".join(_texts(body.q)), served)
    ranking = [DetectedLanguage.of(one) for one in detected]
    return [one for one in ranking if one.confidence > 0]


@router.get("/languages", responses=documented(503))
async def languages(request: Request) -> list[LibreTranslateLanguage]:
    """Lists the served languages; those without targets are only translated to."""
    targets = {
        source.lower(): sorted(target.lower() for target in several)
        for source, several in pairs(request.app.state.service).items()
    }
    codes = sorted({*targets, *(target for several in targets.values() for target in several)})
    return [LibreTranslateLanguage(code=code, name=name_of(code), targets=targets.get(code, [])) for code in codes]


@router.get("/health", responses=documented(503))
async def health(request: Request) -> Health:
    """200 once the models are loaded."""
    service: Service = request.app.state.service
    service.require_models()
    return Health(status="ok")


class FrontendLanguage(BaseModel):
    """A language of the form."""

    code: str
    name: str


class FrontendSettings(BaseModel):
    """What LibreTranslate tells its own page."""

    apiKeys: bool
    charLimit: Literal[-1] = -1
    filesTranslation: Literal[False] = False
    frontendTimeout: int = Field(default=500, description="Milliseconds of rest after which a text is sent.")
    keyRequired: bool
    language: dict[Literal["source", "target"], FrontendLanguage]
    suggestions: Literal[False] = False
    supportedFilesFormat: list[str] = []


@router.get("/frontend/settings", responses=documented(503))
async def frontend_settings(request: Request) -> FrontendSettings:
    """Tells whether a key is needed, and the languages to begin with."""
    service: Service = request.app.state.service
    targets = pairs(service)
    source = next(iter(targets), "auto")
    target = next(iter(targets.get(source, [])), "")
    has_key = request.app.state.access.needs_key
    return FrontendSettings(
        apiKeys=has_key,
        keyRequired=has_key,
        language={
            "source": FrontendLanguage(code=source.lower(), name=name_of(source)),
            "target": FrontendLanguage(code=target.lower(), name=name_of(target)),
        },
    )


def _texts(q: str | list[str] | None) -> list[str]:
    if not q:
        raise Problem(400, "Invalid request: missing q parameter")
    return [q] if isinstance(q, str) else q


def _languages(service: Service, source: str | None, target: str | None) -> tuple[str | None, str]:
    """Returns the served codes that a request means; None for a source that is to be detected.

    Raises:
        Problem: 400, a code is missing or not served, or the pair is not.
    """
    for name, value in (("source", source), ("target", target)):
        if not value:
            raise Problem(400, f"Invalid request: missing {name} parameter")
    targets = pairs(service)
    known = list(dict.fromkeys([*targets, *(one for several in targets.values() for one in several)]))
    is_auto = source == "auto"
    codes = [None if is_auto else resolve(source or "", known), resolve(target or "", known)]
    for code, asked, name in ((codes[0] or is_auto, source, "source"), (codes[1], target, "target")):
        if not code:
            shown = asked if _CODE.fullmatch(asked or "") else f"the {name} language"
            raise Problem(400, f"{shown} is not supported")
    chosen, wanted = codes[0], str(codes[1])
    if chosen is None and not any(wanted in several for several in targets.values()):
        raise Problem(400, f"{name_of(wanted)} ({wanted}) is not available as a target language")
    if chosen is not None and wanted not in targets.get(chosen, []):
        pair = f"{name_of(wanted)} ({wanted}) is not available as a target language from {name_of(chosen)} ({chosen})"
        raise Problem(400, pair)
    return chosen, wanted


def _response(
    translations: list[Translation], is_list: bool, is_detected: bool, alternatives: int
) -> LibreTranslateResponse:
    texts = [one.result.text for one in translations]
    detected = [DetectedLanguage.of(one.source) for one in translations]
    none: list[list[str]] = [[] for _ in texts]
    return LibreTranslateResponse(
        translatedText=texts if is_list else texts[0],
        detectedLanguage=(detected if is_list else detected[0]) if is_detected else None,
        alternatives=(none if is_list else none[0]) if alternatives else None,
    )
