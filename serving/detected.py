"""Translation of texts whose source languages may be unknown and differ: each goes to the model of its language."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import Request

from compressor.errors import InputError
from compressor.runtime.results import Result
from compressor.text.markup import XmlTags
from serving.errors import Problem, ProblemItem
from serving.generation import deadline_of, generate
from serving.jobs import Deadline
from serving.languages import Detected, pairs, source_of
from serving.models import Service
from serving.schemas import SummarizeRequest

_TAG = re.compile(r"<[^<>]*>")


class Translation(NamedTuple):
    """A translation, and the language that its text was in."""

    source: Detected
    result: Result


async def translate_detected(
    request: Request,
    service: Service,
    texts: Sequence[str],
    source: str | None,
    target: str,
    fields: Mapping[str, Any],
    xml: XmlTags | None = None,
) -> list[Translation]:
    """Returns the translations of texts, in order.

    Args:
        request: The HTTP request.
        service: The server.
        texts: Texts.
        source: Served code of their language; None: it is detected for each.
        target: Served code of the language to translate to.
        fields: Further fields of ``SummarizeRequest``.
        xml: How to read the texts as XML; None: ``format`` in ``fields`` says what they are.

    Raises:
        Problem: 422, there are too many texts, or other limits are exceeded.
        NotServed: no model translates between the languages.
        JobError: see ``generate``.
    """
    _check(texts, service.settings.max_items)
    if source is None:
        targets = pairs(service)
        plain = _TAG if xml or fields.get("format") == "html" else None
        sources = await asyncio.to_thread(
            lambda: [source_of(plain.sub(" ", text) if plain else text, targets, target) for text in texts]
        )
    else:
        sources = [Detected(source, 1.0)] * len(texts)
    results: dict[int, Result] = {}
    deadline: Deadline | None = None
    for language in dict.fromkeys(one.language for one in sources):
        places = [index for index, one in enumerate(sources) if one.language == language]
        body = SummarizeRequest(inputs=[texts[index] for index in places], **{"split": "sentences", **fields})
        model = service.select("translation", None, language, target)
        try:
            deadline = deadline or deadline_of(body, service)
            outputs = await generate(request, service, model, body, xml, deadline)
        except InputError as error:
            error.index = None if error.index is None else places[error.index]
            raise
        results.update(zip(places, outputs, strict=True))
    return [Translation(one, results[index]) for index, one in enumerate(sources)]


def _check(texts: Sequence[str], limit: int) -> None:
    """Raises Problem (422) for too many texts and for empty ones, before they are divided by language."""
    if len(texts) > limit:
        message = f"has {len(texts)} texts, the limit is {limit}"
        raise Problem(422, errors=[ProblemItem(message=message, pointer="/inputs")])
    empty = [index for index, text in enumerate(texts) if not text.strip()]
    if empty:
        raise Problem(
            422, errors=[ProblemItem(message="is an empty text", pointer=f"/inputs/{index}") for index in empty]
        )
