"""Says which outputs are not whole, on standard error."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from compressor.runtime.results import Result

_NAMED = 10
"""Outputs that are named; of more, the number is said."""


class Endings:
    """The outputs of a command that the model did not end by itself; on exit they are reported."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._counts: Counter[str] = Counter()

    def add(self, where: str, result: Result) -> None:
        """Takes a result; ``where`` names its source: ``line 3``."""
        if result.finish_reason == "eos":
            return
        self._counts[result.finish_reason] += 1
        if len(self._named) < _NAMED:
            self._named.append(f"{where}: {_reason(result)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._counts:
            print("\n".join(self._report()), file=sys.stderr, flush=True)

    def _report(self) -> list[str]:
        """Returns a line for each of the first outputs and, where there are more, how many there are."""
        total, lines = self._counts.total(), list(self._named)
        if total > len(lines):
            length, repetition = self._counts["length"], self._counts["repetition"]
            lines.append(f"{total} outputs are not whole: {length} stopped at the limit, {repetition} at a repetition")
        return lines


def _reason(result: Result) -> str:
    if result.finish_reason == "length":
        return f"output stopped at the limit of {result.output_tokens} tokens"
    return f"output repeated itself; cut after {result.output_tokens} tokens"
