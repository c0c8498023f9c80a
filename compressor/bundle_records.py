"""Records of a bundle's manifest: files, precisions, measured quality and origin."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Case = Literal["upper", "title", "lower"]
"""Letter case of a sentence: in capitals, with a capital at every word, or without any."""

_MAX_FILE = 16 << 30
"""Bytes of the largest file that a manifest may list."""


def is_none(value: object) -> bool:
    """Returns whether a field has no value: it is then left out of the file."""
    return value is None


class Part(BaseModel):
    """Base of the manifest's sections: frozen, without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(Part):
    """Size and checksum of a file."""

    size: int = Field(ge=0, le=_MAX_FILE, description="Bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Hexadecimal.")


class Quality(Part):
    """Score of a precision on dev data."""

    metric: str = Field(description="bleu or rouge_l.")
    against_fp32: float | None = Field(None, description="Score with the fp32 outputs as references; null for fp32.")
    against_references: float | None = Field(None, description="Score with human references, where they were given.")
    sentences: int = Field(ge=0, description="Number of scored sources.")
    signature: str | None = Field(None, description="Signature of the metric.")
    processor_features: tuple[str, ...] = Field((), description="Processor features of the machine that measured it.")


class RobustnessSlice(Part):
    """Figures of a slice of a test set: its lines as they are, or changed in one way."""

    test_set: str | None = Field(None, exclude_if=is_none, description="Name of the test set.")
    slice: str = Field(description="What was changed.")
    sentences: int = Field(ge=1, description="Number of lines.")
    bleu: float | None = Field(None, exclude_if=is_none, description="Of translations: BLEU without regard to case.")
    bleu_lost: float | None = Field(
        None,
        exclude_if=is_none,
        description="By how much it is lower than that of the outputs of the lines as they are; null: of other lines.",
    )
    chrf: float | None = Field(None, exclude_if=is_none, description="Of translations: chrF without regard to case.")
    rouge_l: float | None = Field(None, exclude_if=is_none, description="Of summaries: ROUGE-L, mean F1.")
    rouge_l_lost: float | None = Field(
        None,
        exclude_if=is_none,
        description="By how much it is lower than that of the outputs of the lines as they are; null: of other lines.",
    )
    length_ratio: float = Field(ge=0, description="Characters of the outputs by those of the references.")
    runaways: int = Field(ge=0, description="Outputs that are far too long or end in a loop.")
    copied: int = Field(ge=0, description="Placeholders, addresses and numbers in source and reference alike.")
    copied_right: int = Field(ge=0, description="Those of them that are in the output.")


class LeftOutSlice(Part):
    """A slice that was not measured."""

    test_set: str = Field(description="Name of the test set.")
    slice: str = Field(description="What is changed.")
    lines: int = Field(ge=0, description="Lines that it has, or that the change alters.")


class Robustness(Part):
    """Quality on text as users type it, see ``python -m benchmarks robustness``."""

    test_set: str = Field(description="Names of the test sets.")
    precision: str = Field(description="Precision that was measured.")
    num_beams: int = Field(ge=1, description="Beams of the search.")
    signature: str = Field(description="Signature of the metrics.")
    slices: tuple[RobustnessSlice, ...] = Field(
        min_length=1, description="The first one of a test set is the unchanged one."
    )
    least_lines: int | None = Field(None, exclude_if=is_none, description="Slices with fewer lines were left out.")
    left_out: tuple[LeftOutSlice, ...] = Field((), exclude_if=lambda value: not value, description="Too small slices.")


class ShortlistSizes(Part):
    """Training data and sizes of a lexical shortlist."""

    pairs: int = Field(ge=1, description="Number of sources with a teacher's output.")
    always: int = Field(ge=1, description="Number of tokens allowed for every source.")
    likely: int = Field(ge=1, description="Number of tokens that each source token allows.")


class MatmulFormat(Part):
    """Format of the matmuls of one shape in a mixed precision, with the measured times."""

    graph: str = Field(description="Graph of these matmuls: encoder or decoder_step.")
    d: int = Field(ge=1, description="Rows of the weight.")
    columns: int = Field(ge=1, description="Columns of the weight.")
    rows: int = Field(ge=1, description="Rows of the input: sentences of a batch, in the encoder times source tokens.")
    count: int = Field(ge=1, description="Number of matmuls of this shape.")
    format: str = Field(description="fp32, int8 (static scales) or blocks (8-bit weights in blocks).")
    microseconds: dict[str, float] = Field(description="Shortest time on one thread, by format.")


class Precision(Part):
    """Graphs and weights of one precision, with its quality."""

    graphs: dict[str, str] = Field(description="Graph name (generate, generate_beams, encoder, decoder_step) to file.")
    weights: str = Field(description="File of the weights that the graphs share.")
    scheme: str = Field(description="How weights are stored and multiplied.")
    fp32_layers: tuple[str, ...] = Field((), description="Layers that stay in fp32 to limit the loss of quality.")
    batch_size: int | None = Field(None, exclude_if=is_none, description="Of mixed: batch size it is optimized for.")
    matmul_formats: tuple[MatmulFormat, ...] | None = Field(
        None, exclude_if=is_none, description="Of mixed: format and times of every shape of matmul."
    )
    shortlist: ShortlistSizes | None = Field(None, exclude_if=is_none, description="Of a precision with a shortlist.")
    quality: Quality | None = Field(None, description="Measured at export; null where there were no sources.")


class ParitySummary(Part):
    """Summary of ``parity.json``."""

    sources: int = Field(description="Number of compared dev sources.")
    fp32_identical: int = Field(description="Sources for which fp32 generates exactly PyTorch's tokens.")
    fp32_near_ties: int = Field(description="Sources that differ at a near-tie, listed in parity.json.")
    batch_sources: int = Field(description="Sources generated in batches of 1, 8 and 32.")
    batch_exceptions: dict[str, int] = Field(description="Sources whose output depends on the batch, by precision.")


class Lineage(Part):
    """Origin of the model."""

    method: str | None = Field(None, description="Training method.")
    teacher: dict[str, Any] | None = Field(None, description="Name, revision, parameters, licence of the teacher.")
    recipe: dict[str, Any] | None = Field(None, description="The complete recipe.")
    data: Any = Field(None, description="Fingerprints of the data files.")
    licences: dict[str, str] = Field({}, description="Licences of the weights, the teacher and the data.")
    scores: dict[str, Any] = Field({}, description="Scores of the run on the dev set.")
    provenance: dict[str, Any] = Field({}, description="Of training, and of the export.")
