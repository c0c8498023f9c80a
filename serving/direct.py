"""Requests of the native contract, answered without the framework's router.

The router, its exit stacks and the resolution of dependencies were a third of the processor time of a request of one
text. The routes stay registered: the document /docs, wrong methods and mounted applications are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import answer_error
from serving.json_body import read_json

Endpoint = Callable[[Any, Request], Coroutine[Any, Any, Response]]


class DirectRoutes:
    """ASGI middleware that runs the functions of some routes itself; it must be the innermost.

    Args:
        app: Gets every other request.
        routes: Routes of one path without parameters, whose function takes a body (a pydantic model) and the request,
            and returns a response.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self.app = app
        self._routes = {("POST", route.path): (route, _body_of(route.endpoint)) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        direct = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        if direct is None:
            return await self.app(scope, receive, send)
        route, model = direct
        scope["route"] = route
        request = Request(scope, receive)
        try:
            body = _validated(model, await read_json(request))
            response = await route.endpoint(body, request)
        except Exception as error:
            response = answer_error(request, error)
        await response(scope, receive, send)


def _body_of(endpoint: Endpoint) -> type[BaseModel]:
    body: type[BaseModel] = get_type_hints(endpoint)["body"]
    return body


def _validated(model: type[BaseModel], value: object) -> BaseModel:
    """Returns the body. Raises RequestValidationError, as the framework does."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in mistakes]) from None
