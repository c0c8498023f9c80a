"""JSON bodies: bytes that are not one are refused with the right status."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from serving.errors import Problem


async def read_json(request: Request) -> Any:
    """Returns the parsed body of a request.

    pydantic-core's parser raises an error for lone surrogates, NaN, integers of thousands of digits and deep nesting,
    which the standard library's returns or fails at with other exceptions.

    Raises:
        Problem: 415, another content type; 400, the body is empty or not JSON in UTF-8.
    """
    body = await _json_bytes(request)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:  # its message has the kind of mistake and the position, not the text
        raise Problem(400, f"the body is not valid JSON in UTF-8: {error}") from None


async def _json_bytes(request: Request) -> bytes:
    """Returns the body, whole and not empty, of a request whose header says that it is JSON. Raises Problem."""
    _require_json(request.headers.get("content-type", ""))
    body = await request.body()
    if not body:
        raise Problem(400, "the body is empty: send a JSON object")
    return body


class JsonRequest(Request):
    """A request whose body is parsed by ``read_json``."""

    async def json(self) -> Any:
        """Returns the parsed body; raises as ``read_json``."""
        return await read_json(self)


class JsonRoute(APIRoute):
    """A route whose body is JSON, read by ``read_json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the framework's handler."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def checked(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            await _json_bytes(request)  # the framework would take an empty one for one that is missing
            return await handler(request)

        return checked


def _require_json(content_type: str) -> None:
    if content_type == "application/json":  # what nearly every client sends
        return
    header = Message()
    header["content-type"] = content_type
    charset = str(header.get_param("charset", "utf-8")).lower()
    if not content_type or header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        raise Problem(415, "send JSON in UTF-8 with Content-Type: application/json")
