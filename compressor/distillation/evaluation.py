"""Greedy outputs on the dev set: their scores, which select a run's weights, and their agreement with the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from compressor.batching import bucket_by_length
from compressor.decoding.best_column import best_column
from compressor.decoding.search import pad_sources
from compressor.distillation.contexts import Contexts, build_contexts
from compressor.distillation.label_store import StoredTeacherFacts
from compressor.distillation.rollout import FULL_BATCH_ROLLOUT, rollout
from compressor.distillation.setup import Setup
from compressor.errors import ModelError
from compressor.generation_config import GenerationConfig
from compressor.run_folder import VocabularyRecord
from compressor.teachers.vocabulary_subset import SubsetTeacher
from compressor.text.metrics import Scores, score
from compressor.text.tokenizer import cut

AGREEMENT_SOURCES = 64
"""Dev sources on which agreement with the teacher is computed."""


def dev_outputs(setup: Setup) -> list[list[int]]:
    """Returns the student's greedy output for each dev source, as token ids."""
    recipe = setup.recipe
    return rollout(
        setup.student,
        _sources(setup),
        setup.generation,
        recipe.method.rollout.model_copy(update={"strategy": "greedy", "max_source_ratio": None}),
        max_new_tokens=setup.generation.max_new_tokens,
        batch_tokens=FULL_BATCH_ROLLOUT * recipe.training.batch_tokens,
    )


def dev_scores(setup: Setup, outputs: Sequence[list[int]]) -> Scores:
    """Returns the scores of the outputs that ``dev_outputs`` returned."""
    references = [example.target or "" for example in setup.dev]
    return score(setup.recipe.task, [setup.tokenizer.decode(tokens) for tokens in outputs], references)


def spread(count: int, wanted: int) -> list[int]:
    """Returns up to ``wanted`` of ``count`` indices, evenly spaced."""
    chosen = min(count, wanted)
    return [index * count // chosen for index in range(chosen)]


@torch.no_grad()
def teacher_agreement(setup: Setup, outputs: Sequence[list[int]]) -> float | None:
    """Returns the share of positions of the student's own outputs at which its token is the teacher's best one.

    The teacher's best token is that of the tokens that may be generated. Tokens that the rules of generation force are
    not counted. Only ``AGREEMENT_SOURCES`` dev sources are read.

    Args:
        setup: with or without a teacher in memory.
        outputs: of ``dev_outputs``.

    Returns:
        A number in [0, 1]; None without a teacher in memory, or without a position.

    Raises:
        ModelError: the teacher's output has NaN.
    """
    teacher, rules = setup.teacher, setup.generation
    if teacher is None:
        return None
    device = next(setup.student.parameters()).device
    tokens = torch.tensor(rules.allowed_ids(setup.student.config.vocab_size), device=device)
    same, count = 0, 0
    for source, source_mask, contexts, counted in _own_contexts(setup, outputs):
        logits = teacher.logits(source, source_mask, contexts.tokens, counted, tokens)
        if bool(logits.sum().isnan()):
            raise ModelError(f"teacher {teacher.name}: its output has NaN on the dev set; its weights are damaged")
        same += int((tokens[best_column(logits)] == contexts.labels[counted]).sum())
        count += int(counted.sum())
    return same / count if count else None


@torch.no_grad()
def lost_mass(setup: Setup, outputs: Sequence[list[int]]) -> float | None:
    """Returns the teacher's mean probability of tokens that the student lacks, where ``teacher_agreement`` looks.

    Args:
        setup: the run.
        outputs: of ``dev_outputs``.

    Returns:
        A number in [0, 1]; None without such a teacher in memory, or without a position.
    """
    teacher = setup.teacher
    if not isinstance(teacher, SubsetTeacher):
        return None
    masses = [
        teacher.lost_mass(source, source_mask, contexts.tokens, counted)
        for source, source_mask, contexts, counted in _own_contexts(setup, outputs)
    ]
    return float(torch.cat(masses).mean()) if masses else None


def vocabulary_record(setup: Setup, lost: float | None) -> VocabularyRecord | None:
    """Returns the record of a vocabulary that is smaller than the teacher's, None if it is not.

    Args:
        setup: the run.
        lost: of ``lost_mass``; not read where the labels on disk have the record.
    """
    facts = setup.teacher_facts
    if isinstance(facts, StoredTeacherFacts):
        return facts.vocabulary
    if not isinstance(facts, SubsetTeacher):
        return None
    lost = None if lost is None else round(lost, 6)
    return VocabularyRecord(tokens=facts.vocab_size, teacher_tokens=facts.whole.vocab_size, lost_mass=lost)


def _own_contexts(setup: Setup, outputs: Sequence[list[int]]) -> Iterator[tuple[Tensor, Tensor, Contexts, Tensor]]:
    """Yields sources, their mask, the student's outputs as contexts, and which positions count, batch by batch.

    Only ``AGREEMENT_SOURCES`` dev sources are read.
    """
    rules, sources = setup.generation, _sources(setup)
    device = next(setup.student.parameters()).device
    chosen = spread(len(sources), AGREEMENT_SOURCES)
    lengths = [max(len(sources[row]), len(outputs[row])) for row in chosen]
    for bucket in bucket_by_length(lengths, setup.recipe.training.batch_tokens):
        rows = [chosen[place] for place in bucket]
        source, source_mask = pad_sources([sources[row] for row in rows], rules.pad_id, device)
        contexts, counted = free_contexts([outputs[row] for row in rows], rules)
        if bool(counted.any()):
            yield source, source_mask, contexts.to(device), counted.to(device)


def free_contexts(outputs: Sequence[list[int]], rules: GenerationConfig) -> tuple[Contexts, Tensor]:
    """Returns the contexts of outputs, and at which of their positions the rules of generation force no token.

    Args:
        outputs: token ids, with EOS unless they were cut at the limit.
        rules: of generation.

    Returns:
        The contexts, and bool [batch, context_len]: positions before the end of an output and below the limit.
    """
    contexts = build_contexts(outputs, [False] * len(outputs), rules)
    first = int(rules.forced_bos_id is not None)
    last = rules.max_new_tokens - int(rules.forced_eos_id is not None)
    ends = torch.tensor([min(len(output), last) for output in outputs])
    places = torch.arange(contexts.tokens.shape[1])
    return contexts, (places >= first) & (places < ends[:, None])


def _sources(setup: Setup) -> list[list[int]]:
    """Returns the dev sources as token ids, cut at the limit of training."""
    tokenizer, eos = setup.tokenizer, setup.tokenizer.eos_id
    limit = setup.recipe.data.max_source_tokens
    return [cut(tokenizer.encode_source(example.source), limit, eos) or [eos] for example in setup.dev]
