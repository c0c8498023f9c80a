"""ASGI middleware: request ids, the access log, and the checks that come before any route."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import Access
from serving.dialects import dialect_of
from serving.errors import STATUSES, Problem, internal_error
from serving.metrics import Metrics, chosen_model
from serving.routes import page
from serving.settings import Settings

PROBES = ("/healthz", "/readyz", "/health")
OPEN_PATHS = (*PROBES, "/languages", "/frontend/settings")  # need no key
_QUIET = (*PROBES, "/metrics")  # logged at the level debug
_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_log = logging.getLogger("serving.access")


class RequestId:
    """Gives every response an ``X-Request-Id``, a log line and its place in the metrics.

    It must be the outermost middleware. It answers an unexpected exception with a 500.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = Headers(scope=scope).get("x-request-id", "")
        if not (request_id and _ID.fullmatch(request_id)):
            request_id = f"{secrets.randbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = time.perf_counter()
        self.metrics.begin_request()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:  # in the middle of the body: nobody reads an answer
            status = 499
        except Exception:
            _log.exception("request %s failed", request_id, extra={"request_id": request_id})
            if status:  # the response has begun: its status cannot change, so the connection is closed
                raise
            await internal_error(request_id).response()(scope, receive, send_with_id)
        finally:
            self._end(scope, status, time.perf_counter() - started)

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts and logs a request."""
        state, method = scope["state"], scope["method"]
        route = getattr(scope.get("route"), "path", "")
        failure = state.get("failure")
        if failure is None and not 0 < status < 400:
            failure = STATUSES.get(status, ("http_error",))[0]
        self.metrics.end_request(method, route, status, seconds, failure)
        level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
        if not _log.isEnabledFor(level):
            return
        model, path = chosen_model.get(), quote(scope["path"])
        fields = {
            "request_id": state["request_id"],
            "method": method,
            "path": path,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
            "model": model.id if model is not None else None,
            "key": state.get("key"),
            "failure": failure,
        }
        text = "%s %s %d %.1f ms %s"
        _log.log(level, text, method, path, status, 1000 * seconds, state["request_id"], extra=fields)


class RequestChecks:
    """Refuses a wrong key (401), too many requests (429), a compressed body (415), and one over a limit (413, 408).

    A body over the limit is refused by its length header, or when that many bytes have arrived; it is never held whole.
    """

    def __init__(self, app: ASGIApp, settings: Settings, access: Access) -> None:
        self.app = app
        self.access = access
        self.limit = settings.max_body_bytes
        self.receive_seconds = settings.receive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            headers = Headers(scope=scope)
            self._check_access(scope, headers.get("authorization", ""))
            self._check_body(headers)
        except Problem as problem:
            scope["state"]["failure"] = problem.body().error_type
            return await problem.response(scope["path"])(scope, receive, send)
        await self.app(scope, self._bounded(receive), send)

    def _check_access(self, scope: Scope, authorization: str) -> None:
        """Counts a request, by its key where the server has keys. Raises Problem (401, 429)."""
        if _is_open(scope["method"], scope["path"]):
            return
        if self.access.needs_key and not authorization and dialect_of(scope["path"]).key_in_body:
            scope["state"]["key_is_due"] = True  # the route calls require_key
            return
        address = scope["client"][0] if scope.get("client") else ""
        scope["state"]["key"] = self.access.admit(authorization, address)

    def _check_body(self, headers: Headers) -> None:
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
        """Returns a ``receive`` that raises the problem of a body that is too large or comes too slowly."""
        received, more = 0, True
        latest = asyncio.get_running_loop().time() + self.receive_seconds

        async def bounded_receive() -> Message:
            nonlocal received, more
            if not more:  # waits for the client to go away
                return await receive()
            try:
                async with asyncio.timeout_at(latest):
                    message = await receive()
            except TimeoutError:
                raise Problem(
                    408, f"the body did not arrive within {self.receive_seconds:g} s", headers={"Connection": "close"}
                ) from None
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
            if received > self.limit:
                raise self._too_large(f"{received} bytes or more")
            return message

        return bounded_receive

    def _too_large(self, actual: str) -> Problem:
        return Problem(413, f"the body has {actual}, the limit is {self.limit}", headers={"Connection": "close"})


def require_key(request: Request, key: str | None) -> None:
    """Counts a request that came without a key in its headers, by the key of its body. Raises Problem (401, 429)."""
    if getattr(request.state, "key_is_due", False):
        request.state.key = request.app.state.access.admit_key((key or "").encode())


def _is_open(method: str, path: str) -> bool:
    """Returns whether a request needs no key: a probe, or a file of the page, which asks for the key itself."""
    return path in OPEN_PATHS or (path in page.PATHS and method in ("GET", "HEAD"))
