"""The label store: what a teacher writes for every training source, on disk. No teacher is needed to read it.

It has the teacher's outputs, or in their place the references, for its distributions on them.

::

    DIR/
        labels.json                `StoreRecord`: of which corpus, tokenizer, teacher and settings it is
        tokenizer/                 the tokenizer of the sources and outputs
        shard-00000.safetensors    arrays of the first ``shard_sources`` sources (`ShardArrays`)
        …
        shard-00000.json           `ShardRecord`, written after it: a shard without it is not finished
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError

from compressor.batching import TokenIds
from compressor.data.lines import file_fingerprint
from compressor.decoding.search import Hypothesis
from compressor.distillation.label_shards import LabelShard, TopK
from compressor.errors import DataError
from compressor.files import write_atomic
from compressor.generation_config import GenerationConfig
from compressor.run_folder import LABELS_FILE, TOKENIZER_FOLDER, LabelRecord, RunPart, VocabularyRecord
from compressor.teacher_config import LabelEngineName
from compressor.teachers.base import TeacherFacts
from compressor.text.tokenizer import load_tokenizer

FORMAT = 2
"""Raised when the files change, so that older stores are refused."""

Record = TypeVar("Record", bound=RunPart)


class StoredTeacher(RunPart):
    """What is known of the teacher that wrote the labels."""

    name: str = Field(description="Folder name or hub name.")
    parameters: int = Field(ge=0, description="Number of parameters.")
    sha256: str = Field(description="Digest of its weights.")
    vocab_size: int = Field(ge=1, description="Rows of its output layer.")
    generation: GenerationConfig = Field(description="Its rules of generation.")
    max_source: int | None = Field(description="Longest source in tokens; null: no limit.")
    max_context: int | None = Field(description="Longest context in tokens; null: no limit.")
    vocabulary: VocabularyRecord | None = Field(
        None, description="The part of its vocabulary that the labels have; null: all. Lost in dev references."
    )


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
    num_hypotheses: int = Field(ge=1, description="Outputs of each source; a search may come to fewer.")
    top_k: int = Field(ge=0, description="Log-probabilities at each position of the best output; 0: none.")
    top_k_tokens: str | None = Field(
        None, description="SHA-256 of the ids of all tokens that the distributions are over; null: there are none."
    )
    references: str | None = Field(
        None, description="SHA-256 of the references' token ids, where they are in the place of outputs."
    )
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
    sha256: str = Field(description="Digest of its arrays' file.")
    seconds: float = Field(ge=0, description="Time that it took, the start of its engine included.")
    engine: LabelEngineName = Field(description="What wrote the outputs.")
    bleu_against_torch: float | None = Field(None, description="See LabelRecord.")
    compared: int | None = Field(None, description="See LabelRecord.")

    @property
    def written_by(self) -> dict[str, Any]:
        """The fields that describe the engine."""
        return self.model_dump(include={"engine", "bleu_against_torch", "compared"}, exclude_none=True)


class StoredTeacherFacts(TeacherFacts):
    """The teacher of a store, without its model."""

    def __init__(self, record: StoredTeacher, tokenizer: Path) -> None:
        """Reads the tokenizer. Raises ModelError."""
        self.name, self.parameters, self.vocab_size = record.name, record.parameters, record.vocab_size
        self.generation, self.tokenizer = record.generation, load_tokenizer(tokenizer)
        self.max_source, self.max_context = record.max_source, record.max_context
        self._digest, self.vocabulary = record.sha256, record.vocabulary

    def digest(self) -> str:
        """See TeacherFacts."""
        return self._digest


class LabelStore:
    """A complete store. Indices are those of the training sources."""

    def __init__(self, folder: Path, record: StoreRecord, records: Sequence[ShardRecord]) -> None:
        """``records``: of all shards, in their order, verified."""
        self.folder, self.record, self._records = folder, record, records
        self._shards = [LabelShard(array_path(folder, number)) for number in record.shards]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens a store and verifies every file.

        Raises:
            DataError: it is missing, not finished or damaged; names the first shard that is wrong.
        """
        record = read_store_record(folder)
        return cls(folder, record, [read_shard_record(folder, record, number) for number in record.shards])

    def __len__(self) -> int:
        return self.record.sources

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each shard's arrays."""
        return [shard.sha256 for shard in self._records]

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

    def output(self, index: int, place: int = 0) -> TokenIds:
        """Returns the token ids of a source's output; ``place`` 0 is the best."""
        shard, row = self._at(index)
        return shard.output(row, place)

    def hypotheses(self, index: int) -> list[Hypothesis]:
        """Returns the outputs of a source with their scores, best first."""
        shard, row = self._at(index)
        return shard.hypotheses(row)

    def top_k(self, index: int) -> TopK:
        """Returns the teacher's distributions at the positions of a source's best output, if ``record.top_k`` > 0."""
        shard, row = self._at(index)
        return shard.top_k(row)

    def pairs(self) -> Iterator[tuple[TokenIds, TokenIds]]:
        """Yields the token ids of each source and of its best output."""
        for shard in self._shards:
            yield from shard.pairs()

    def _at(self, index: int) -> tuple[LabelShard, int]:
        shard, row = divmod(index, self.record.shard_sources)
        return self._shards[shard], row


def recorded_pairs(folder: Path) -> Iterator[tuple[TokenIds, TokenIds]]:
    """Yields the pairs of a store; nothing where there is none. Raises DataError if it is not whole."""
    if (folder / LABELS_FILE).exists():
        yield from LabelStore.open(folder).pairs()


def create_store(folder: Path, record: StoreRecord) -> None:
    """Writes the record of a store that has no shards yet. Raises StorageError."""
    write_atomic(folder / LABELS_FILE, record.model_dump_json(indent=1) + "\n")


def write_shard(folder: Path, store: StoreRecord, number: int, content: bytes, **engine: Any) -> None:
    """Writes a shard, its record last, so that a shard that was cut short is none.

    Args:
        folder: The store.
        store: Its record.
        number: Of the shard.
        content: Of its file, see ``ShardArrays.to_bytes``.
        engine: ``seconds``, and the fields of ``ShardRecord`` that describe the engine.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    write_atomic(array_path(folder, number), content)
    values = {"sources": len(store.indices(number)), "sha256": hashlib.sha256(content).hexdigest(), **engine}
    write_atomic(_record_path(folder, number), ShardRecord.model_validate(values).model_dump_json(indent=1) + "\n")


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
    where, path = f"{folder}: shard {number} of {len(store.shards)}", _record_path(folder, number)
    cure = "continue `compress label` with the same options, which writes it anew"
    if not path.is_file():
        raise DataError(f"{where} is missing; {cure}")
    try:
        record = _read(path, ShardRecord)
        digest = file_fingerprint(array_path(folder, number))
    except DataError as error:
        raise DataError(f"{where} is damaged ({error}); {cure}") from None
    if digest != record.sha256:
        raise DataError(f"{where} is damaged ({array_path(folder, number).name}: truncated or altered); {cure}")
    if record.sources != len(store.indices(number)):
        raise DataError(f"{where} has {record.sources} sources in place of {len(store.indices(number))}; {cure}")
    return record


def array_path(folder: Path, number: int) -> Path:
    """Returns the file of a shard's arrays."""
    return folder / f"shard-{number:05d}.safetensors"


def _record_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.json"


def _read(path: Path, kind: type[Record]) -> Record:
    """Reads a record. Raises DataError."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({error.errors()[0]['msg']})") from None
