"""The interface of every model: encode once, then decode whole prefixes (training) or step by step (generation).

Shapes: batch = sentences, beams = hypotheses of a sentence, source_len and context_len = tokens, d = model width,
vocab = rows of the output layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from compressor.model_config import ModelConfig
from compressor.models.linear import linear


class Memory(NamedTuple):
    """What the encoder hands to the decoder."""

    hidden: Tensor
    """[batch, source_len, d]"""
    mask: Tensor
    """[batch, source_len] bool, True where the source has a token."""
    cells: tuple[Tensor, ...] = ()
    """[batch, hidden] fp32 of each layer of a recurrent encoder, after the whole source."""


class Seq2SeqModel(nn.Module, ABC):
    """An encoder-decoder. The state of ``step`` is an argument and a result, never a hidden buffer.

    ``decode`` and repeated ``step`` agree to 1e-5.
    """

    output_bias: nn.Parameter
    """[vocab], added to the logits; minus infinity takes a token out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self._written_rows: tuple[Tensor, Tensor] | None = None
        self.fused_attention = False
        """Attention as ONNX's operator: export needs it, training is faster without."""

    @abstractmethod
    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """Encodes sources: int64 and bool, both [batch, source_len]."""

    @abstractmethod
    def features(self, memory: Memory, context: Tensor) -> Tensor:
        """Last hidden layer [batch, context_len, d] after each prefix of ``context`` (int64 [batch, context_len])."""

    @abstractmethod
    def output_layer(self, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weight [vocab, d] and bias [vocab] of the output layer; rows of the given tokens (int64 [n]) alone."""

    def project(self, features: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits [..., vocab] from hidden states [..., d]; of the given tokens (int64 [n]) alone, [..., n]."""
        return linear(features, *(self._written_rows or self.output_layer(tokens)))

    @contextmanager
    def writing_only(self, tokens: Tensor) -> Iterator[None]:
        """Within the block, logits are of these tokens (int64 [n]) alone: [..., n]. Weights must not change in it."""
        self._written_rows = self.output_layer(tokens)
        try:
            yield
        finally:
            self._written_rows = None

    def forward(self, source: Tensor, source_mask: Tensor, context: Tensor) -> Tensor:
        """Returns ``features`` for a batch. Training calls the module itself, as data-parallel wrappers require."""
        return self.features(self.encode(source, source_mask), context)

    def decode(self, memory: Memory, context: Tensor) -> Tensor:
        """Logits [batch, context_len, vocab] of the next token after each prefix of ``context``."""
        return self.project(self.features(memory, context))

    @abstractmethod
    def restrict_output(self, tokens: Tensor) -> None:
        """Keeps only the output layer's rows of these tokens (int64 [n]): logits are [..., n] from then on."""

    @abstractmethod
    def initial_state(self, memory: Memory, num_beams: int | None = None) -> Any:
        """State before the first token: a NamedTuple of tensors, tuples of tensors, and None.

        Args:
            memory: From ``encode``.
            num_beams: Hypotheses of each sentence; None: one, and ``step`` has no axis for beams.
        """

    @abstractmethod
    def step(self, token: Tensor, state: Any, kept_columns: Tensor | None = None) -> tuple[Tensor, Any]:
        """Decodes one token.

        Args:
            token: int64 [batch], or [batch, beams] if the state was made for beams.
            state: From ``initial_state``, the step before, ``reorder`` or ``select``.
            kept_columns: int64 [n], the columns of the output layer to compute; None: all.

        Returns:
            Logits [batch, vocab] or [batch, beams, vocab] ([..., n] with ``kept_columns``), and the next state.
            A tensor that a step does not change is returned as it is, not copied.
        """

    @abstractmethod
    def reorder(self, state: Any, parents: Tensor) -> Any:
        """The state of beams that continue those at ``parents`` (int64 [batch, beams])."""

    @abstractmethod
    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of the sentences ``rows`` (int64 [rows]), when others have finished."""

    @abstractmethod
    def target_embeddings(self) -> Tensor:
        """Target embeddings [vocab, d], scaled as the decoder reads them."""

    @abstractmethod
    def load_embeddings(self, table: Tensor) -> None:
        """Fills all embeddings from those of another model of the same vocabulary, [vocab, any width]."""

    @abstractmethod
    def with_vocabulary(self, tokens: Tensor, pad_id: int) -> Seq2SeqModel:
        """Returns the model of a smaller vocabulary, with the same logits at its tokens; layers are shared, not copied.

        Args:
            tokens: int64 [n], the tokens that it has, by their new ids.
            pad_id: Padding among them.
        """

    @abstractmethod
    def load_layers(self, teacher: Seq2SeqModel) -> None:
        """Fills the model with a teacher's embeddings and evenly spaced layers, cut to its own widths.

        Raises:
            ConfigError: listing what in the two configurations does not fit.
        """


def count_parameters(model: nn.Module) -> int:
    """Trained numbers: tied weights once, fixed position tables (parameters in Hugging Face) not at all."""
    modules = [module for module in model.modules() if "Sinusoidal" in type(module).__name__]
    tables = {id(parameter) for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in tables)
