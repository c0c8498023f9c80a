"""The native contract: ``/v1/translate``, ``/v1/summarize`` and ``/v1/models``."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from compressor.runtime.results import Result
from serving.errors import Problem, ProblemItem, documented
from serving.execution import make_jobs, run_jobs
from serving.jobs import Deadline
from serving.json_body import JsonRoute
from serving.models import ServedModel, Service
from serving.routes.native_stream import EVENTS, stream_response
from serving.schemas import GenerateResponse, ModelList, Output, SummarizeRequest, TranslateRequest, Usage
from serving.settings import Settings

router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["native"])
_PROBLEMS = documented(400, 401, 404, 413, 415, 422, 429, 500, 503, 504)


@router.post("/translate", response_model=GenerateResponse, responses=EVENTS | _PROBLEMS)
async def translate(body: TranslateRequest, request: Request) -> Response | GenerateResponse:
    """Translates one text or several; outputs come in the order of the inputs."""
    service: Service = request.app.state.service
    model = service.select("translation", body.model, body.source, body.target)
    return await _answer(service, model, body, request)


@router.post("/summarize", response_model=GenerateResponse, responses=EVENTS | _PROBLEMS)
async def summarize(body: SummarizeRequest, request: Request) -> Response | GenerateResponse:
    """Summarizes one text or several; outputs come in the order of the inputs."""
    service: Service = request.app.state.service
    return await _answer(service, service.select("summarization", body.model), body, request)


@router.get("/models", responses=documented(401))
async def models(request: Request) -> ModelList:
    """Lists what is loaded, with languages and limits."""
    service: Service = request.app.state.service
    return ModelList(models=[model.info for model in service.models.values()])


async def _answer(
    service: Service, model: ServedModel, body: SummarizeRequest, request: Request
) -> Response | GenerateResponse:
    mistakes = _mistakes(body, model, service.settings)
    if mistakes:
        raise Problem(422, errors=mistakes)
    engine, batcher = model.engine, service.batcher
    work = await make_jobs(
        request,
        batcher,
        engine,
        body.inputs,
        split=body.split,
        truncation=body.truncation,
        options=model.options(body.parameters),
        deadline=Deadline.after(body.timeout_ms or service.settings.timeout_ms),
    )
    if body.stream:
        return await stream_response(request, batcher, service.metrics, model, work)
    results = await run_jobs(request, batcher, engine, work)
    service.metrics.count(model.info.id, results)
    return _response(request.state.request_id, model.info.id, results)


def _mistakes(body: SummarizeRequest, model: ServedModel, settings: Settings) -> list[ProblemItem]:
    """Returns every part of a request that this server or this model does not support."""
    max_new_tokens, max_num_beams = model.info.max_new_tokens, model.info.max_num_beams
    count, num_beams = len(body.inputs), body.parameters.num_beams
    new_tokens, timeout_ms = body.parameters.max_new_tokens, body.timeout_ms
    checks = [
        (count > settings.max_items, "/inputs", f"has {count} texts, the limit is {settings.max_items}"),
        (body.format != "text", "/format", "html is not supported by this server; send text"),
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
    return mistakes + [ProblemItem(message="is an empty text", pointer=f"/inputs/{index}") for index in empty]


def _response(request_id: str, model_id: str, results: Sequence[Result]) -> GenerateResponse:
    outputs = [Output.of(index, result) for index, result in enumerate(results)]
    usage = Usage(
        input_tokens=sum(output.input_tokens for output in outputs),
        output_tokens=sum(output.output_tokens for output in outputs),
    )
    return GenerateResponse(id=request_id, model=model_id, outputs=outputs, usage=usage)
