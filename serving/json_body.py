"""Routes with a JSON body: bytes that are not such a body are refused with the right status."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from serving.errors import Problem


class JsonRequest(Request):
    """A request whose body is parsed by pydantic-core.

    Its parser raises an error for lone surrogates, NaN, integers of thousands of digits and deep nesting, which the
    standard library's parser returns or fails at with other exceptions.
    """

    async def json(self) -> Any:
        """Returns the parsed body.

        Raises:
            Problem: 400, the body is not JSON in UTF-8.
        """
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:  # its message has the kind of mistake and the position, not the text
            raise Problem(400, f"the body is not valid JSON in UTF-8: {error}") from None


class JsonRoute(APIRoute):
    """A route whose body is JSON: another content type is a 415, an empty body a 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the framework's handler, preceded by those checks."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def checked(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            _require_json(request.headers.get("content-type", ""))
            if not await request.body():
                raise Problem(400, "the body is empty: send a JSON object")
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
