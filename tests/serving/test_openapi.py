"""The OpenAPI document: references, documented errors and examples."""

from __future__ import annotations

import re
from typing import Any


def test_the_docs_page_needs_no_other_server(server: Any) -> None:
    answer = server.client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    linked = re.findall(r"""(?:src|href)="([^"]+)"|url: '([^']+)'""", answer.text)
    addresses = [first or second for first, second in linked]
    assert len(addresses) == 4 and "//" not in "".join(addresses)
    kinds = {server.client.get(address).headers["content-type"].split(";")[0] for address in addresses}
    assert kinds == {"text/css", "image/png", "text/javascript", "application/json"}
    assert "SwaggerUIBundle" in server.client.get(next(name for name in addresses if name.endswith(".js"))).text


def test_every_reference_resolves_and_every_error_is_documented(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            return set().union(
                *(references(value) for value in node.values()), {node["$ref"]} if "$ref" in node else ()
            )
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert {reference.rsplit("/", 1)[1] for reference in references(document)} <= set(schemas)
    responses = document["paths"]["/v1/translate"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "404", "413", "415", "422", "429", "500", "503", "504"}
    assert list(responses["422"]["content"]) == ["application/problem+json"]
    assert schemas["TranslateRequest"]["properties"]["inputs"]["anyOf"] == [
        {"type": "string"},
        {"items": {"type": "string"}, "type": "array"},
    ]


def test_documented_examples_are_accepted(server: Any) -> None:
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    for example in schemas["TranslateRequest"]["examples"]:
        assert server.client.post("/v1/translate", json=example).status_code == 200
    assert set(schemas["GenerateResponse"]["examples"][0]) == set(server.translate("a").json())
