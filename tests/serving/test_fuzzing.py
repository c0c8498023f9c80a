"""Requests made from the OpenAPI document: no 5xx, and no answer that the document does not have."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_every_answer_is_in_the_document(server: Any, mode: Any) -> None:
    """Of every route, with requests that fit its schema and requests that do not; every mistake is reported."""
    schema = schemathesis.openapi.from_url(f"{server.client.base_url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    failures = [failure for operation in operations for failure in mistakes_of(operation, mode)]
    assert failures == []
    assert len(operations) >= 6
    assert server.translate("golden words").json()["outputs"][0]["text"] == "GOLDEN WORDS"
    assert server.service.batcher.items == 0


def mistakes_of(operation: Any, mode: Any) -> list[str]:
    """Returns the mistakes in the answers of a route."""

    @EXAMPLES
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers_fit(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKS)
        late = answer.status_code == 504 and "timeout_ms" in case.body  # a deadline of a millisecond has passed
        assert answer.status_code < 500 or late, answer.text

    try:
        answers_fit()
    except Unsatisfiable:  # nothing can be wrong in a request without parameters and without a body
        return []
    except (Exception, BaseExceptionGroup) as error:
        return [f"{operation.label}: {error}"]
    return []
