"""Errors as ``application/problem+json`` (RFC 9457), in one body that every known client can read.

``ERRORS`` maps the errors of the queue, of the models and of the library to HTTP. An error that is neither there nor a
``Problem`` is a fault of the server: the middleware answers 500 without its text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from compressor.errors import InputError, TooLongError
from serving.dialects import dialect_of
from serving.jobs import ClientGone, DeadlineExceeded, Draining, QueueFull, WorkerDead
from serving.models import NotReady, NotServed, UnknownModel

# status: (error_type, title). The titles are those of RFC 9110; 499 is nginx's.
STATUSES = {
    400: ("invalid_json", "Bad Request"),
    401: ("unauthorized", "Unauthorized"),
    403: ("forbidden", "Forbidden"),
    404: ("not_found", "Not Found"),
    405: ("method_not_allowed", "Method Not Allowed"),
    408: ("request_timeout", "Request Timeout"),
    413: ("body_too_large", "Content Too Large"),
    415: ("unsupported_media_type", "Unsupported Media Type"),
    422: ("invalid_request", "Unprocessable Content"),
    429: ("queue_full", "Too Many Requests"),
    499: ("client_gone", "Client Closed Request"),
    500: ("internal_error", "Internal Server Error"),
    503: ("unavailable", "Service Unavailable"),
    504: ("deadline_exceeded", "Gateway Timeout"),
}
# error class: (status, headers)
ERRORS: dict[type[Exception], tuple[int, dict[str, str]]] = {
    QueueFull: (429, {"Retry-After": "1"}),
    ClientGone: (499, {}),
    NotReady: (503, {"Retry-After": "5"}),
    Draining: (503, {"Retry-After": "5"}),
    WorkerDead: (503, {"Retry-After": "5"}),
    DeadlineExceeded: (504, {}),
    UnknownModel: (404, {}),
    NotServed: (422, {}),
    InputError: (422, {}),
}
MEDIA_TYPE = "application/problem+json"


class ProblemItem(BaseModel):
    """One mistake in a request."""

    message: str
    pointer: str = Field(description="JSON pointer (RFC 6901) to the part of the body that is wrong.")


class ProblemBody(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: str = Field(description="The same as `detail`.")
    error_type: str
    message: str = Field(description="The same as `detail`.")
    errors: list[ProblemItem]


class Problem(HTTPException):
    """A request that is refused for a reason that only HTTP knows, such as a wrong header.

    Args:
        status: One of ``STATUSES``.
        detail: What is wrong and what to do, in one line without the client's text. Made from ``errors`` when left out.
        errors: All mistakes in the body, each with its JSON pointer.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        errors: Sequence[ProblemItem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        detail = detail or "; ".join(f"{item.pointer or 'body'}: {item.message}" for item in errors)
        super().__init__(status, detail, dict(headers or {}))
        self.errors = list(errors)

    def body(self) -> ProblemBody:
        """Returns the error body."""
        error_type, title = STATUSES.get(self.status_code, ("http_error", "HTTP Error"))
        return ProblemBody(
            title=title,
            status=self.status_code,
            detail=self.detail,
            error=self.detail,
            error_type=error_type,
            message=self.detail,
            errors=self.errors or [ProblemItem(message=self.detail, pointer="")],
        )

    def response(self, path: str = "") -> Response:
        """Returns the whole response, in the dialect of the route at ``path``."""
        dialect = dialect_of(path)
        body = _renamed(self, dialect.inputs).body()
        body.status = dialect.statuses.get(body.status, body.status)
        if body.status != self.status_code:
            body.title = STATUSES[body.status][1]
        if body.status == 429:
            body.detail = body.error = body.message = dialect.too_many + body.detail
        return JSONResponse(body.model_dump(), body.status, self.headers, media_type=MEDIA_TYPE)


def _renamed(problem: Problem, inputs: str) -> Problem:
    """Returns a problem whose pointers name the field with the texts as a dialect does."""
    if inputs == "inputs" or not problem.errors:
        return problem
    items = [
        ProblemItem(message=item.message, pointer=re.sub("^/inputs", f"/{inputs}", item.pointer))
        for item in problem.errors
    ]
    return Problem(problem.status_code, errors=items, headers=problem.headers)


def as_problem(error: Exception) -> Problem | None:
    """Returns the problem for an error in ``ERRORS`` or of the framework; None for any other."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):  # an unknown path or method
        return Problem(error.status_code, error.detail, headers=error.headers)
    row = next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), None)
    if row is None:
        return None
    status, headers = row
    errors = _mistakes(error)
    return Problem(status, "" if errors else str(error), errors=errors, headers=headers)


def internal_error(request_id: str) -> Problem:
    """Returns the problem for a fault of the server, whose cause is in the log."""
    return Problem(500, f"the server failed at this request; its log has the cause under {request_id}")


def answer_error(request: Request, error: Exception) -> Response:
    """Answers a request that ended with an error; raises one that is a fault of the server.

    It answers a ``Problem``, an error in ``ERRORS`` or of the framework, and a body that is JSON but not what the
    route takes: where and why, without the wrong value.
    """
    if isinstance(error, RequestValidationError):
        problem: Problem | None = Problem(422, errors=[_item(item) for item in error.errors()])
    else:
        problem = as_problem(error)
    if problem is None:
        raise error
    return problem.response(request.url.path)


def _mistakes(error: Exception) -> list[ProblemItem]:
    """Returns the parts of the body that an error is about, if it says so."""
    if isinstance(error, NotServed):
        return [ProblemItem(message=str(error), pointer=f"/{error.field}")]
    if isinstance(error, TooLongError):
        ends = f"the limit is {error.limit}; shorten it, or send truncation: longest_first"
        if error.sentences is not None:
            ends += " or split"
        return [
            ProblemItem(message=f"{error.describe(index, length)}, {ends}", pointer=f"/inputs/{index}")
            for index, length in error.texts
        ]
    if isinstance(error, InputError) and error.index is not None:
        message = error.render(text=lambda _: "the text")
        return [ProblemItem(message=message, pointer=f"/inputs/{error.index}")]
    return []


def _item(error: Mapping[str, Any]) -> ProblemItem:
    path = list(error["loc"][1:])  # the first part is "body"
    message = str(error["msg"])
    if error["type"] == "extra_forbidden":
        # The name of a misspelt field is repeated; a text that was sent as a key is not.
        name = str(path.pop())
        named = f"field '{name}'" if re.fullmatch(r"[A-Za-z_]\w{0,31}", name, re.ASCII) else "a field"
        message = f"{named} is not known here"
    return ProblemItem(message=message, pointer="".join(f"/{part}" for part in path))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI descriptions of these error statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": STATUSES[status][1], "content": content} for status in statuses}
