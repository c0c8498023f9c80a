"""From a valid request to an engine's results: what this server does not do, and what the engine refuses."""

from __future__ import annotations

from collections.abc import Iterator

from compressor.errors import InputError, TooLongError
from compressor.runtime.generator import Result
from serving.problems import Problem, ProblemItem
from serving.schemas import SummarizeRequest
from serving.service import Model
from serving.settings import Settings


def find_mistakes(body: SummarizeRequest, model: Model, settings: Settings) -> list[ProblemItem]:
    """Returns everything that this server or this model does not do, all at once."""
    longest, widest = model.info.max_new_tokens, model.info.max_num_beams
    count, beams = len(body.inputs), body.parameters.num_beams
    new_tokens, timeout = body.parameters.max_new_tokens, body.timeout_ms
    found = [
        (count > settings.max_items, "/inputs", f"has {count} texts, the limit is {settings.max_items}"),
        (body.format != "text", "/format", "html is not supported by this server; send text"),
        (body.split != "none", "/split", "sentences is not supported by this server; send one sentence a text"),
        (beams is not None and beams > widest, "/parameters/num_beams", f"is {beams}, the limit is {widest}"),
        (
            new_tokens is not None and new_tokens > longest,
            "/parameters/max_new_tokens",
            f"is {new_tokens}, the limit is {longest}",
        ),
        (
            timeout is not None and timeout > settings.max_timeout_ms,
            "/timeout_ms",
            f"is {timeout}, the limit is {settings.max_timeout_ms}",
        ),
    ]
    mistakes = [ProblemItem(message=message, pointer=pointer) for wrong, pointer, message in found if wrong]
    empty = [index for index, text in enumerate(body.inputs[: settings.max_items]) if not text.strip()]
    return mistakes + [ProblemItem(message="is an empty text", pointer=f"/inputs/{index}") for index in empty]


def generate(model: Model, body: SummarizeRequest) -> list[Result]:
    """Runs the engine, in the worker's thread; what it refuses becomes a 422 that names the text by its index."""
    try:
        return model.engine.generate(body.inputs, truncation=body.truncation, **model.search(body.parameters))
    except InputError as error:
        raise _refusal(model, body, error) from None


def stream(model: Model, body: SummarizeRequest) -> Iterator[tuple[int, str]]:
    """Yields the pieces of all outputs with their index, one text after the other, in the worker's thread."""
    search = model.search(body.parameters)
    try:
        for index, text in enumerate(body.inputs):
            for delta in model.engine.stream(text, truncation=body.truncation, **search):
                yield index, delta
    except InputError as error:
        raise _refusal(model, body, error) from None


def _refusal(model: Model, body: SummarizeRequest, error: InputError) -> Problem:
    """Returns the 422 for what an engine refused: every text over the limit, by its index."""
    if not isinstance(error, TooLongError):
        return Problem(422, str(error))
    lengths = [len(model.engine.tokenizer.encode_source(text)) for text in body.inputs]
    hint = "shorten it, or send truncation: longest_first"
    return Problem(
        422,
        errors=[
            ProblemItem(message=f"has {length} tokens, the limit is {error.limit}; {hint}", pointer=f"/inputs/{index}")
            for index, length in enumerate(lengths)
            if length > error.limit
        ],
    )
