"""The generation configuration as JSON."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from compressor.generation_config import GenerationConfig


@pytest.mark.parametrize(
    ("ids", "text"),
    [((), ""), ((4,), "4"), ((0, 1, 2), "0-2"), ((0, 1, 3, 7, 8, 9), "0-1,3,7-9"), (tuple(range(0, 90, 2)), None)],
)
def test_suppressed_ids_are_stored_as_ranges(ids: tuple[int, ...], text: str | None) -> None:
    rules = GenerationConfig(start_id=1, eos_id=2, pad_id=3, suppressed_ids=ids)
    stored = json.loads(rules.model_dump_json())["suppressed_ids"]
    assert stored == (text if text is not None else ",".join(map(str, ids)))
    assert GenerationConfig.model_validate_json(rules.model_dump_json()) == rules
    assert GenerationConfig.model_validate(rules.model_dump()) == rules


@pytest.mark.parametrize("text", ["a", "3-", "1-2-3", "-4", "0-99999999999"])
def test_damaged_ids_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        GenerationConfig.model_validate({"start_id": 1, "eos_id": 2, "pad_id": 3, "suppressed_ids": text})


def test_allowed_ids_are_those_not_suppressed() -> None:
    assert GenerationConfig(start_id=1, eos_id=2, pad_id=3, suppressed_ids=(3, 0)).allowed_ids(6) == [1, 2, 4, 5]
