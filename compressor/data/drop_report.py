"""The count of examples that were read, and of those dropped for each reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from compressor.data.examples import Example
from compressor.data.lines import BadRows
from compressor.run_folder import DropRecord

SHOWN = 3  # dropped examples in the report, for each reason


@dataclass
class DropReport:
    """How many examples were read, and how many were dropped for which reason."""

    read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        """Examples that remain."""
        return self.read - sum(self.dropped.values())

    def drop(self, reason: str, example: Example) -> None:
        """Counts one dropped example; the first few of each reason go into the report."""
        text = example.source if example.target is None else f"{example.source} ||| {example.target}"
        self.count(reason, 1, [text if len(text) <= 160 else text[:159] + "…"])

    def count(self, reason: str, number: int, shown: list[str]) -> None:
        """Counts examples that were dropped, of which the first few go into the report."""
        self.dropped[reason] = self.dropped.get(reason, 0) + number
        self.shown[reason] = [*self.shown.get(reason, []), *shown][:SHOWN]

    def unreadable(self, bad: BadRows) -> None:
        """Counts the rows of a source that could not be read."""
        self.read += bad.count
        if bad.count:
            self.count("that cannot be read", bad.count, bad.shown)

    def add(self, other: DropReport) -> None:
        """Continues with what another report counted, such as that of further corpora."""
        self.read += other.read
        for reason, count in other.dropped.items():
            self.count(reason, count, other.shown[reason])

    def text(self) -> str:
        """The report as one paragraph."""
        if not self.dropped:
            return f"Kept all {self.read:,} examples."
        parts = [f"{count:,} {reason} (such as {self.shown[reason][0]!r})" for reason, count in self.dropped.items()]
        return f"Kept {self.remaining:,} of {self.read:,} examples; dropped {', '.join(parts)}."

    def record(self) -> DropRecord:
        """The report as it is written into ``run.json``."""
        return DropRecord(
            read=self.read, remaining=self.remaining, dropped=dict(self.dropped), examples=dict(self.shown)
        )
