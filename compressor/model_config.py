"""The configuration of a model, one class an architecture: what a recipe chooses, and what its vocabulary adds.

Needs no torch. ``models.registry`` has the module of each.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, model_validator


class Section(BaseModel):
    """A part of a configuration: unknown fields are mistakes, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _EncoderDecoder(Section):
    """What all architectures have. The defaults are Marian's."""

    d_model: int = Field(192, ge=8, description="Width of embeddings and hidden states.")
    encoder_layers: int = Field(3, ge=1, description="Depth of the encoder.")
    decoder_layers: int = Field(1, ge=1, description="Depth of the decoder, which runs once for every output token.")
    num_heads: int = Field(4, ge=1, description="Attention heads; must divide d_model.")
    encoder_ffn: int = Field(768, ge=8, description="Hidden width of the encoder's feed-forward layers.")
    decoder_ffn: int = Field(768, ge=8, description="Hidden width of the decoder's feed-forward layers.")
    norm: Literal["post", "pre"] = Field(
        "post", description="Layer norm after each residual sum, or before each block."
    )
    activation: Literal["relu", "gelu", "swish"] = Field(
        "relu", description="Activation function of the feed-forward layers."
    )
    scale_embedding: bool = Field(True, description="Multiply embeddings by the square root of d_model.")
    tie_embeddings: bool = Field(True, description="One matrix for source, target and output embeddings.")
    max_length: int = Field(512, ge=8, description="Longest source or target in tokens (rows of the position table).")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in training.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.d_model % self.num_heads or self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} must be even and divisible by num_heads {self.num_heads}")
        return self


class TransformerConfig(_EncoderDecoder):
    """A Transformer with separate encoder and decoder depth. The defaults have Marian's layout."""

    architecture: Literal["transformer"] = Field("transformer", description="Architecture of the student.")


class SsruConfig(_EncoderDecoder):
    """A Transformer encoder, and a decoder with SSRU cells in place of self-attention (Kim et al. 2019).

    The decoder's state has the same size at every step.
    """

    architecture: Literal["ssru"] = Field("ssru", description="Architecture of the student.")


class _ModelFields(Section):
    """What the tokenizer and converted checkpoints add to a student's configuration."""

    vocab_size: int = Field(ge=1, description="Rows of the embedding and of the output layer.")
    pad_id: int = Field(ge=0, description="Its embedding is zero and stays zero.")
    positions: Literal["sinusoidal", "learned"] = Field(
        "sinusoidal", description="One fixed table, or a trained one a side (BART)."
    )
    embedding_norm: bool = Field(False, description="Layer norm of the embedded tokens (BART).")


class TransformerModelConfig(_ModelFields, TransformerConfig):
    """All that is needed to build a Transformer."""


class SsruModelConfig(_ModelFields, SsruConfig):
    """All that is needed to build a model with an SSRU decoder."""


_Student = Annotated[TransformerConfig, Tag("transformer")] | Annotated[SsruConfig, Tag("ssru")]
_Model = Annotated[TransformerModelConfig, Tag("transformer")] | Annotated[SsruModelConfig, Tag("ssru")]

ARCHITECTURES = tuple(tag.tag for _, tag in map(get_args, get_args(_Student)))
"""The names that a recipe may give."""


def _architecture(value: Any) -> str:
    """The tag of a configuration; one that names no architecture is a Transformer's."""
    if isinstance(value, dict):
        return str(value.get("architecture", "transformer"))
    return str(getattr(value, "architecture", "transformer"))


_BY_ARCHITECTURE = Discriminator(
    _architecture,
    custom_error_type="architecture",
    custom_error_message=f"architecture must be one of {', '.join(ARCHITECTURES)}",
)

StudentConfig = Annotated[_Student, _BY_ARCHITECTURE]
"""What a recipe says of its student."""

ModelConfig = Annotated[_Model, _BY_ARCHITECTURE]
"""What builds a module."""

_MODEL_CONFIG: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def complete_config(student: StudentConfig, vocab_size: int, pad_id: int) -> ModelConfig:
    """Returns the configuration of a student's module: what the recipe says, and its vocabulary."""
    return _MODEL_CONFIG.validate_python(student.model_dump() | {"vocab_size": vocab_size, "pad_id": pad_id})
