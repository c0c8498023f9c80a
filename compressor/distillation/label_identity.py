"""What labels belong to: digests of corpus, tokenizer and teacher, and the settings of the recipe that decide them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from compressor.config import Recipe
from compressor.data.token_cache import digest_of
from compressor.data.token_rows import TokenRows
from compressor.distillation.label_store import FORMAT, LabelStore, StoredTeacher, StoreRecord
from compressor.errors import DataError
from compressor.run_folder import VocabularyRecord
from compressor.teachers.base import Teacher
from compressor.text.tokenizer import Tokenizer

Settings = dict[str, str | int | float | None]

_OTHER_TOKENS = (
    "top_k: the distributions are over other tokens than the student may write (tokenizer.output_vocabulary, or the "
    "training data that decide it)"
)


def store_record(
    recipe: Recipe,
    sources: TokenRows,
    tokenizer: Tokenizer,
    teacher: Teacher,
    *,
    num_hypotheses: int,
    top_k: int,
    tokens: Sequence[int],
    references: TokenRows | None,
    shard_sources: int,
    vocabulary: VocabularyRecord | None,
) -> StoreRecord:
    """Returns the record of a store for these sources and this teacher.

    ``tokens`` are those that the distributions are over, ``references`` are in the place of outputs.
    """
    return StoreRecord(
        format=FORMAT,
        sources=len(sources),
        corpus=sources.sha256(),
        tokenizer=digest_of(tokenizer),
        teacher=_stored(teacher, vocabulary),
        settings=_settings(recipe),
        num_hypotheses=num_hypotheses,
        top_k=top_k,
        top_k_tokens=_digest_of_ids(tokens) if top_k else None,
        references=None if references is None else references.sha256(),
        shard_sources=shard_sources,
    )


def differences(stored: StoreRecord, wanted: StoreRecord) -> list[str]:
    """Returns what differs between the labels in a store and those wanted; the size of shards may differ."""
    problems = _corpus(stored, wanted.sources, wanted.corpus)
    if stored.tokenizer != wanted.tokenizer:
        problems.append("tokenizer: another one than the recipe's")
    problems += _teacher(stored.teacher, wanted.teacher)
    problems += _changed_settings(stored.settings, wanted.settings)
    for name in ("num_hypotheses", "top_k"):
        if getattr(stored, name) != getattr(wanted, name):
            problems.append(f"{name}: {getattr(stored, name)} in the labels, {getattr(wanted, name)} wanted")
    if stored.top_k == wanted.top_k and stored.top_k_tokens != wanted.top_k_tokens:
        problems.append(_OTHER_TOKENS)
    return [*problems, *_references(stored, wanted.references)]


def check_labels(
    store: LabelStore,
    recipe: Recipe,
    *,
    sources: TokenRows | None,
    references: TokenRows | None,
    tokenizer: Tokenizer | None,
    teacher: Teacher | None,
) -> None:
    """Checks that a store has the labels that a recipe needs.

    Args:
        store: The store.
        recipe: The recipe.
        sources, references: Of all training examples; None if only a sample was read.
        tokenizer: The recipe's; None if it is the store's.
        teacher: The recipe's; None if only the store knows of one.

    Raises:
        DataError: names everything that differs.
    """
    stored = store.record
    problems = [] if sources is None else _corpus(stored, len(sources), sources.sha256())
    if references is not None:
        on_references = not recipe.method.row.reads_teacher_outputs
        problems += _references(stored, references.sha256() if on_references else None)
    if tokenizer is not None and digest_of(tokenizer) != stored.tokenizer:
        problems.append("tokenizer: another one than the recipe's")
    if teacher is not None:
        problems += teacher_differences(stored.teacher, teacher)
    problems += _changed_settings(stored.settings, _settings(recipe))
    if stored.num_hypotheses < hypotheses_read(recipe):
        problems.append(
            f"num_hypotheses: {stored.num_hypotheses} in the labels, {recipe.method.name} compares "
            f"{hypotheses_read(recipe)} (teacher.num_beams)"
        )
    if problems:
        raise DataError(
            f"teacher.labels: {store.folder} does not fit the recipe ({'; '.join(problems)}); "
            "write labels with this recipe by `compress label`"
        )


def check_tokens(store: LabelStore, tokens: Sequence[int]) -> None:
    """Checks that the distributions of a store are over the tokens that a student may write. Raises DataError."""
    if store.record.top_k_tokens != _digest_of_ids(tokens):
        raise DataError(
            f"teacher.labels: {store.folder} does not fit the recipe ({_OTHER_TOKENS}); write labels with this recipe "
            "by `compress label`"
        )


def hypotheses_read(recipe: Recipe) -> int:
    """Returns how many outputs of each source the method reads: one, or all those of the beam search."""
    assert recipe.teacher is not None  # there is a teacher
    return recipe.teacher.num_beams if recipe.method.row.compares_hypotheses else 1


def teacher_differences(stored: StoredTeacher, teacher: Teacher) -> list[str]:
    """Returns what differs between the teacher of a store and another."""
    return _teacher(stored, _stored(teacher))


def _digest_of_ids(tokens: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(tokens, np.int32).tobytes()).hexdigest()


def _stored(teacher: Teacher, vocabulary: VocabularyRecord | None = None) -> StoredTeacher:
    return StoredTeacher(
        name=teacher.name,
        parameters=teacher.parameters,
        sha256=teacher.digest(),
        vocab_size=teacher.vocab_size,
        generation=teacher.generation,
        max_source=teacher.max_source,
        max_context=teacher.max_context,
        vocabulary=vocabulary,
    )


def _settings(recipe: Recipe) -> Settings:
    """Returns the fields of a recipe that outputs depend on, apart from corpus and teacher themselves."""
    assert recipe.teacher is not None  # there are labels of one
    teacher = recipe.teacher.model_dump(mode="json", exclude={"path", "labels", "label_engine"})
    named = {f"teacher.{name}": value for name, value in teacher.items()}
    vocabulary = recipe.tokenizer.vocabulary
    named |= {} if vocabulary == "teacher" else {"tokenizer.vocabulary": vocabulary}
    return {"data.max_target_tokens": recipe.data.max_target_tokens, **named}


def _corpus(stored: StoreRecord, count: int, digest: str) -> list[str]:
    if stored.sources != count:
        return [f"corpus: {stored.sources} sources in the labels, {count} in the recipe"]
    return [] if stored.corpus == digest else [f"corpus: the recipe has as many sources, {count}, but other ones"]


def _references(stored: StoreRecord, wanted: str | None) -> list[str]:
    if stored.references == wanted:
        return []
    if stored.references and wanted:
        return ["corpus: the recipe has other references"]
    ours, theirs = ("references" if digest else "the teacher's outputs" for digest in (wanted, stored.references))
    return [f"contexts: the labels are of {theirs}, the method learns on {ours} (`compress label --contexts`)"]


def _teacher(stored: StoredTeacher, wanted: StoredTeacher) -> list[str]:
    if stored.parameters != wanted.parameters or stored.sha256 != wanted.sha256:
        one, other = (f"{teacher.name} ({teacher.parameters:,} parameters)" for teacher in (stored, wanted))
        return [f"teacher: the labels are of {one}, the recipe's is {other}, with other weights"]
    unlike = [name for name in ("vocab_size", "generation") if getattr(stored, name) != getattr(wanted, name)]
    return [f"teacher: its {name} has changed since" for name in unlike]


def _changed_settings(stored: Settings, wanted: Settings) -> list[str]:
    names = [name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name)]
    return [f"{name}: {stored.get(name)!r} in the labels, {wanted.get(name)!r} in the recipe" for name in sorted(names)]
