"""The page at ``/``, on which people try the models. It speaks to this server alone, through ``/v1``."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response

_STATIC = Path(__file__).resolve().parent.parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {
    "/": "page.html",
    "/static/page.css": "page.css",
    "/static/page.js": "page.js",
    "/static/panel.js": "panel.js",
    "/static/api.js": "api.js",
    "/static/icon.svg": "icon.svg",
}
PATHS = frozenset(_FILES)
"""Paths that browsers read before they have a key, with GET."""

_POLICY = "; ".join(
    [
        "default-src 'self'",  # no other server, and no script or style inside the page
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # text can become markup nowhere
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


def _add_route(path: str, name: str) -> None:
    """Adds the route that answers ``path`` with a file of ``static``."""
    file = _STATIC / name
    content, media_type = file.read_bytes(), _MEDIA_TYPES[file.suffix]

    async def answer() -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    router.add_api_route(path, answer, methods=["GET", "HEAD"])


for _path, _name in _FILES.items():
    _add_route(_path, _name)
