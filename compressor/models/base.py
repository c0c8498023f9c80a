"""The interface of every model: encode once, then decode whole prefixes (training) or step by step (generation).

Shapes: batch = sentences, source_len and context_len = tokens, d = model width, vocab = rows of the output layer.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from compressor.model_config import ModelConfig


class Memory(NamedTuple):
    """What the encoder hands to the decoder."""

    hidden: Tensor
    """[batch, source_len, d]"""
    mask: Tensor
    """[batch, source_len] bool, True where the source has a token."""


class Seq2SeqModel(nn.Module):
    """An encoder-decoder. The cache of ``step`` is an argument and a result, never a hidden buffer.

    ``decode`` and repeated ``step`` agree to 1e-5.
    """

    State: ClassVar[Any]
    """NamedTuple of tensors and tuples of tensors: what ``step`` needs to go on."""

    output_bias: nn.Parameter
    """[vocab], added to the logits; minus infinity takes a token out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.fused_attention = False
        """Attention as ONNX's operator: export wants it, training is faster without."""

    def encode(self, source: Tensor, source_mask: Tensor) -> Memory:
        """Reads sources: int64 and bool, both [batch, source_len]."""
        raise TypeError(f"{type(self).__name__} must define encode")

    def features(self, memory: Memory, context: Tensor) -> Tensor:
        """Last hidden layer [batch, context_len, d] after each prefix of ``context`` (int64 [batch, context_len])."""
        raise TypeError(f"{type(self).__name__} must define features")

    def project(self, features: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits [..., vocab] from hidden states [..., d]; of the given tokens (int64 [n]) alone, [..., n]."""
        raise TypeError(f"{type(self).__name__} must define project")

    def forward(self, source: Tensor, source_mask: Tensor, context: Tensor) -> Tensor:
        """``features`` of a batch: what training runs, so that data parallel wrappers see it."""
        return self.features(self.encode(source, source_mask), context)

    def decode(self, memory: Memory, context: Tensor) -> Tensor:
        """Logits [batch, context_len, vocab] of the next token after each prefix of ``context``."""
        return self.project(self.features(memory, context))

    def restrict_output(self, tokens: Tensor) -> None:
        """Leaves the output layer with the rows of these tokens: logits are [..., n] from here on."""
        raise TypeError(f"{type(self).__name__} must define restrict_output")

    def initial_state(self, memory: Memory) -> Any:
        """State before the first token."""
        raise TypeError(f"{type(self).__name__} must define initial_state")

    def step(
        self, token: Tensor, state: Any, visible: Tensor | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """One token further.

        Args:
            token: int64 [batch]; with ``visible``, [batch, beams].
            state: from ``initial_state`` or the step before.
            visible: bool [batch, beams, steps * beams], this step included: the beams of a sentence share its state,
                and these are the tokens of each beam's own history.
            kept: int64 [n], columns of the output layer: the others are left out.

        Returns:
            Logits [batch, vocab] or [batch, beams, vocab] ([..., n] with ``kept``), and the next state.
        """
        raise TypeError(f"{type(self).__name__} must define step")

    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of the given rows (int64 [rows]): for sentences that finished, and for beams."""
        raise TypeError(f"{type(self).__name__} must define select")


def count_parameters(model: nn.Module) -> int:
    """Trained numbers: tied weights once, fixed position tables (parameters in Hugging Face) not at all."""
    modules = [module for module in model.modules() if "Sinusoidal" in type(module).__name__]
    tables = {id(parameter) for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in tables)
