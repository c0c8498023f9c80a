"""Requests and responses of the native contract."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError

from compressor.runtime.results import FinishReason, Result


class _Strict(BaseModel):
    """Refuses unknown fields and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise PydanticCustomError("inputs_type", "must be a string or a list of strings")
    if not value:
        raise PydanticCustomError("inputs_empty", "is an empty list: give at least one text")
    return value


Inputs = Annotated[list[str], FailFast(), BeforeValidator(_as_list, json_schema_input_type=str | list[str])]


class Parameters(_Strict):
    """Search options."""

    num_beams: int | None = Field(default=None, ge=1, description="Beams; 1 is greedy and the default.")
    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Longest output in tokens, at most the model's limit; by the length of the text when left out.",
    )
    min_new_tokens: int | None = Field(
        default=None, ge=0, description="No end of sentence before that many tokens; the model's when left out."
    )
    no_repeat_ngram_size: int | None = Field(
        default=None, ge=0, description="No n-gram of this size occurs twice; 0 is off; the model's when left out."
    )
    length_penalty: float | None = Field(
        default=None,
        ge=-100,
        le=100,
        description="Beam scores are divided by length to this; the model's when left out.",
    )


class SummarizeRequest(_Strict):
    """Texts to run through a model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["A long report ..."], "truncation": "longest_first"}]}
    )

    inputs: Inputs = Field(description="One text or several.")
    model: str | None = Field(default=None, description="A name from /v1/models; the first that fits when left out.")
    format: Literal["text", "html"] = Field(
        default="text", description="`html`: the texts of a translation are HTML, whose markup stays."
    )
    split: Literal["sentences", "none"] = Field(
        default="none",
        description="`none`: the model reads each text whole. `sentences`: it reads sentence by sentence, and line "
        "breaks, indentation, list markers and what cannot be translated (numbers, URLs, code blocks) stay.",
    )
    truncation: Literal["error", "longest_first", "split"] | None = Field(
        default=None,
        description="A sentence over the model's limit, or a text that is read whole: refuse it; cut its end and say "
        "so in `truncated`; or read it in parts, which end at clause boundaries. The model's when left out: `error`, "
        "unless it was trained on cut texts.",
    )
    parameters: Parameters = Field(default_factory=lambda: Parameters())
    timeout_ms: int | None = Field(default=None, ge=1, description="Deadline; 504 when it passes.")
    stream: bool = Field(default=False, description="Answer with server-sent events as the tokens come.")


class TranslateRequest(SummarizeRequest):
    """Texts to translate, each from `source` to `target`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": "Ein Hund rennt im Park.", "source": "de", "target": "en"},
                {"inputs": ["Guten Tag.", "Bis morgen."], "source": "de", "target": "en", "timeout_ms": 2000},
            ]
        }
    )

    split: Literal["sentences", "none"] = Field(
        default="sentences", description="As for summaries, but `sentences` is the default."
    )
    source: str | None = Field(
        default=None, description="Language code; may be left out where only one pair is served."
    )
    target: str | None = Field(
        default=None, description="Language code; may be left out where only one pair is served."
    )


class Output(BaseModel):
    """Output of one text. The `done` event of a stream has all fields but `text`."""

    index: int = Field(description="Position in `inputs`.")
    text: str
    input_tokens: int = Field(description="Of all sentences.")
    output_tokens: int = Field(description="Of all sentences.")
    truncated: bool = Field(description="Whether the end of a sentence was cut off.")
    finish_reason: FinishReason = Field(
        description="`eos`: the model ended it. `length`: it reached its limit. `repetition`: it went round in a loop, "
        "of which it has one turn. The last two are not the whole text; of several sentences the worst is told."
    )
    length_stops: int = Field(description="Number of sentences whose output reached its limit.")
    repetition_stops: int = Field(description="Number of sentences whose output went round in a loop.")

    @classmethod
    def of(cls, index: int, result: Result) -> Output:
        """Returns the output at a position of ``inputs``."""
        return cls(
            index=index,
            text=result.text,
            input_tokens=result.input_tokens,
            output_tokens=result.output_tokens,
            truncated=result.truncated,
            finish_reason=result.finish_reason,
            length_stops=result.stops("length"),
            repetition_stops=result.stops("repetition"),
        )


class Usage(BaseModel):
    """Totals over all outputs."""

    input_tokens: int
    output_tokens: int


class GenerateResponse(BaseModel):
    """Outputs, in the order of the inputs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b2f6c0e8f5b4d0b9c43bb0d8a3a2b11",
                    "model": "de-en",
                    "outputs": [
                        {
                            "index": 0,
                            "text": "A dog is running in the park.",
                            "input_tokens": 8,
                            "output_tokens": 9,
                            "truncated": False,
                            "finish_reason": "eos",
                            "length_stops": 0,
                            "repetition_stops": 0,
                        }
                    ],
                    "usage": {"input_tokens": 8, "output_tokens": 9},
                }
            ]
        }
    )

    id: str = Field(description="The request's id, also in `X-Request-Id`.")
    model: str
    outputs: list[Output]
    usage: Usage


class ModelInfo(BaseModel):
    """A model that is loaded, and its limits."""

    id: str
    task: Literal["translation", "summarization"]
    source: str | None = Field(description="Source language, for translation.")
    target: str | None = Field(description="Target language, for translation.")
    precision: str
    max_source_tokens: int
    max_new_tokens: int
    max_num_beams: int
    max_items: int = Field(description="Texts in one request.")


class ModelList(BaseModel):
    """All models that are loaded."""

    models: list[ModelInfo]


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "ready"]
