"""How a model generates: the token ids and limits that travel from the teacher into the bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

MAX_VOCAB = 1 << 22


def _parse_ids(value: object) -> object:
    """``"3,7-9"`` -> (3, 7, 8, 9); anything else is left to pydantic."""
    if not isinstance(value, str):
        return value
    runs = [part.partition("-") for part in value.split(",") if part]
    ranges = [range(int(first), int(last if dash else first) + 1) for first, dash, last in runs]
    if any(ids.stop > MAX_VOCAB for ids in ranges) or len(ranges) > MAX_VOCAB:  # a bundle may come from a stranger
        raise ValueError(f"ids go up to {MAX_VOCAB - 1:,} at most")
    return tuple(dict.fromkeys(index for ids in ranges for index in ids))


def _format_ids(ids: tuple[int, ...]) -> str:
    """(3, 7, 8, 9) -> ``"3,7-9"``: half a vocabulary is one line of JSON rather than thousands."""
    runs: list[list[int]] = []
    for index in sorted(ids):
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ",".join("-".join(map(str, run)) for run in runs)


Ids = Annotated[tuple[int, ...], BeforeValidator(_parse_ids), PlainSerializer(_format_ids, when_used="json")]


class GenerationConfig(BaseModel):
    """Start, end and suppressed tokens, and the defaults of the search, as Hugging Face `generate` defines them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_id: int = Field(description="Token at position 0 of every context.")
    eos_id: int = Field(description="Token that ends an output.")
    pad_id: int = Field(description="Token that fills up a batch.")
    suppressed_ids: Ids = Field((), description="Never generated, and left out of the teacher's distribution.")
    begin_suppressed_ids: tuple[int, ...] = Field((), description="Never generated as the first token.")
    forced_bos_id: int | None = Field(None, description="Always the first generated token (mBART's target language).")
    forced_eos_id: int | None = Field(None, description="Always the last token when the length limit is reached.")
    max_new_tokens: int = Field(128, ge=1, description="Longest output in tokens, end of sentence included.")
    min_new_tokens: int = Field(0, ge=0, description="End of sentence is suppressed before that many tokens.")
    no_repeat_ngram_size: int = Field(0, ge=0, description="No n-gram of this size occurs twice; 0 is off.")
    length_penalty: float = Field(1.0, description="Beam scores are divided by length to this power.")
    early_stopping: bool | Literal["never"] = Field(False, description="When beams stop, see Hugging Face.")
    renormalize_logits: bool = Field(False, description="Beams: probabilities are among what may come at a step.")
    num_beams: int = Field(1, ge=1, description="Default number of beams.")
    max_source_tokens: int = Field(512, ge=1, description="Longest source in tokens, end of sentence included.")

    def allowed_ids(self, vocab_size: int) -> list[int]:
        """The tokens that may be generated, ascending."""
        suppressed = set(self.suppressed_ids)
        return [index for index in range(vocab_size) if index not in suppressed]


def until_eos(tokens: list[int], eos_id: int, pad_id: int) -> list[int]:
    """Tokens up to and with the first EOS, else up to the padding at the end."""
    if eos_id in tokens:
        return tokens[: tokens.index(eos_id) + 1]
    while tokens and tokens[-1] == pad_id:
        tokens = tokens[:-1]
    return tokens
