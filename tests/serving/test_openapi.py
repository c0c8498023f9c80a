"""The OpenAPI document: references, documented errors and examples."""

from __future__ import annotations

from typing import Any


def test_the_docs_page_is_html(server: Any) -> None:
    answer = server.client.get("/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


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
