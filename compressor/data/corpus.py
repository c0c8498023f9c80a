"""From the recipe's data section to clean text: read, check, drop with a reason, fingerprint."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compressor.data.drop_report import DropReport
from compressor.data.examples import Example, source_key
from compressor.data.lines import BadRows, file_fingerprint
from compressor.data.readers import read_hub, read_table, read_text
from compressor.data.synthetic.corpus import generate
from compressor.data_config import DataConfig, DataSource
from compressor.errors import DataError
from compressor.progress import Bar
from compressor.run_folder import Fingerprint


@dataclass(frozen=True)
class Corpus:
    """Examples with the report of what was dropped and the fingerprints of what was read."""

    examples: list[Example]
    report: DropReport
    fingerprints: list[Fingerprint]


class Cleaner:
    """Drops, by their texts, examples with an empty side, repeated pairs, and held-out sources.

    Texts are remembered as digests of 16 bytes.

    Args:
        held_out: sources that must not be trained on.
        deduplicate: whether repeated pairs are dropped.
    """

    def __init__(self, held_out: Iterable[str] = (), *, deduplicate: bool = True) -> None:
        self.report = DropReport()
        self.deduplicate = deduplicate
        self._held_out = {_digest(source_key(source)) for source in held_out}
        self._seen: set[bytes] = set()

    def hold_out(self, source: str) -> None:
        """Adds a source that must not be trained on."""
        self._held_out.add(_digest(source_key(source)))

    def clean(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yields the examples that remain, and counts the rest in ``report``."""
        for example in examples:
            self.report.read += 1
            if not example.source or example.target == "":
                self.report.drop("with an empty side", example)
            elif self._held_out and _digest(source_key(example.source)) in self._held_out:
                self.report.drop("with a held-out source", example)
            elif self.deduplicate and self._is_repeated(example):
                self.report.drop("repeated", example)
            else:
                yield example

    def _is_repeated(self, example: Example) -> bool:
        """Whether a pair was seen before; from now on it was."""
        source, target = example
        digest = _digest(f"{len(source)} {source}" if target is None else f"{len(source)} {source}={target}")
        repeated = digest in self._seen
        self._seen.add(digest)
        return repeated


def _digest(text: str) -> bytes:
    """Returns 16 bytes that stand for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


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
    fingerprints: list[Fingerprint] = []
    if split == "dev":
        rows: list[Example] = []
        for spec in data.dev:
            reading = Reading(spec, data, split)
            rows += reading.rows(bar)
            fingerprints += reading.fingerprints()
        return Corpus(rows, DropReport(read=len(rows)), fingerprints)
    cleaner = Cleaner(held_out, deduplicate=data.deduplicate)
    examples = list(clean_split(data, split, cleaner, fingerprints, bar))
    return Corpus(examples, cleaner.report, fingerprints)


def clean_split(
    data: DataConfig,
    split: Literal["train", "mono"],
    cleaner: Cleaner,
    fingerprints: list[Fingerprint],
    bar: Bar | None = None,
) -> Iterator[Example]:
    """Yields the clean examples of a split, as they are read.

    Args:
        data: the recipe's data section.
        split: which list of sources.
        cleaner: counts what is dropped.
        fingerprints: takes those of what was read.
        bar: shows the step at work.

    Raises:
        DataError: as ``load_corpus``.
    """
    count = 0
    for spec in getattr(data, split):
        reading = Reading(spec, data, split)
        for example in cleaner.clean(reading.rows(bar)):
            count += 1
            yield example
        cleaner.report.unreadable(reading.bad)
        fingerprints += reading.fingerprints()
    refuse_nothing(count, cleaner.report)


class Reading:
    """Reads one source of examples, row by row, and says afterwards what it was.

    Args:
        spec: where the examples are.
        data: the recipe's data section.
        split: what they are for; rows of the development set that cannot be read are always an error.
    """

    def __init__(self, spec: DataSource, data: DataConfig, split: Literal["train", "mono", "dev"]) -> None:
        self.bad = BadRows(skip=data.on_error == "skip" and split != "dev")
        """Rows that could not be read, once all were; messages have no folder of this machine."""
        self._spec, self._root, self._sources_alone = spec, Path(data.root), split == "mono"
        self._count, self._digest = 0, hashlib.sha256()

    def rows(self, bar: Bar | None = None) -> Iterator[Example]:
        """Yields the examples, once. Raises DataError, DependencyError: see ``read_pairs``."""
        spec = self._spec
        rows: Iterable[Example] = read_pairs(spec, self._root, self.bad)
        if bar is not None:
            rows = bar.track(rows, f"reading {spec.source or spec.path or spec.hub or spec.synthetic}")
        has_files = bool(file_names(spec))
        for row in rows:
            example = Example(row.source) if self._sources_alone else row
            self._count += 1
            if not has_files:
                self._digest.update(f"{example.source}\t{example.target or ''}\n".encode())
            yield example
        for name in file_names(spec):
            self.bad.shown = [text.replace(str(self._root / name), _public(name)) for text in self.bad.shown]

    def fingerprints(self) -> list[Fingerprint]:
        """Returns the identity of each file, or of the rows where they come from no file; call it after ``rows``."""
        spec, count = self._spec, self._count
        if names := file_names(spec):
            digests = [file_fingerprint(self._root / name) for name in names]
            return [Fingerprint(name=_public(n), rows=count, sha256=d) for n, d in zip(names, digests, strict=True)]
        origin = f"hub:{spec.hub}:{spec.split}" if spec.hub else f"synthetic:{spec.synthetic}:{spec.synthetic_split}"
        return [Fingerprint(name=origin, rows=count, sha256=self._digest.hexdigest())]


def read_pairs(spec: DataSource, root: Path, bad: BadRows | None = None) -> Iterator[Example]:
    """Yields one source of examples; relative paths start at ``root``. ``bad`` takes rows that cannot be read.

    Beyond its ``size`` a file is still checked.

    Raises:
        DataError: the data is missing, empty, misaligned, not UTF-8 or has no such column.
        DependencyError: it needs the package `datasets`, which is absent.
    """
    columns = (spec.source_column, spec.target_column)
    if spec.synthetic:
        yield from generate(spec.synthetic, spec.synthetic_split, spec.size or 1)
        return
    if spec.hub:
        yield from read_hub(spec.hub, spec.hub_config, spec.split, *columns, spec.size, bad)
        return
    if spec.path:
        examples = read_table(root / spec.path, *columns, bad)
    else:
        examples = read_text(root / str(spec.source), root / spec.target if spec.target else None, bad)
    yield from itertools.islice(examples, spec.size)
    deque(examples, maxlen=0)


def refuse_nothing(remaining: int, report: DropReport) -> None:
    """Raises DataError if no example is left."""
    if not remaining:
        raise DataError(f"no examples are left to train on. {report.text()}")


def file_names(spec: DataSource) -> list[str]:
    """Returns the names of the files of a source of examples; none for a hub data set or the embedded corpus."""
    return [name for name in (spec.source, spec.target, spec.path) if name]


def _public(name: str) -> str:
    """Returns a relative path as it is, and the name alone of a path that leads out of the data folder."""
    path = Path(name)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()
