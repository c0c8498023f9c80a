"""The native contract: ``/v1/translate``, ``/v1/summarize`` and ``/v1/models``."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from compressor.runtime.results import Result
from serving.errors import documented
from serving.generation import check, deadline_of, generate, work_of
from serving.json_body import JsonRoute
from serving.models import ServedModel, Service
from serving.routes.native_stream import EVENTS, stream_response
from serving.schemas import GenerateResponse, ModelList, Output, SummarizeRequest, TranslateRequest, Usage

router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["native"])
_PROBLEMS = documented(400, 401, 404, 413, 415, 422, 429, 500, 503, 504)


@router.post("/translate", response_model=GenerateResponse, responses=EVENTS | _PROBLEMS)
async def translate(body: TranslateRequest, request: Request) -> Response:
    """Translates one text or several; outputs come in the order of the inputs."""
    service: Service = request.app.state.service
    model = service.select("translation", body.model, body.source, body.target)
    return await _answer(service, model, body, request)


@router.post("/summarize", response_model=GenerateResponse, responses=EVENTS | _PROBLEMS)
async def summarize(body: SummarizeRequest, request: Request) -> Response:
    """Summarizes one text or several; outputs come in the order of the inputs."""
    service: Service = request.app.state.service
    return await _answer(service, service.select("summarization", body.model), body, request)


@router.get("/models", responses=documented(401))
async def models(request: Request) -> ModelList:
    """Lists what is loaded, with languages and limits."""
    service: Service = request.app.state.service
    return ModelList(models=[model.info for model in service.models.values()])


async def _answer(service: Service, model: ServedModel, body: SummarizeRequest, request: Request) -> Response:
    if body.stream:
        check(body, model, service.settings)
        work = await work_of(request, service, model, body, body.inputs, deadline_of(body, service))
        return await stream_response(request, service.batcher, service.metrics, model, work)
    results = await generate(request, service, model, body)
    answer = _answer_of(request.state.request_id, model.info.id, results)
    return Response(answer.model_dump_json(), media_type="application/json")  # the framework would check it again


def _answer_of(request_id: str, model_id: str, results: Sequence[Result]) -> GenerateResponse:
    outputs = [Output.of(index, result) for index, result in enumerate(results)]
    usage = Usage(
        input_tokens=sum(output.input_tokens for output in outputs),
        output_tokens=sum(output.output_tokens for output in outputs),
    )
    return GenerateResponse(id=request_id, model=model_id, outputs=outputs, usage=usage)


DIRECT = [route for route in router.routes if isinstance(route, JsonRoute) and route.body_field is not None]
"""Routes with a body, as ``DirectRoutes`` takes them."""
