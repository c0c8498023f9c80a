"""The page at ``/`` as the server sends it: its headers, its files, and what a key or a setting closes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import serving

STATIC = Path(serving.__file__).parent / "static"
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
SINKS = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|setHTML|\.style\b"
"""What would make markup of a text, or what the content security policy forbids."""


class Elements(HTMLParser):
    """The start tags of a document with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def tags(server: Any) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(server.client.get("/").text).tags


@pytest.mark.parametrize("file", sorted(path.name for path in STATIC.iterdir()))
def test_every_file_has_its_type_and_the_strict_headers(server: Any, file: str) -> None:
    answer = server.client.get("/" if file == "page.html" else f"/static/{file}")
    assert (answer.status_code, answer.content) == (200, (STATIC / file).read_bytes())
    assert answer.headers["content-type"].split(";")[0] == TYPES[Path(file).suffix]
    policy = answer.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'self'" and "frame-ancestors 'none'" in policy
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert server.client.head("/" if file == "page.html" else f"/static/{file}").status_code == 200


def test_the_page_refers_to_files_of_this_server_alone(server: Any, tags: list[Any]) -> None:
    references = [value for _, attributes in tags for name, value in attributes.items() if name in ("href", "src")]
    assert len(references) == 3
    for reference in references:  # relative, so that the page works under a proxy's path
        assert re.fullmatch(r"static/[\w.]+", reference) and server.client.get(f"/{reference}").status_code == 200
    for path in STATIC.iterdir():
        addresses = re.findall(r"\w+://[^\s\"')]+", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}  # the namespace of icons


def test_no_script_or_style_stands_in_the_page_and_no_text_becomes_markup(tags: list[Any]) -> None:
    assert not [name for _, attributes in tags for name in attributes if name == "style" or name.startswith("on")]
    assert [attributes.get("src") for tag, attributes in tags if tag in ("script", "style")] == ["static/page.js"]
    for path in STATIC.glob("*.js"):
        assert re.findall(SINKS, path.read_text(encoding="utf-8")) == [], path.name


def test_every_control_has_a_label(tags: list[Any]) -> None:
    labelled = {attributes["for"] for tag, attributes in tags if tag == "label" and "for" in attributes}
    controls = {
        attributes.get("id")
        for tag, attributes in tags
        if tag in ("select", "textarea", "input") and attributes.get("type") != "radio"  # these lie in their labels
    }
    assert controls == labelled == {"key", "source", "target", "model", "second", "text"}


def test_the_page_needs_no_key_and_opens_nothing_else(start: Any) -> None:
    client = start(api_key="s3cret").client
    for path in ("/", "/static/page.js"):
        assert client.get(path).status_code == 200
        assert client.post(path, json={"inputs": "a"}).status_code == 401
    assert client.get("/v1/models").status_code == 401
    assert client.get("/static/../v1/models").status_code == 401


def test_a_setting_closes_the_page(start: Any) -> None:
    client = start(page=False).client
    assert client.get("/").status_code == 405  # Hugging Face's clients post there
    assert {client.get(path).status_code for path in ("/static/page.js", "/static/page.css")} == {404}
    assert client.get("/v1/models").status_code == 200


def test_the_page_is_no_part_of_the_openapi_document(server: Any) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    assert "get" not in paths["/"] and not [path for path in paths if path.startswith("/static")]
