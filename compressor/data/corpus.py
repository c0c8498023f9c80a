"""From the recipe's data section to clean token ids: read, check, drop with a reason, tokenize, fingerprint."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from compressor.config import DataConfig, DataSource
from compressor.data.batching import TokenRows
from compressor.data.examples import Example, source_key
from compressor.data.readers import (
    file_fingerprint,
    read_hub,
    read_table,
    read_text,
)
from compressor.data.synthetic.corpus import generate
from compressor.errors import DataError
from compressor.progress import Bar
from compressor.run_folder import DropRecord, Fingerprint
from compressor.text.tokenizer import cut

__all__ = ["Corpus", "DropReport", "Encoded", "Example", "Fingerprint", "clean", "encode", "file_fingerprint",
           "load_corpus", "read_pairs", "source_key"]  # fmt: skip

SHOWN = 3  # dropped examples in the report, for each reason


class Encoder(Protocol):
    """What is needed of a tokenizer."""

    @property
    def eos_id(self) -> int: ...
    def encode_source(self, text: str) -> list[int]: ...
    def encode_target(self, text: str) -> list[int]: ...


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
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if self.dropped[reason] <= SHOWN:
            text = example.source if example.target is None else f"{example.source} ||| {example.target}"
            self.shown.setdefault(reason, []).append(text if len(text) <= 160 else text[:159] + "…")

    def add(self, other: DropReport) -> None:
        """Continues with what another report counted, such as that of further corpora."""
        self.read += other.read
        for reason, count in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            self.shown[reason] = [*self.shown.get(reason, []), *other.shown[reason]][:SHOWN]

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


@dataclass(frozen=True)
class Corpus:
    """Examples with the report of what was dropped and the fingerprints of what was read."""

    examples: list[Example]
    report: DropReport
    fingerprints: list[Fingerprint]


@dataclass(frozen=True)
class Encoded:
    """A corpus as token ids; row n of each belongs to example n, targets end with EOS, no target is an empty row."""

    examples: list[Example]
    sources: TokenRows
    targets: TokenRows


def load_corpus(
    data: DataConfig, split: Literal["train", "mono", "dev"], held_out: Iterable[str] = (), bar: Bar | None = None
) -> Corpus:
    """Reads all sources of a split. Training data is cleaned; development data is scored as it is.

    Args:
        data: the recipe's data section.
        split: which list of sources.
        held_out: sources that must not be trained on: those of the development set.
        bar: shows the step at work.

    Raises:
        DataError: a file is missing, empty, misaligned or not UTF-8, or nothing remains.
    """
    examples, fingerprints = [], []
    for spec in getattr(data, split):
        if bar is not None:
            bar.start(f"reading {spec.source or spec.path or spec.hub or spec.synthetic}", None)
        rows = read_pairs(spec, Path(data.root))
        if split == "mono":
            rows = [Example(row.source) for row in rows]
        examples += rows
        fingerprints += _fingerprints(spec, Path(data.root), rows)
    if split == "dev":
        return Corpus(examples, DropReport(read=len(examples)), fingerprints)
    shown = examples if bar is None else bar.track(examples, "cleaning", len(examples))
    examples, report = clean(shown, held_out=held_out, deduplicate=data.deduplicate)
    return Corpus(examples, report, fingerprints)


def read_pairs(spec: DataSource, root: Path) -> list[Example]:
    """Reads one source of examples; relative paths start at ``root``.

    Raises:
        DataError: the data is missing, empty, misaligned, not UTF-8 or has no such column.
        DependencyError: it needs the package `datasets`, which is absent.
    """
    if spec.synthetic:
        return generate(spec.synthetic, spec.synthetic_split, spec.size or 1)
    if spec.hub:
        return read_hub(spec.hub, spec.hub_config, spec.split, spec.source_column, spec.target_column, spec.size)
    if spec.path:
        examples = read_table(root / spec.path, spec.source_column, spec.target_column)
    else:
        examples = read_text(root / str(spec.source), root / spec.target if spec.target else None)
    return examples[: spec.size]


def clean(
    examples: Iterable[Example], *, held_out: Iterable[str] = (), deduplicate: bool = True
) -> tuple[list[Example], DropReport]:
    """Drops, by their texts, examples with an empty side, repeated pairs, and held-out sources.

    Raises:
        DataError: nothing remains.
    """
    forbidden = {source_key(source) for source in held_out}
    seen: set[Example] = set()
    remaining, report = [], DropReport()
    for example in examples:
        report.read += 1
        if not example.source or example.target == "":
            report.drop("with an empty side", example)
        elif forbidden and source_key(example.source) in forbidden:
            report.drop("with a held-out source", example)
        elif deduplicate and example in seen:
            report.drop("repeated", example)
        else:
            seen.add(example)
            remaining.append(example)
    _refuse_nothing(remaining, report)
    return remaining, report


def encode(examples: Iterable[Example], tokenizer: Encoder, data: DataConfig, report: DropReport) -> Encoded:
    """Tokenizes, and drops (or cuts, with ``data.truncate``) what is too long or too unequal in tokens.

    Args:
        examples: cleaned examples.
        tokenizer: the student's.
        data: limits on tokens, EOS and prefixes included.
        report: the report of `clean`, which is continued.

    Raises:
        DataError: nothing remains.
    """
    remaining: list[Example] = []
    sources: list[array[int]] = []
    targets: list[array[int]] = []
    for example in examples:
        source = tokenizer.encode_source(example.source)
        target = [] if example.target is None else tokenizer.encode_target(example.target)
        if data.truncate:
            source = cut(source, data.max_source_tokens, tokenizer.eos_id)
            target = cut(target, data.max_target_tokens, tokenizer.eos_id)
        if reason := _too_long(len(source), len(target), data):
            report.drop(reason, example)
            continue
        remaining.append(example)
        sources.append(array("i", source))
        targets.append(array("i", target))
    _refuse_nothing(remaining, report)
    return Encoded(remaining, TokenRows(sources), TokenRows(targets))


def _too_long(source: int, target: int, data: DataConfig) -> str | None:
    """Returns why an example with these token counts is dropped; None if it is not."""
    if source > data.max_source_tokens:
        return f"with a source over {data.max_source_tokens} tokens"
    if target > data.max_target_tokens:
        return f"with a target over {data.max_target_tokens} tokens"
    if target and data.max_length_ratio and max(source, target) > data.max_length_ratio * min(source, target):
        return f"with a length ratio over {data.max_length_ratio:g}"
    return None


def _refuse_nothing(examples: Sequence[Example], report: DropReport) -> None:
    """Raises DataError if there are no examples."""
    if not examples:
        raise DataError(f"no examples are left to train on. {report.text()}")


def _fingerprints(spec: DataSource, root: Path, rows: Sequence[Example]) -> list[Fingerprint]:
    """Returns the identity of each file of a source, or of the rows where the source is not a file."""
    names = [name for name in (spec.source, spec.target, spec.path) if name]
    if names:
        return [Fingerprint(name=_public(name), rows=len(rows), sha256=file_fingerprint(root / name)) for name in names]
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.source}\t{row.target or ''}\n".encode())
    origin = f"hub:{spec.hub}:{spec.split}" if spec.hub else f"synthetic:{spec.synthetic}:{spec.synthetic_split}"
    return [Fingerprint(name=origin, rows=len(rows), sha256=digest.hexdigest())]


def _public(name: str) -> str:
    """Returns a relative path as it is, and the name alone of a path that leads out of the data folder."""
    path = Path(name)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
