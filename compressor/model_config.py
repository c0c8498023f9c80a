"""The configuration of a model, one class an architecture: what a recipe chooses, and what its vocabulary adds.

Needs no torch. ``models.registry`` has the module of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationInfo, model_validator


class Conflict(NamedTuple):
    """Fields that are right by themselves and do not fit together."""

    message: str
    fields: tuple[str, ...]
    """The fields that were compared, dotted, from the section on."""


class Section(BaseModel):
    """A part of a configuration: unknown fields are mistakes, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def conflicts(self) -> Iterator[Conflict]:
        """Yields what does not fit together in this section."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_conflicts(self, info: ValidationInfo) -> Self:
        """Raises ValueError; with ``{"conflicts": True}`` as context not, as ``compressor.mistakes`` lists them all."""
        if not (info.context or {}).get("conflicts"):
            problems = [conflict.message for conflict in self.conflicts()]
            if problems:
                raise ValueError("; ".join(problems))
        return self


class _Sizes(Section):
    """What all architectures have."""

    copies_layers: ClassVar[bool] = False
    """Whether the layers of a teacher can be copied into it."""

    d_model: int = Field(192, ge=8, description="Width of embeddings and hidden states.")
    encoder_layers: int = Field(3, ge=1, description="Depth of the encoder.")
    decoder_layers: int = Field(1, ge=1, description="Depth of the decoder, which runs once for every output token.")
    scale_embedding: bool = Field(True, description="Multiply embeddings by the square root of d_model.")
    tie_embeddings: bool | Literal["target"] = Field(
        True, description="One matrix for source, target and output embeddings; target: for the latter two."
    )
    max_length: int = Field(512, ge=8, description="Longest source or target in tokens (rows of the position table).")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in training.")


class _EncoderDecoder(_Sizes):
    """What the architectures with a Transformer encoder have. The defaults are Marian's."""

    copies_layers: ClassVar[bool] = True

    num_heads: int = Field(4, ge=1, description="Attention heads; must divide d_model.")
    encoder_ffn: int = Field(768, ge=8, description="Hidden width of the encoder's feed-forward layers.")
    decoder_ffn: int = Field(768, ge=8, description="Hidden width of the decoder's feed-forward layers.")
    norm: Literal["post", "pre"] = Field(
        "post", description="Layer norm after each residual sum, or before each block."
    )
    activation: Literal["relu", "gelu", "swish"] = Field(
        "relu", description="Activation function of the feed-forward layers."
    )
    positions: Literal["sinusoidal", "learned"] = Field(
        "sinusoidal", description="One fixed table of positions, or a trained one a side (BART)."
    )
    embedding_norm: bool = Field(False, description="Layer norm of the embedded tokens (BART).")

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        if self.d_model % self.num_heads or self.d_model % 2:
            message = f"d_model {self.d_model} must be even and divisible by num_heads {self.num_heads}"
            yield Conflict(message, ("d_model", "num_heads"))


class TransformerConfig(_EncoderDecoder):
    """A Transformer with separate encoder and decoder depth. The defaults have Marian's layout."""

    architecture: Literal["transformer"] = Field("transformer", description="Architecture of the student.")


class SsruConfig(_EncoderDecoder):
    """A Transformer encoder, and a decoder with SSRU cells in place of self-attention (Kim et al. 2019).

    The decoder's state has the same size at every step.
    """

    architecture: Literal["ssru"] = Field("ssru", description="Architecture of the student.")


class SruConfig(_Sizes):
    """Simple recurrent units on both sides, and attention once, after the decoder's top layer (Lin et al. 2020).

    The encoder reads sources in both directions. The decoder's state has the same size at every step.
    """

    architecture: Literal["sru"] = Field("sru", description="Architecture of the student.")
    d_model: int = Field(192, ge=8, description="Width of the embeddings, and of what the output layer reads.")
    max_length: int = Field(512, ge=8, description="Longest source or target in tokens.")
    hidden_size: int = Field(
        384, ge=8, description="Width of a decoder layer; an encoder layer has half of it in each direction."
    )
    projection: int | None = Field(
        None,
        ge=8,
        description="Inner width of each layer's matrix, then a product of two narrow ones; null: one matrix.",
    )
    layer_norm: bool = Field(False, description="Layer norm of each layer's input.")

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        if self.hidden_size % 2:
            message = f"hidden_size {self.hidden_size} must be even: an encoder layer has half in each direction"
            yield Conflict(message, ("hidden_size",))


class _Vocabulary(Section):
    """What the tokenizer adds to a student's configuration."""

    vocab_size: int = Field(ge=1, description="Rows of the embedding and of the output layer.")
    pad_id: int = Field(ge=0, description="Its embedding is zero and stays zero.")


class TransformerModelConfig(_Vocabulary, TransformerConfig):
    """All that is needed to build a Transformer."""


class SsruModelConfig(_Vocabulary, SsruConfig):
    """All that is needed to build a model with an SSRU decoder."""


class SruModelConfig(_Vocabulary, SruConfig):
    """All that is needed to build a model of SRUs."""


_Student = (
    Annotated[TransformerConfig, Tag("transformer")]
    | Annotated[SsruConfig, Tag("ssru")]
    | Annotated[SruConfig, Tag("sru")]
)
LayeredModelConfig = Annotated[TransformerModelConfig, Tag("transformer")] | Annotated[SsruModelConfig, Tag("ssru")]
"""The models with a Transformer encoder."""
_Model = LayeredModelConfig | Annotated[SruModelConfig, Tag("sru")]

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
