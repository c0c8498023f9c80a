"""Errors as ``application/problem+json`` (RFC 9457), in one body that every known client can read."""

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

# status: (error_type, title); the titles are those of RFC 9110, and 499 is nginx's.
KINDS = {
    400: ("invalid_json", "Bad Request"),
    401: ("unauthorized", "Unauthorized"),
    404: ("not_found", "Not Found"),
    405: ("method_not_allowed", "Method Not Allowed"),
    413: ("body_too_large", "Content Too Large"),
    415: ("unsupported_media_type", "Unsupported Media Type"),
    422: ("invalid_request", "Unprocessable Content"),
    429: ("queue_full", "Too Many Requests"),
    499: ("client_gone", "Client Closed Request"),
    500: ("internal_error", "Internal Server Error"),
    503: ("unavailable", "Service Unavailable"),
    504: ("deadline_exceeded", "Gateway Timeout"),
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
    """A refusal: its ``status``, what is wrong and what to do, and where in the body.

    Args:
        status: One of ``KINDS``.
        detail: One line; never the user's text. Made from ``errors`` when left out.
        errors: Every mistake found, each with its JSON pointer.
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
        error_type, title = KINDS.get(self.status_code, ("http_error", "HTTP Error"))
        return ProblemBody(
            title=title,
            status=self.status_code,
            detail=self.detail,
            error=self.detail,
            error_type=error_type,
            message=self.detail,
            errors=self.errors or [ProblemItem(message=self.detail, pointer="")],
        )

    def response(self) -> Response:
        """Returns the whole response."""
        return JSONResponse(self.body().model_dump(), self.status_code, self.headers, media_type=MEDIA_TYPE)


def http_problem(_: Request, error: Exception) -> Response:
    """Handles ``Problem``, and what the framework raises itself (an unknown path or method)."""
    if not isinstance(error, Problem):
        assert isinstance(error, HTTPException)
        error = Problem(error.status_code, error.detail, headers=error.headers)
    return error.response()


def validation_problem(_: Request, error: Exception) -> Response:
    """Handles a body that is JSON but not what the route takes: where and why, without the offending value."""
    assert isinstance(error, RequestValidationError)
    return Problem(422, errors=[_item(item) for item in error.errors()]).response()


def _item(error: Mapping[str, Any]) -> ProblemItem:
    path = list(error["loc"][1:])  # the first part says "body"
    message = str(error["msg"])
    if error["type"] == "extra_forbidden":
        # A misspelt field is named; a text that ended up as a key is not repeated.
        name = str(path.pop())
        named = f"field '{name}'" if re.fullmatch(r"[A-Za-z_]\w{0,31}", name, re.ASCII) else "a field"
        message = f"{named} is not known here"
    return ProblemItem(message=message, pointer="".join(f"/{part}" for part in path))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI descriptions of these error statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": KINDS[status][1], "content": content} for status in statuses}
