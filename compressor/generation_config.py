"""The generation configuration: special tokens, limits and search defaults, from the teacher to the bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

MAX_VOCAB = 1 << 22


def _parse_ids(value: object) -> object:
    """Parses ``"3,7-9"`` to (3, 7, 8, 9); other values are left to pydantic."""
    if not isinstance(value, str):
        return value
    runs = [part.partition("-") for part in value.split(",") if part]
    ranges = [range(int(first), int(last if dash else first) + 1) for first, dash, last in runs]
    if any(ids.stop > MAX_VOCAB for ids in ranges) or len(ranges) > MAX_VOCAB:  # a bundle is untrusted
        raise ValueError(f"ids go up to {MAX_VOCAB - 1:,} at most")
    return tuple(dict.fromkeys(index for ids in ranges for index in ids))


def _format_ids(ids: tuple[int, ...]) -> str:
    """Formats (3, 7, 8, 9) as ``"3,7-9"``, so that half a vocabulary is one line of JSON."""
    runs: list[list[int]] = []
    for index in sorted(ids):
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ",".join("-".join(map(str, run)) for run in runs)


Ids = Annotated[tuple[int, ...], BeforeValidator(_parse_ids), PlainSerializer(_format_ids, when_used="json")]


class GenerationConfig(BaseModel):
    """Special and suppressed tokens, limits and search defaults, with the semantics of Hugging Face ``generate``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_id: int = Field(description="Token at position 0 of every context.")
    eos_id: int = Field(description="Token that ends an output.")
    pad_id: int = Field(description="Token that fills up a batch.")
    suppressed_ids: Ids = Field((), description="Never generated, and excluded from the teacher's distribution.")
    begin_suppressed_ids: tuple[int, ...] = Field((), description="Never generated as the first token.")
    forced_bos_id: int | None = Field(None, description="Always the first generated token (mBART's target language).")
    forced_eos_id: int | None = Field(None, description="Always the last token when the length limit is reached.")
    max_new_tokens: int = Field(128, ge=1, description="Longest output in tokens, end of sentence included.")
    min_new_tokens: int = Field(0, ge=0, description="End of sentence is suppressed before that many tokens.")
    no_repeat_ngram_size: int = Field(0, ge=0, description="No n-gram of this size occurs twice; 0 is off.")
    length_penalty: float = Field(1.0, description="Beam scores are divided by length to this power.")
    early_stopping: bool | Literal["never"] = Field(
        False, description='When beam search stops: true, false or "never", as in Hugging Face.'
    )
    renormalize_logits: bool = Field(
        False, description="Beam search: probabilities are normalized over the tokens allowed at a step."
    )
    num_beams: int = Field(1, ge=1, description="Default number of beams.")
    max_source_tokens: int = Field(512, ge=1, description="Longest source in tokens, end of sentence included.")

    def allowed_ids(self, vocab_size: int) -> list[int]:
        """Ids of the tokens that may be generated, ascending."""
        suppressed = set(self.suppressed_ids)
        return [index for index in range(vocab_size) if index not in suppressed]


def until_eos(tokens: list[int], eos_id: int, pad_id: int) -> list[int]:
    """Cuts tokens after the first EOS; without one, removes padding at the end."""
    if eos_id in tokens:
        return tokens[: tokens.index(eos_id) + 1]
    while tokens and tokens[-1] == pad_id:
        tokens = tokens[:-1]
    return tokens
