"""One request from its fields to results, for every dialect: limits, markup, jobs, counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from fastapi import Request

from compressor.errors import InputError, TooLongError
from compressor.runtime.results import Result
from compressor.text.markup import Markup, XmlTags
from serving.errors import Problem, ProblemItem
from serving.execution import INLINE_CHARACTERS, RequestJobs, make_jobs, run_jobs
from serving.jobs import Deadline
from serving.models import ServedModel, Service
from serving.schemas import SummarizeRequest
from serving.settings import Settings

T = TypeVar("T")


async def generate(
    request: Request,
    service: Service,
    model: ServedModel,
    body: SummarizeRequest,
    xml: XmlTags | None = None,
    deadline: Deadline | None = None,
) -> list[Result]:
    """Returns the results of a request, in the order of its texts.

    Args:
        request: The HTTP request, whose end drops the jobs.
        service: The server.
        model: Runs the jobs.
        body: What is asked for.
        xml: How to read the texts as XML; None: ``body.format`` says what they are.
        deadline: End of the request's time; None: it begins now.

    Raises:
        Problem: 422, with all that this server or this model does not support.
        JobError: The queue is full or closed, the deadline has passed, or the client is gone.
        InputError: A text is not valid for the model.
    """
    check(body, model, service.settings)
    deadline = deadline or deadline_of(body, service)
    if xml is not None or body.format == "html":
        results = await _translate_markup(request, service, model, body, xml, deadline)
    else:
        work = await work_of(request, service, model, body, body.inputs, deadline)
        results = await run_jobs(request, service.batcher, model.engine, work)
    service.metrics.count(model.info.id, results)
    return results


def deadline_of(body: SummarizeRequest, service: Service) -> Deadline:
    """Returns the end of the time that a request may take, which begins now."""
    return Deadline.after(body.timeout_ms or service.settings.timeout_ms)


async def work_of(
    request: Request,
    service: Service,
    model: ServedModel,
    body: SummarizeRequest,
    texts: Sequence[str],
    deadline: Deadline,
) -> RequestJobs:
    """Returns the jobs of texts with the options of a request. Raises what ``make_jobs`` does."""
    return await make_jobs(
        request,
        service.batcher,
        model.engine,
        texts,
        split=body.split,
        truncation=body.truncation,
        options=model.options(body.parameters),
        deadline=deadline,
    )


async def _translate_markup(
    request: Request,
    service: Service,
    model: ServedModel,
    body: SummarizeRequest,
    xml: XmlTags | None,
    deadline: Deadline,
) -> list[Result]:
    """Returns translations with the markup of the texts.

    The words of inline elements are translated by themselves, too, which tells where they are in the output. They are
    texts of the request for the queue, so there are at most as many as a request may have.
    """
    length = sum(map(len, body.inputs))
    markups = await beside(length, lambda: [Markup(text, xml) for text in body.inputs])
    texts = [markup.text for markup in markups]
    phrases = list(dict.fromkeys(phrase for markup in markups for phrase in markup.phrases))
    phrases = phrases[: service.settings.max_items - len(texts)]
    try:
        work = await work_of(request, service, model, body, texts + phrases, deadline)
    except InputError as error:  # a phrase may be too long, or lack the language that its text begins with
        wrong = [index for index, _ in error.texts] if isinstance(error, TooLongError) else [error.index or 0]
        if all(index < len(texts) for index in wrong):
            raise
        phrases = []
        work = await work_of(request, service, model, body, texts, deadline)
    results = await run_jobs(request, service.batcher, model.engine, work)
    translations = {phrase: result.text for phrase, result in zip(phrases, results[len(texts) :], strict=True)}

    def render() -> list[Result]:
        rows = zip(markups, work.documents, results, strict=False)  # without the phrases
        return [
            replace(result, text=markup.render(result.text, document.anchors(markup.text, result), translations))
            for markup, document, result in rows
        ]

    return await beside(length, render)


async def beside(characters: int, function: Callable[[], T]) -> T:
    """Returns the function's result; for long texts it runs in a thread, beside the event loop."""
    return function() if characters <= INLINE_CHARACTERS else await asyncio.to_thread(function)


def check(body: SummarizeRequest, model: ServedModel, settings: Settings) -> None:
    """Raises Problem (422) with every part of a request that this server or this model does not support."""
    max_new_tokens, max_num_beams = model.info.max_new_tokens, model.info.max_num_beams
    count, num_beams = len(body.inputs), body.parameters.num_beams
    new_tokens, timeout_ms = body.parameters.max_new_tokens, body.timeout_ms
    is_html = body.format == "html"
    checks = [
        (count > settings.max_items, "/inputs", f"has {count} texts, the limit is {settings.max_items}"),
        (is_html and model.info.task != "translation", "/format", "html is for translations; send text"),
        (is_html and body.split == "none", "/split", "html is read by sentences; leave split out"),
        (is_html and body.stream, "/stream", "html comes as a whole, because its tags move; leave stream out"),
        ((num_beams or 1) > max_num_beams, "/parameters/num_beams", f"is {num_beams}, the limit is {max_num_beams}"),
        (
            (new_tokens or 1) > max_new_tokens,
            "/parameters/max_new_tokens",
            f"is {new_tokens}, the limit is {max_new_tokens}",
        ),
        *(
            ((value or 0) > max_new_tokens, f"/parameters/{name}", f"is {value}, the limit is {max_new_tokens}")
            for name in ("min_new_tokens", "no_repeat_ngram_size")
            for value in [getattr(body.parameters, name)]
        ),
        (
            (timeout_ms or 1) > settings.max_timeout_ms,
            "/timeout_ms",
            f"is {timeout_ms}, the limit is {settings.max_timeout_ms}",
        ),
    ]
    mistakes = [ProblemItem(message=message, pointer=pointer) for wrong, pointer, message in checks if wrong]
    empty = [index for index, text in enumerate(body.inputs[: settings.max_items]) if not text.strip()]
    mistakes += [ProblemItem(message="is an empty text", pointer=f"/inputs/{index}") for index in empty]
    if mistakes:
        raise Problem(422, errors=mistakes)
