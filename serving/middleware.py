"""ASGI middleware: request ids, the access log, and the checks that come before any route."""

from __future__ import annotations

import hmac
import logging
import re
import time
import uuid
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.dialects import dialect_of
from serving.errors import Problem, internal_error
from serving.routes import page
from serving.settings import Settings

OPEN_PATHS = ("/healthz", "/readyz", "/health", "/languages", "/frontend/settings")  # need no key
_SCHEMES = ("bearer", "deepl-auth-key")
_log = logging.getLogger("serving.access")


class RequestId:
    """Gives every response an ``X-Request-Id`` and a log line, and answers an unexpected exception with a 500.

    It must be the outermost middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = Headers(scope=scope).get("x-request-id", "")
        if not re.fullmatch(r"[\w.-]{1,64}", request_id, re.ASCII):
            request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            _log.exception("request %s failed", request_id)
            if status:  # the response has begun: its status cannot change, so the connection is closed
                raise
            await internal_error(request_id).response()(scope, receive, send_with_id)
        finally:
            milliseconds = 1000 * (time.perf_counter() - started)
            _log.info("%s %s %d %.1f ms %s", scope["method"], quote(scope["path"]), status, milliseconds, request_id)


class RequestChecks:
    """Refuses a wrong key (401), a compressed body (415) and a body over the limit (413).

    A body over the limit is refused by its length header, or when that many bytes have arrived; it is never held whole.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.limit = settings.max_body_bytes
        self.key = settings.api_key.get_secret_value().encode() if settings.api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            self._check(scope, Headers(scope=scope))
        except Problem as problem:
            return await problem.response(scope["path"])(scope, receive, send)
        await self.app(scope, self._bounded(receive), send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        if self.key is not None and not _is_open(scope["method"], path):
            authorization = headers.get("authorization", "")
            scheme, _, token = authorization.partition(" ")
            if not authorization and dialect_of(path).key_in_body:
                scope.setdefault("state", {})["key_is_due"] = True
            # The framework decodes headers as latin-1: encoded again they are the bytes that the client sent.
            elif scheme.lower() not in _SCHEMES or not hmac.compare_digest(token.strip().encode("latin-1"), self.key):
                raise _wrong_key()
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Problem(415, "compressed bodies are not accepted: send the body without Content-Encoding")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise Problem(400, "Content-Length is not a number")
        if len(length) > 18:  # int() raises for thousands of digits
            raise self._too_large("more than 10^18 bytes")
        if int(length) > self.limit:
            raise self._too_large(f"{int(length)} bytes")

    def _bounded(self, receive: Receive) -> Receive:
        received = 0

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise self._too_large(f"{received} bytes or more")
            return message

        return bounded_receive

    def _too_large(self, actual: str) -> Problem:
        return Problem(413, f"the body has {actual}, the limit is {self.limit}", headers={"Connection": "close"})


def require_key(request: Request, key: str | None) -> None:
    """Raises Problem (401) if a request came without a key in its headers, and ``key``, from its body, is wrong."""
    if not getattr(request.state, "key_is_due", False):
        return
    secret = request.app.state.service.settings.api_key.get_secret_value()
    if not hmac.compare_digest((key or "").encode(), secret.encode()):
        raise _wrong_key()


def _wrong_key() -> Problem:
    return Problem(401, "a valid key is needed: Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})


def _is_open(method: str, path: str) -> bool:
    """Returns whether a request needs no key: a probe, or a file of the page, which asks for the key itself."""
    return path in OPEN_PATHS or (path in page.PATHS and method in ("GET", "HEAD"))
