"""The table that maps errors to HTTP."""

from __future__ import annotations

import pytest

from compressor.errors import BundleError, InputError, TooLongError
from serving.errors import STATUSES, as_problem
from serving.jobs import ClientGone, DeadlineExceeded, Draining, QueueFull, WorkerDead
from serving.models import NotReady, NotServed, UnknownModel

CASES = [
    (QueueFull(3, 2, 4), 429, "queue_full", "1", [""]),
    (ClientGone(), 499, "client_gone", None, [""]),
    (NotReady("loading"), 503, "unavailable", "5", [""]),
    (Draining(), 503, "unavailable", "5", [""]),
    (WorkerDead(), 503, "unavailable", "5", [""]),
    (DeadlineExceeded(50), 504, "deadline_exceeded", None, [""]),
    (UnknownModel(["a"]), 404, "not_found", None, [""]),
    (NotServed("source", "no"), 422, "invalid_request", None, ["/source"]),
    (InputError("no"), 422, "invalid_request", None, [""]),
    (InputError("{text}: no", index=3), 422, "invalid_request", None, ["/inputs/3"]),
    (TooLongError([(1, 10), (4, 12)], limit=9), 422, "invalid_request", None, ["/inputs/1", "/inputs/4"]),
]


@pytest.mark.parametrize(
    ("error", "status", "error_type", "retry_after", "pointers"), CASES, ids=lambda case: str(case)
)
def test_every_error_has_its_status(
    error: Exception, status: int, error_type: str, retry_after: str | None, pointers: list[str]
) -> None:
    problem = as_problem(error)
    assert problem is not None
    body = problem.body()
    assert (body.status, body.error_type) == (status, error_type)
    assert (problem.headers or {}).get("Retry-After") == retry_after
    assert [item.pointer for item in body.errors] == pointers
    assert body.title == STATUSES[status][1]


def test_an_error_about_the_servers_own_files_is_not_shown_to_clients() -> None:
    assert as_problem(BundleError("/srv/bundle: altered")) is None
