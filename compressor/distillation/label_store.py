"""The label store: what a teacher writes for every training source, on disk. No teacher is needed to read it.

::

    DIR/
        labels.json              `StoreRecord`: of which corpus, tokenizer, teacher and settings it is
        tokenizer/               the tokenizer of the sources and outputs
        shard-00000.sources.npy  arrays of the first ``shard_sources`` sources, see `ShardArrays`
        …
        shard-00000.json         `ShardRecord`, written last: a shard without it is not finished

Arrays are mapped into memory, so that a store may be larger than it.

Shapes: n = sources of a shard, h = ``num_hypotheses``, k = ``top_k``, positions = contexts of all best outputs of the
shard, end to end.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from compressor.batching import TokenIds
from compressor.config import LabelEngineName
from compressor.data.lines import file_fingerprint
from compressor.data.token_rows import TokenRows
from compressor.decoding.search import Hypothesis
from compressor.errors import DataError
from compressor.files import write_atomic
from compressor.generation_config import GenerationConfig
from compressor.run_folder import LABELS_FILE, TOKENIZER_FOLDER, LabelRecord, RunPart
from compressor.teachers.base import TeacherFacts
from compressor.text.tokenizer import load_tokenizer

FORMAT = 1
"""Raised when the files change, so that older stores are refused."""

Record = TypeVar("Record", bound=RunPart)


class StoredTeacher(RunPart):
    """What is known of the teacher that wrote the labels."""

    name: str = Field(description="Folder name or hub name.")
    parameters: int = Field(ge=0, description="Number of parameters.")
    sha256: str = Field(description="Digest of its target embeddings, which tells it from another of its size.")
    vocab_size: int = Field(ge=1, description="Rows of its output layer.")
    generation: GenerationConfig = Field(description="Its rules of generation.")
    max_source: int | None = Field(description="Longest source in tokens; null: no limit.")
    max_context: int | None = Field(description="Longest context in tokens; null: no limit.")


class StoreRecord(RunPart):
    """Content of ``labels.json``."""

    format: int = Field(description="Version of the files.")
    sources: int = Field(ge=1, description="Training sources of the recipe.")
    corpus: str = Field(description="SHA-256 of the sources' token ids.")
    tokenizer: str = Field(description="SHA-256 of the tokenizer.")
    teacher: StoredTeacher = Field(description="Who wrote the labels.")
    settings: dict[str, str | int | float | None] = Field(
        description="Fields of the recipe that outputs depend on, by their path."
    )
    num_hypotheses: int = Field(ge=1, description="Outputs of each source; a search may find fewer.")
    top_k: int = Field(ge=0, description="Log-probabilities at each position of the best output; 0: none.")
    shard_sources: int = Field(ge=1, description="Sources of a shard; the last one may have fewer.")

    @property
    def shards(self) -> range:
        """The numbers of the shards."""
        return range(-(-self.sources // self.shard_sources))

    def indices(self, shard: int) -> range:
        """Returns the sources of a shard, by their index in the corpus."""
        first = shard * self.shard_sources
        return range(first, min(first + self.shard_sources, self.sources))


class ShardRecord(RunPart):
    """Content of ``shard-N.json``."""

    sources: int = Field(ge=1, description="Sources that it has.")
    seconds: float = Field(ge=0, description="Time that it took, the start of its engine included.")
    engine: LabelEngineName = Field(description="What wrote the outputs.")
    bleu_against_torch: float | None = Field(None, description="See LabelRecord.")
    compared: int | None = Field(None, description="See LabelRecord.")
    files: dict[str, str] = Field(description="SHA-256 of each array's file.")

    @property
    def written_by(self) -> dict[str, str | float | int | None]:
        """The fields that describe the engine."""
        return self.model_dump(include={"engine", "bleu_against_torch", "compared"}, exclude_none=True)


class ShardArrays(NamedTuple):
    """The arrays of a shard; the last four are None where ``top_k`` is 0."""

    sources: NDArray[np.int32]
    """Token ids of the sources, end to end."""
    source_lengths: NDArray[np.int32]
    """[n]"""
    tokens: NDArray[np.int32]
    """Token ids of the outputs, best first, end to end."""
    lengths: NDArray[np.int32]
    """[n, h]; 0 where the search found no further output."""
    scores: NDArray[np.float32]
    """[n, h]: see ``Hypothesis``; nan where there is none."""
    positions: NDArray[np.int32] | None = None
    """[n]: contexts of each best output."""
    ids: NDArray[np.int32] | None = None
    """[positions, k]: the most probable tokens, best first."""
    logs: NDArray[np.float16] | None = None
    """[positions, k]: their natural log-probabilities among all tokens that the teacher may write."""
    remaining: NDArray[np.float32] | None = None
    """[positions]: the probability of all other tokens."""


class TopK(NamedTuple):
    """The teacher's distributions at the positions of one output; see ``ShardArrays``."""

    ids: NDArray[np.int32]
    logs: NDArray[np.float16]
    remaining: NDArray[np.float32]


