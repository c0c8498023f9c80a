"""The contract of Hugging Face's ``InferenceClient``: ``POST /hf/{model}``, and ``POST /`` for the first model."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from compressor.runtime.documents import default_split
from compressor.runtime.results import FinishReason, Result
from serving.errors import Problem, ProblemItem, documented
from serving.generation import generate
from serving.json_body import JsonRoute
from serving.languages import resolve
from serving.models import ServedModel, Service
from serving.schemas import Inputs, Parameters, SummarizeRequest

router = APIRouter(route_class=JsonRoute, tags=["huggingface"])
_PROBLEMS = documented(400, 401, 404, 413, 415, 422, 429, 500, 503, 504)
_TRUNCATIONS: dict[str | None, Literal["error", "longest_first"] | None] = {
    None: None,
    "do_not_truncate": "error",
    "longest_first": "longest_first",
    "only_first": "longest_first",
    "only_second": "error",  # there is no second text
}


class HuggingFaceParameters(BaseModel):
    """Parameters of the tasks translation and summarization."""

    model_config = ConfigDict(extra="forbid", strict=True)

    src_lang: str | None = None
    tgt_lang: str | None = None
    clean_up_tokenization_spaces: bool | None = Field(default=None, description="No effect: outputs are clean.")
    truncation: Literal["do_not_truncate", "longest_first", "only_first", "only_second"] | None = None
    generate_parameters: Parameters | None = None


class HuggingFaceRequest(BaseModel):
    """Texts for one model. Fields that only the hosted service has, such as ``options``, are ignored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": "Ein Hund rennt im Park."}]})

    inputs: Inputs = Field(description="One text or several.")
    parameters: HuggingFaceParameters | None = None


class HuggingFaceOutput(BaseModel):
    """Output of one text, under the name that its task gives it."""

    translation_text: str | None = None
    summary_text: str | None = None
    truncated: bool
    finish_reason: FinishReason


@router.post("/", responses=_PROBLEMS, response_model=list[HuggingFaceOutput], response_model_exclude_none=True)
async def run_default(body: HuggingFaceRequest, request: Request) -> list[HuggingFaceOutput]:
    """Runs the first model, or the first for the languages in ``parameters``."""
    service: Service = request.app.state.service
    service.require_models()
    model = next(iter(service.models.values()))
    asked = body.parameters or HuggingFaceParameters()
    if asked.src_lang is not None or asked.tgt_lang is not None:
        model = next((one for one in service.models.values() if _has_languages(one, asked)), model)
    return await _run(service, service.select(model.info.task, model.info.id), body, request)


@router.post(
    "/hf/{model}", responses=_PROBLEMS, response_model=list[HuggingFaceOutput], response_model_exclude_none=True
)
async def run(model: str, body: HuggingFaceRequest, request: Request) -> list[HuggingFaceOutput]:
    """Runs a model by its name: translates or summarizes, as the model does."""
    service: Service = request.app.state.service
    service.require_models()
    task = service.models[model].info.task if model in service.models else ""
    return await _run(service, service.select(task, model), body, request)


async def _run(
    service: Service, model: ServedModel, body: HuggingFaceRequest, request: Request
) -> list[HuggingFaceOutput]:
    asked, task = body.parameters or HuggingFaceParameters(), model.info.task
    if not _has_languages(model, asked):
        pair = f"{model.info.source}-{model.info.target}" if task == "translation" else "none"
        message = f"not served by this model; its languages are {pair}"
        raise Problem(422, errors=[ProblemItem(message=message, pointer="/parameters/src_lang")])
    work = SummarizeRequest(
        inputs=body.inputs,
        split=default_split(task),
        truncation=_TRUNCATIONS[asked.truncation],
        parameters=asked.generate_parameters or Parameters(),
    )
    results = await generate(request, service, model, work)
    return [_output(task, result) for result in results]


def _has_languages(model: ServedModel, asked: HuggingFaceParameters) -> bool:
    """Returns whether a model has the languages of a request; one that does not name its languages has any."""
    wanted = [(asked.src_lang, model.info.source), (asked.tgt_lang, model.info.target)]
    if model.info.task != "translation":
        return asked.src_lang is None and asked.tgt_lang is None
    return all(code is None or served is None or resolve(code, [served]) for code, served in wanted)


def _output(task: str, result: Result) -> HuggingFaceOutput:
    name = "translation_text" if task == "translation" else "summary_text"
    texts: dict[str, Any] = {name: result.text}
    return HuggingFaceOutput(truncated=result.truncated, finish_reason=result.finish_reason, **texts)
