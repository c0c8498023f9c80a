"""The learned limit of an output: from lengths to a number, and where it applies."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from compressor.bundle import read_manifest
from compressor.output_limit import OutputLimit, learn_output_limit
from compressor.run_folder import read_record

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_ratio_is_exceeded_by_one_reference_in_a_thousand() -> None:
    sources = [10] * 2001
    targets = [*range(10, 2010), 0]  # ratios 1.0, 1.1, ..., 200.9; the last has no reference
    limit = learn_output_limit(sources, targets)
    # between the sorted values 1997 and 1998 (from 0): 0.999 * 1999 = 1997.001
    assert limit == OutputLimit(ratio=round((10 + 1997.001) / 10, 3), constant=10)
    over = sum(target > 10 * limit.ratio for target in targets)
    assert over == 2  # of 2000


@pytest.mark.parametrize(("sources", "targets"), [([], []), ([3, 4], [0, 0])])
def test_nothing_is_learned_without_references(sources: list[int], targets: list[int]) -> None:
    assert learn_output_limit(sources, targets) is None


@pytest.mark.parametrize(("tokens", "limit"), [(1, 11), (2, 13), (3, 14), (40, 70)])
def test_a_limit_is_a_line_rounded_down(tokens: int, limit: int) -> None:
    assert OutputLimit(ratio=1.5, constant=10).tokens(tokens) == limit


@pytest.mark.parametrize(
    ("tokens", "shortest", "expected"),
    [(5, 0, 20), (5, 19, 20), (5, 20, 128), (5, 60, 128), (100, 0, 128), (5, None, 20)],
)
def test_the_default_is_at_most_the_models_and_above_what_is_asked_for(
    tokens: int, shortest: int | None, expected: int
) -> None:
    manifest = read_manifest(EXAMPLES / "de-en")  # max_new_tokens 128, min_new_tokens 0
    limited = manifest.model_copy(update={"output_limit": OutputLimit(ratio=2.0, constant=10)})
    assert limited.default_max_new_tokens(tokens, shortest) == expected
    without = manifest.model_copy(update={"output_limit": None})
    assert without.default_max_new_tokens(tokens, shortest) == 128


def test_a_run_learns_it_and_its_bundle_has_it(tiny_run: Path, tiny_bundle: Path) -> None:
    limit = read_record(tiny_run).output_limit
    assert limit is not None and limit.constant == 10
    assert 0.5 < limit.ratio < 2  # a word stands for a word
    assert read_manifest(tiny_bundle).output_limit == limit


@pytest.mark.parametrize("fields", [{"ratio": -1, "constant": 10}, {"ratio": 1, "constant": 0}, {"ratio": 1, "x": 1}])
def test_a_wrong_limit_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OutputLimit.model_validate(fields)
