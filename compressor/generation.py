"""How a model generates: the token ids and limits that travel from the teacher into the bundle."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GenerationConfig(BaseModel):
    """Start, end and suppressed tokens, and the defaults of the search, as Hugging Face `generate` defines them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_id: int = Field(description="Token at position 0 of every context.")
    eos_id: int = Field(description="Token that ends an output.")
    pad_id: int = Field(description="Token that fills up a batch.")
    suppressed_ids: tuple[int, ...] = Field(
        (), description="Never generated, and left out of the teacher's distribution."
    )
    begin_suppressed_ids: tuple[int, ...] = Field((), description="Never generated as the first token.")
    forced_bos_id: int | None = Field(None, description="Always the first generated token (mBART's target language).")
    forced_eos_id: int | None = Field(None, description="Always the last token when the length limit is reached.")
    max_new_tokens: int = Field(128, ge=1, description="Longest output in tokens, end of sentence included.")
    min_new_tokens: int = Field(0, ge=0, description="End of sentence is suppressed before that many tokens.")
    no_repeat_ngram_size: int = Field(0, ge=0, description="No n-gram of this size occurs twice; 0 is off.")
    length_penalty: float = Field(1.0, description="Beam scores are divided by length to this power.")
    num_beams: int = Field(1, ge=1, description="Default number of beams.")
    max_source_tokens: int = Field(512, ge=1, description="Longest source in tokens, end of sentence included.")
