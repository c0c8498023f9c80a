"""The teacher contract: next-token logits after any prefix, n-best outputs, and a generation configuration."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from compressor.config import Recipe
from compressor.decoding.search import Hypothesis
from compressor.errors import ConfigError, VocabularyError
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.text.tokenizer import Tokenizer


class TeacherFacts(ABC):
    """What is known of a teacher, with or without its model."""

    name: str
    """Folder name or hub name, for provenance."""
    tokenizer: Tokenizer
    generation: GenerationConfig
    vocab_size: int
    """Rows of the output layer; rows without a token are in ``generation.suppressed_ids``."""
    parameters: int
    """Number of parameters."""
    max_source: int | None
    """Longest source, in tokens; None: no limit."""
    max_context: int | None
    """Longest context, start token included; None: no limit."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of its weights, in hexadecimal: tells it from any other teacher."""


class Teacher(TeacherFacts):
    """A frozen model that labels training data. Shapes: batch, source_len, context_len, vocab (output layer rows)."""

    @abstractmethod
    def to(self, device: Any) -> Teacher:
        """Moves the model to a device."""

    @abstractmethod
    def logits(
        self, source: Tensor, source_mask: Tensor, context: Tensor, loss_mask: Tensor, tokens: Tensor | None = None
    ) -> Tensor:
        """Returns next-token logits [positions, vocab], unprocessed and without gradient.

        Args:
            source, source_mask: int64 and bool [batch, source_len].
            context: int64 [batch, context_len], beginning with the start token.
            loss_mask: bool [batch, context_len], the positions to return, in row-major order.
            tokens: int64 [n], the tokens to return logits of; None: all.
        """

    @abstractmethod
    def generate(
        self, source: Tensor, source_mask: Tensor, num_beams: int, num_return: int = 1
    ) -> list[list[Hypothesis]]:
        """Returns the ``num_return`` best outputs of each source, best first, by beam search (greedy with one beam).

        Scores are nan with one beam, and from Hugging Face with one output.
        """

    @abstractmethod
    def embeddings(self) -> Tensor:
        """Target embeddings [vocab, width], scaled as in the decoder's input."""

    @abstractmethod
    def as_model(self) -> Seq2SeqModel | None:
        """The teacher as a model of our own, with the same logits; None where its layout is another."""


def digest_of_weights(model: nn.Module) -> str:
    """Returns the SHA-256, in hexadecimal, of the names and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_vocabularies(teacher: TeacherFacts, student: Tokenizer) -> None:
    """Checks that teacher and student give every token the same id.

    Raises:
        VocabularyError: names both sizes and the first tokens that differ.
    """
    ours, theirs = student.vocab, teacher.tokenizer.vocab
    if ours == theirs:
        return
    differing = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
    shown = ", ".join(f"{token!r}: {theirs.get(token)} and {ours.get(token)}" for token in differing[:3])
    raise VocabularyError(
        f"teacher and student vocabularies differ ({len(theirs)} and {len(ours)} tokens; {len(differing)} differ, "
        f"first {shown}); leave tokenizer.path empty to use the teacher's tokenizer"
    )


def check_lengths(teacher: TeacherFacts, recipe: Recipe) -> None:
    """Checks that the teacher can read every source and context that the recipe allows, and the student every context.

    Raises:
        ConfigError: lists every limit that is too high.
    """
    rules, data = teacher.generation, recipe.data
    reference = data.max_target_tokens + (rules.forced_bos_id is not None)  # the start token replaces EOS
    output = data.max_target_tokens + (rules.forced_eos_id is None)  # a truncated output has no EOS
    problems = []
    if teacher.max_source and data.max_source_tokens > teacher.max_source:
        problems.append(
            f"data.max_source_tokens: {data.max_source_tokens} is more than the teacher's {teacher.max_source}"
        )
    for name, limit, longest in (
        ("teacher's", teacher.max_context, max(reference, output)),
        ("student's", recipe.student.max_length, reference),
    ):
        if limit and longest > limit:
            highest = limit - longest + data.max_target_tokens
            problems.append(f"data.max_target_tokens: {data.max_target_tokens} is more than the {name} {highest}")
    if problems:
        raise ConfigError(f"lengths that teacher {teacher.name} or the student cannot take", problems)