class StoredTeacherFacts(TeacherFacts):
    """The teacher of a store, without its model."""

    def __init__(self, record: StoredTeacher, tokenizer: Path) -> None:
        """Reads the tokenizer. Raises ModelError."""
        self.name, self.parameters, self.vocab_size = record.name, record.parameters, record.vocab_size
        self.generation, self.tokenizer = record.generation, load_tokenizer(tokenizer)
        self.max_source, self.max_context = record.max_source, record.max_context


class LabelStore:
    """A complete store. Indices are those of the training sources."""

    def __init__(self, folder: Path, record: StoreRecord, records: list[ShardRecord]) -> None:
        self.folder, self.record, self._records = folder, record, records
        self._shards = [_map(folder, record, number) for number in record.shards]
        self._outputs = [TokenRows.of(one.tokens, one.lengths.ravel().astype(np.int64)) for one in self._shards]
        starts = (one.positions for one in self._shards)
        self._starts = [None if one is None else np.concatenate(([0], np.cumsum(one))) for one in starts]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens a store and verifies every file.

        Raises:
            DataError: it is missing, not finished or damaged; names the first shard that is wrong.
        """
        record = read_store_record(folder)
        shards = [read_shard_record(folder, record, number) for number in record.shards]
        return cls(folder, record, shards)

    def __len__(self) -> int:
        return self.record.sources

    @property
    def seconds(self) -> float:
        """Time that the labels took."""
        return sum(shard.seconds for shard in self._records)

    @property
    def run_record(self) -> LabelRecord:
        """The record for ``run.json``."""
        rate = round(len(self) / self.seconds, 1) if self.seconds else None
        values = {"outputs": len(self), "outputs_per_second": rate, **self._records[-1].written_by}
        return LabelRecord.model_validate(values)

    def teacher(self) -> StoredTeacherFacts:
        """Returns the teacher's facts. Raises ModelError if the tokenizer is damaged."""
        return StoredTeacherFacts(self.record.teacher, self.folder / TOKENIZER_FOLDER)

    def outputs(self, indices: Sequence[int]) -> list[TokenIds]:
        """Returns the best output of each source."""
        size, count = self.record.shard_sources, self.record.num_hypotheses
        return [self._outputs[index // size][index % size * count] for index in indices]

    def hypotheses(self, index: int) -> list[Hypothesis]:
        """Returns the outputs of a source with their scores, best first."""
        shard, row = divmod(index, self.record.shard_sources)
        first, scores = row * self.record.num_hypotheses, self._shards[shard].scores[row].tolist()
        outputs = [self._outputs[shard][first + place].tolist() for place in range(len(scores))]
        return [Hypothesis(score, tokens) for score, tokens in zip(scores, outputs, strict=True) if tokens]

    def top_k(self, index: int) -> TopK:
        """Returns the teacher's distributions at the positions of a source's best output."""
        shard, row = divmod(index, self.record.shard_sources)
        arrays, starts = self._shards[shard], self._starts[shard]
        assert starts is not None and arrays.ids is not None and arrays.logs is not None
        assert arrays.remaining is not None  # whoever calls has looked at ``record.top_k``
        rows = slice(starts[row], starts[row + 1])
        return TopK(arrays.ids[rows], arrays.logs[rows], arrays.remaining[rows])

    def pairs(self) -> Iterator[tuple[TokenIds, TokenIds]]:
        """Yields the token ids of each source and of its best output."""
        for number, shard in enumerate(self._shards):
            sources = TokenRows.of(shard.sources, shard.source_lengths.astype(np.int64))
            yield from zip(
                (sources[row] for row in range(len(sources))), self.outputs(self.record.indices(number)), strict=True
            )


def recorded_pairs(folder: Path) -> Iterator[tuple[TokenIds, TokenIds]]:
    """Yields the pairs of a store; nothing where there is none. Raises DataError if it is not whole."""
    if (folder / LABELS_FILE).exists():
        yield from LabelStore.open(folder).pairs()


def create_store(folder: Path, record: StoreRecord) -> None:
    """Writes the record of a store that has no shards yet. Raises StorageError."""
    write_atomic(folder / LABELS_FILE, record.model_dump_json(indent=1) + "\n")


def write_shard(
    folder: Path,
    number: int,
    arrays: ShardArrays,
    *,
    seconds: float,
    written_by: dict[str, str | float | int | None],
) -> None:
    """Writes a shard, its record last, so that a shard that was cut short is none.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    files = {}
    for name, array in arrays._asdict().items():
        if array is not None:
            content = io.BytesIO()
            np.save(content, array)
            path = _array_path(folder, number, name)
            write_atomic(path, content.getvalue())
            files[path.name] = file_fingerprint(path)
    record = ShardRecord.model_validate(
        {"sources": len(arrays.source_lengths), "seconds": round(seconds, 3), "files": files, **written_by}
    )
    write_atomic(_shard_path(folder, number), record.model_dump_json(indent=1) + "\n")


def read_store_record(folder: Path) -> StoreRecord:
    """Reads ``labels.json``. Raises DataError."""
    if not (folder / LABELS_FILE).is_file():
        raise DataError(f"{folder}: no labels ({LABELS_FILE} is missing); write them with `compress label`")
    record = _read(folder / LABELS_FILE, StoreRecord)
    if record.format != FORMAT:
        raise DataError(f"{folder}: labels of format {record.format}, this version reads {FORMAT}; write them anew")
    return record


def read_shard_record(folder: Path, store: StoreRecord, number: int) -> ShardRecord:
    """Reads the record of a shard and verifies its arrays. Raises DataError, which names the shard."""
    where, path = f"{folder}: shard {number} of {len(store.shards)}", _shard_path(folder, number)
    cure = "continue `compress label` with the same options, which writes it anew"
    if not path.is_file():
        raise DataError(f"{where} is missing; {cure}")
    try:
        record = _read(path, ShardRecord)
        digests = {name: file_fingerprint(folder / name) for name in record.files}
    except DataError as error:
        raise DataError(f"{where} is damaged ({error}); {cure}") from None
    wrong = [name for name, digest in digests.items() if digest != record.files[name]]
    if wrong:
        raise DataError(f"{where} is damaged ({', '.join(wrong)}: truncated or altered); {cure}")
    if record.sources != len(store.indices(number)):
        raise DataError(f"{where} has {record.sources} sources in place of {len(store.indices(number))}; {cure}")
    return record


def _map(folder: Path, store: StoreRecord, number: int) -> ShardArrays:
    """Returns the arrays of a verified shard, mapped."""
    names = ShardArrays._fields if store.top_k else ShardArrays._fields[:5]
    return ShardArrays(*(np.load(_array_path(folder, number, name), mmap_mode="r") for name in names))


def _read(path: Path, kind: type[Record]) -> Record:
    """Reads a record. Raises DataError."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({error.errors()[0]['msg']})") from None


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.json"


def _array_path(folder: Path, number: int, name: str) -> Path:
    return folder / f"shard-{number:05d}.{name}.npy"
