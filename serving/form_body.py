"""Routes with a body that is JSON or a form, as LibreTranslate's and DeepL's clients send."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute

from serving.errors import Problem
from serving.json_body import JsonRequest

FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000


class FormRequest(JsonRequest):
    """A request whose form is read as a JSON object."""

    async def json(self) -> Any:
        """Returns the fields. Raises as ``parse_form``."""
        return parse_form(await self.body())


class FormRoute(APIRoute):
    """A route whose body is JSON or a form: another content type is a 415."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the framework's handler, which gets either as JSON."""
        handler = super().get_route_handler()
        if self.body_field is None:
            return handler

        async def checked(request: Request) -> Response:
            kind = _content_type(request.headers.get("content-type", ""))
            headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
            scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
            parsed = (FormRequest if kind == FORM else JsonRequest)(scope, request.receive)
            if not await parsed.body():
                raise Problem(400, "the body is empty: send a JSON object or a form")
            return await handler(parsed)

        return checked


def parse_form(body: bytes) -> dict[str, Any]:
    """Returns the fields of a form; one that occurs more than once is a list.

    Raises:
        Problem: 400, the body is no form in UTF-8.
    """
    try:
        text = body.decode("utf-8")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, f"the body is not a form in UTF-8 of at most {_MOST_FIELDS} fields") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        earlier = fields.get(name)
        if earlier is None:
            fields[name] = value
        elif isinstance(earlier, list):
            earlier.append(value)
        else:
            fields[name] = [earlier, value]
    return fields


def form_schema(model: str) -> dict[str, Any]:
    """Returns what OpenAPI is told of a route that takes the schema ``model`` as a form, too."""
    return {"requestBody": {"content": {FORM: {"schema": {"$ref": f"#/components/schemas/{model}"}}}}}


def _content_type(value: str) -> str:
    header = Message()
    header["content-type"] = value
    kind, charset = header.get_content_type(), str(header.get_param("charset", "utf-8")).lower()
    if not value or kind not in (FORM, "application/json") or charset not in ("utf-8", "utf8"):
        raise Problem(415, f"send JSON or a form in UTF-8, with Content-Type: application/json or {FORM}")
    return kind
