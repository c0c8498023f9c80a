"""Layers of the Transformer.

Shapes: batch, heads, query_len, key_len, head_dim; d = heads * head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.models.base import ModelConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "swish": F.silu}


def sinusoidal_positions(length: int, d: int) -> Tensor:
    """[length, d]: sines in the first half, cosines in the second, as in Marian (Vaswani et al. 2017, 3.5)."""
    frequency = torch.exp(torch.arange(0, d, 2, dtype=torch.float64) * (-math.log(10_000.0) / d))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def split_heads(hidden: Tensor, heads: int) -> Tensor:
    """[batch, len, d] -> [batch, heads, len, head_dim]."""
    batch, length, d = hidden.shape
    return hidden.view(batch, length, heads, d // heads).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, fused: bool) -> Tensor:
    """Scaled dot-product attention, heads merged: [batch, query_len, d].

    Args:
        query: [batch, heads, query_len, head_dim]; ``key`` and ``value`` likewise with key_len.
        mask: bool, broadcastable to [batch, heads, query_len, key_len], True where a query may look.
        fused: through PyTorch's operator, else as plain products (1.7 times faster in training on a CPU).
    """
    if fused:
        if mask is not None:  # ONNX Runtime's Attention wants the mask's own query length
            mask = mask.expand(-1, -1, query.shape[2], -1)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    else:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        mixed = scores.softmax(dim=-1) @ value
    return mixed.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Query, key and value in one product."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[batch, len, d] -> query, key and value, each [batch, heads, len, head_dim]."""
        query, key, value = self.qkv(hidden).chunk(3, dim=-1)
        return split_heads(query, self.heads), split_heads(key, self.heads), split_heads(value, self.heads)


class CrossAttention(nn.Module):
    """Keys and values of the memory are computed once, queries at every step."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d, d)
        self.key_value = nn.Linear(d, 2 * d)
        self.out = nn.Linear(d, d)

    def memory(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, source_len, d] -> key and value, each [batch, heads, source_len, head_dim]."""
        key, value = self.key_value(hidden).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)


class Residual(nn.Module):
    """A block's frame: x + block(x), with layer norm after the sum (post) or before the block (pre)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(config.d_model)

    def enter(self, hidden: Tensor) -> Tensor:
        """The block's input."""
        normed: Tensor = self.norm(hidden) if self.pre else hidden
        return normed

    def leave(self, hidden: Tensor, change: Tensor) -> Tensor:
        """The sum of input and output."""
        total = hidden + F.dropout(change, self.dropout, self.training)
        left: Tensor = total if self.pre else self.norm(total)
        return left


class FeedForward(nn.Module):
    """Two products with a non-linearity between, in a residual frame."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.frame = Residual(config)
        self.expand = nn.Linear(config.d_model, width)
        self.contract = nn.Linear(width, config.d_model)
        self.activation = config.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., d] -> [..., d]."""
        inner = ACTIVATIONS[self.activation](self.expand(self.frame.enter(hidden)))
        return self.frame.leave(hidden, self.contract(inner))


class EncoderLayer(nn.Module):
    """Self-attention over the source, then feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.frame = Residual(config)
        self.attention = SelfAttention(config.d_model, config.num_heads)
        self.feed_forward = FeedForward(config, config.encoder_ffn)

    def forward(self, hidden: Tensor, mask: Tensor, fused: bool) -> Tensor:
        """``hidden`` [batch, source_len, d], ``mask`` bool [batch, 1, 1, source_len]."""
        query, key, value = self.attention.project(self.frame.enter(hidden))
        change = self.attention.out(attend(query, key, value, mask, fused))
        output: Tensor = self.feed_forward(self.frame.leave(hidden, change))
        return output


class DecoderLayer(nn.Module):
    """Self-attention over the prefix, attention to the memory, feed-forward."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_frame = Residual(config)
        self.self_attention = SelfAttention(config.d_model, config.num_heads)
        self.cross_frame = Residual(config)
        self.cross_attention = CrossAttention(config.d_model, config.num_heads)
        self.feed_forward = FeedForward(config, config.decoder_ffn)

    def forward(
        self,
        hidden: Tensor,
        past: tuple[Tensor, Tensor] | None,
        cross: tuple[Tensor, Tensor],
        self_mask: Tensor | None,
        cross_mask: Tensor,
        fused: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over new tokens.

        Args:
            hidden: [batch, query_len, d] of the new tokens.
            past: keys and values of earlier tokens [batch, heads, past_len, head_dim], or None.
            cross: keys and values of the memory [batch, heads, source_len, head_dim].
            self_mask: bool [query_len, key_len], or None where every earlier token may be seen.
            cross_mask: bool [batch, 1, 1, source_len].
            fused: see ``attend``.

        Returns:
            The layer's output, and all keys and values so far.
        """
        query, key, value = self.self_attention.project(self.self_frame.enter(hidden))
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        change = self.self_attention.out(attend(query, key, value, self_mask, fused))
        hidden = self.self_frame.leave(hidden, change)
        query = split_heads(self.cross_attention.query(self.cross_frame.enter(hidden)), self.cross_attention.heads)
        change = self.cross_attention.out(attend(query, cross[0], cross[1], cross_mask, fused))
        return self.feed_forward(self.cross_frame.leave(hidden, change)), key, value
