"""What a teacher gives: logits after any prefix, n-best outputs, and the rules by which it generates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from compressor.errors import VocabularyError
from compressor.generation import GenerationConfig
from compressor.models.search import Hypothesis
from compressor.tokenizer import Tokenizer


class Teacher(ABC):
    """A frozen model that advises. Shapes: batch, source_len, context_len, vocab (rows of the output layer)."""

    name: str
    """Folder name or hub name, for the records."""
    tokenizer: Tokenizer
    generation: GenerationConfig
    vocab_size: int
    """Rows of the output layer; those without a token are in ``generation.suppressed_ids``."""
    parameters: int

    @abstractmethod
    def to(self, device: Any) -> Teacher:
        """Moves the model to a device."""

    @abstractmethod
    def logits(self, source: Tensor, source_mask: Tensor, context: Tensor, kept: Tensor) -> Tensor:
        """Raw next-token logits [kept positions, vocab], without gradient.

        Args:
            source, source_mask: int64 and bool [batch, source_len].
            context: int64 [batch, context_len], beginning with the start token.
            kept: bool [batch, context_len], the positions wanted, read row by row.
        """

    @abstractmethod
    def generate(self, source: Tensor, source_mask: Tensor, num_beams: int, num_return: int = 1) -> list[list[Hypothesis]]:
        """The ``num_return`` best outputs of every source, best first, by beam search (greedy with one beam)."""

    @abstractmethod
    def embeddings(self) -> Tensor:
        """Target embeddings [vocab, width], scaled as the decoder sees them."""


def check_vocabularies(teacher: Teacher, student: Tokenizer) -> None:
    """Teacher and student must give every token the same id.

    Raises:
        VocabularyError: naming both sizes and the first tokens that differ.
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
