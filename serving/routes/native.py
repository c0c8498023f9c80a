"""The native contract: ``/v1/translate``, ``/v1/summarize`` and ``/v1/models``."""

from __future__ import annotations

import functools

from fastapi import APIRouter, Request, Response

from serving.inference import find_mistakes, generate
from serving.problems import Problem, documented
from serving.routes.body import JsonRoute
from serving.routes.streaming import stream_response
from serving.schemas import GenerateResponse, ModelList, Output, SummarizeRequest, TranslateRequest, Usage
from serving.service import Model, Service

router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["native"])
_REFUSALS = documented(400, 401, 404, 413, 415, 422, 429, 500, 503, 504)


@router.post("/translate", response_model=GenerateResponse, responses=_REFUSALS)
async def translate(body: TranslateRequest, request: Request) -> Response | GenerateResponse:
    """Translates one text or several; outputs come in the order of the inputs."""
    service: Service = request.app.state.service
    model = service.select("translation", body.model, body.source, body.target)
    return await _answer(service, model, body, request)


@router.post("/summarize", response_model=GenerateResponse, responses=_REFUSALS)
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
    service: Service, model: Model, body: SummarizeRequest, request: Request
) -> Response | GenerateResponse:
    mistakes = find_mistakes(body, model, service.settings)
    if mistakes:
        raise Problem(422, errors=mistakes)
    if body.stream:
        return await stream_response(service, model, body, request)
    results = await service.run(
        request,
        functools.partial(generate, model, body),
        items=len(body.inputs),
        timeout_ms=body.timeout_ms or service.settings.timeout_ms,
    )
    outputs = [
        Output(
            index=index,
            text=result.text,
            input_tokens=result.input_tokens,
            output_tokens=result.output_tokens,
            truncated=result.truncated,
            finish_reason=result.finish_reason,
        )
        for index, result in enumerate(results)
    ]
    usage = Usage(
        input_tokens=sum(output.input_tokens for output in outputs),
        output_tokens=sum(output.output_tokens for output in outputs),
    )
    return GenerateResponse(id=request.state.request_id, model=model.info.id, outputs=outputs, usage=usage)
