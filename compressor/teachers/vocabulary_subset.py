"""A teacher seen through a smaller vocabulary: its students have fewer tokens than it has, and other ids.

The map between the two vocabularies is here alone. Whoever holds the teacher gives and gets ids of the smaller one.
Shapes: as in ``Teacher``; vocab = tokens of the smaller vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from compressor.decoding.search import Hypothesis
from compressor.errors import VocabularyError
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.teachers.base import Teacher, check_vocabularies
from compressor.teachers.subset_tokenizer import UNNAMED, subset_tokenizer
from compressor.text.tokenizer import Tokenizer


class SubsetTeacher(Teacher):
    """A teacher of which only the tokens of a smaller tokenizer are used.

    Logits are those of the whole teacher at these tokens, so that a softmax of them is its distribution, restricted and
    renormalised. A smaller tokenizer writes every text in tokens of the teacher, which can score all its prefixes.
    Searches write no other tokens.

    Raises:
        VocabularyError: the tokenizer has tokens that the teacher has not, or lacks one that begins or ends outputs.
    """

    def __init__(self, teacher: Teacher, tokenizer: Tokenizer) -> None:
        theirs = _teacher_ids(teacher, tokenizer)
        ours = {index: place for place, index in enumerate(theirs)}
        rules = teacher.generation
        self.name, self.parameters, self.tokenizer = teacher.name, teacher.parameters, tokenizer
        self.max_source, self.max_context, self.vocab_size = teacher.max_source, teacher.max_context, len(theirs)
        self.generation = _renumber(rules, ours)
        self.whole = copy.copy(teacher)
        outside = set(range(teacher.vocab_size)) - ours.keys()
        self.whole.generation = rules.model_copy(
            update={"suppressed_ids": tuple(sorted(outside.union(rules.suppressed_ids)))}
        )
        self.theirs = torch.tensor(theirs)
        """int64 [vocab]: the whole teacher's id of each token."""
        self._ours = ours
        self._allowed = torch.tensor(rules.allowed_ids(teacher.vocab_size))

    def to(self, device: Any) -> SubsetTeacher:
        """See Teacher."""
        self.whole.to(device)
        self.theirs, self._allowed = self.theirs.to(device), self._allowed.to(device)
        return self

    def logits(
        self, source: Tensor, source_mask: Tensor, context: Tensor, loss_mask: Tensor, tokens: Tensor | None = None
    ) -> Tensor:
        """See Teacher."""
        wanted = self.theirs if tokens is None else self.theirs[tokens]
        return self.whole.logits(self.theirs[source], source_mask, self.theirs[context], loss_mask, wanted)

    def lost_mass(self, source: Tensor, source_mask: Tensor, context: Tensor, loss_mask: Tensor) -> Tensor:
        """Returns the probability [positions] that the whole teacher gives tokens outside the smaller vocabulary.

        The distribution is that over the tokens that the teacher may generate. Arguments as of ``logits``.
        """
        inside = torch.isin(self._allowed, self.theirs)
        lost = []
        for row in range(len(source)):  # all logits of a batch, of a quarter of a million tokens, would be gigabytes
            one = slice(row, row + 1)
            arguments = self.theirs[source[one]], source_mask[one], self.theirs[context[one]], loss_mask[one]
            logits = self.whole.logits(*arguments, self._allowed).float()
            lost.append(logits.softmax(dim=-1)[:, ~inside].sum(dim=-1))
        return torch.cat(lost)

    def generate(
        self, source: Tensor, source_mask: Tensor, num_beams: int, num_return: int = 1
    ) -> list[list[Hypothesis]]:
        """See Teacher."""
        n_best = self.whole.generate(self.theirs[source], source_mask, num_beams, num_return)
        return [
            [Hypothesis(one.score, [self._ours[token] for token in one.tokens]) for one in of_source]
            for of_source in n_best
        ]

    def embeddings(self) -> Tensor:
        """See Teacher."""
        return self.whole.embeddings()[self.theirs]

    def digest(self) -> str:
        """See Teacher; that of the whole teacher."""
        return self.whole.digest()

    def as_model(self) -> Seq2SeqModel | None:
        """See Teacher; its embeddings and output layer have the rows of these tokens alone."""
        model = self.whole.as_model()
        return model and model.with_vocabulary(self.theirs, self.generation.pad_id)


def in_ids_of(tokenizer: Tokenizer, teacher: Teacher) -> Teacher:
    """Returns the teacher as a student with this tokenizer sees it: itself, if both have one vocabulary.

    Raises:
        VocabularyError: see ``check_vocabularies``, and ``SubsetTeacher`` for a smaller vocabulary.
    """
    if len(tokenizer.vocab) < len(teacher.tokenizer.vocab) and tokenizer.vocab.keys() <= _known(teacher).keys():
        return SubsetTeacher(teacher, tokenizer)
    check_vocabularies(teacher, tokenizer)
    return teacher


def restrict_to(teacher: Teacher, occurring: Iterable[int]) -> SubsetTeacher:
    """Returns the teacher with a vocabulary of the tokens that occur, and of what ``subset_tokenizer`` adds.

    Raises:
        ModelError: the teacher's tokenizer cannot be cut.
    """
    rules = teacher.generation
    framing = (rules.start_id, rules.eos_id, rules.pad_id, rules.forced_bos_id, rules.forced_eos_id)
    wanted = {*occurring, *(index for index in framing if index is not None)}
    return SubsetTeacher(teacher, subset_tokenizer(teacher.tokenizer, wanted))


def _known(teacher: Teacher) -> dict[str, int]:
    """Returns the teacher's ids by every name that a smaller tokenizer may have for them."""
    return {UNNAMED.format(index): index for index in range(teacher.vocab_size)} | teacher.tokenizer.vocab


def _teacher_ids(teacher: Teacher, tokenizer: Tokenizer) -> list[int]:
    """Returns the teacher's id of each token of a smaller tokenizer, by its id there. Raises VocabularyError."""
    known = _known(teacher)
    ordered = sorted(tokenizer.vocab.items(), key=lambda item: item[1])
    unknown = [token for token, _ in ordered if token not in known]
    if unknown or [index for _, index in ordered] != list(range(len(ordered))):
        problem = f"{len(unknown)} are not the teacher's, first {unknown[0]!r}" if unknown else "ids have gaps"
        raise VocabularyError(
            f"the student's tokenizer is no part of the teacher's ({len(ordered)} tokens; {problem}); leave "
            "tokenizer.path empty to have one made"
        )
    return [known[token] for token, _ in ordered]


def _renumber(rules: GenerationConfig, ours: dict[int, int]) -> GenerationConfig:
    """Returns rules in ids of the smaller vocabulary. Raises VocabularyError if it lacks a token that they need."""
    needed = ("start_id", "eos_id", "pad_id", "forced_bos_id", "forced_eos_id")
    values = {name: getattr(rules, name) for name in needed}
    missing = [name for name, index in values.items() if index is not None and index not in ours]
    if missing:
        raise VocabularyError(f"the student's tokenizer lacks the teacher's token {missing[0]} ({values[missing[0]]})")
    update: dict[str, Any] = {name: None if index is None else ours[index] for name, index in values.items()}
    for name in ("suppressed_ids", "begin_suppressed_ids"):
        update[name] = tuple(sorted(ours[index] for index in getattr(rules, name) if index in ours))
    return rules.model_copy(update=update)
