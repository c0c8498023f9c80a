"""Where examples come from, and what is changed or dropped: the section ``data`` of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from compressor.model_config import Conflict, Section

Task = Literal["translation", "summarization"]


class DataSource(Section):
    """One corpus. Give exactly one of ``source``, ``path``, ``hub`` and ``synthetic``."""

    source: str | None = Field(None, description="Plain text, one source a line (also .gz).")
    target: str | None = Field(None, description="Plain text aligned with `source`; absent for monolingual sources.")
    path: str | None = Field(
        None,
        description="JSON lines, a JSON list, CSV, TSV (also .gz) or Parquet with a source and a target column.",
    )
    hub: str | None = Field(None, description="Data set name on the Hugging Face hub, read through `datasets`.")
    hub_config: str | None = Field(None, description="Configuration of the hub data set.")
    split: str = Field("train", description="Split of the hub data set.")
    source_column: str = Field(
        "source",
        coerce_numbers_to_str=True,
        description="Column of the source; dots enter nested records. A number is the place, from 1, of a column in a "
        "TSV or CSV file without a line of names.",
    )
    target_column: str | None = Field(
        "target", coerce_numbers_to_str=True, description="Column of the target; null for monolingual sources."
    )
    synthetic: Task | None = Field(
        None, description="The embedded corpus of this task, generated on the spot; needs `size`."
    )
    synthetic_split: Literal["train", "dev", "test"] = Field("train", description="Split of the embedded corpus.")
    size: int | None = Field(None, ge=1, description="Number of synthetic examples, or a limit on what is read.")

    @property
    def has_target(self) -> bool:
        """Whether every source comes with a reference."""
        return bool(self.target) if self.source else bool(self.target_column)

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        names = ("source", "path", "hub", "synthetic")
        origins = [name for name in names if getattr(self, name)]
        if len(origins) != 1:
            yield Conflict(f"give exactly one of source, path, hub, synthetic (got {origins or 'none'})", names)
        if self.target and not self.source:
            yield Conflict("target needs source", ("target", "source"))
        if self.synthetic and not self.size:
            yield Conflict("synthetic needs size", ("synthetic", "size"))


class AugmentationConfig(Section):
    """Shares of the examples of a pass that are changed, each in one way; what is left stays as it is."""

    upper_case: float = Field(0.0, ge=0, le=1, description="Both sides in capital letters.")
    title_case: float = Field(0.0, ge=0, le=1, description="Both sides with a capital at the beginning of each word.")
    lower_case: float = Field(0.0, ge=0, le=1, description="The source without capital letters.")
    no_stop: float = Field(0.0, ge=0, le=1, description="Both sides without their final stop.")
    joined: float = Field(0.0, ge=0, le=1, description="Two or three examples in one line.")
    typos: float = Field(0.0, ge=0, le=1, description="The source with typing mistakes, one in forty letters.")
    missing_words: float = Field(0.0, ge=0, le=1, description="The source without one word in ten.")
    copied: float = Field(
        0.0, ge=0, le=1, description="Both sides with a number, address, placeholder, emoji or markup that is copied."
    )

    def shares(self) -> dict[str, float]:
        """Returns the shares above zero, by the name of the change."""
        return {name: share for name, share in self.model_dump().items() if share}

    def conflicts(self) -> Iterator[Conflict]:
        """See Section."""
        if (total := sum(self.shares().values())) > 1:
            yield Conflict(f"the shares add up to {total:g}: at most 1 can be changed", tuple(self.shares()))


class DataConfig(Section):
    """Corpora, and what is dropped from them."""

    root: str = Field(".", description="Folder that relative paths start from.")
    train: list[DataSource] = Field(min_length=1, description="Parallel training data.")
    mono: list[DataSource] = Field([], description="Extra sources without a reference; only rollouts learn from them.")
    dev: list[DataSource] = Field(min_length=1, description="Parallel data that selects the best checkpoint.")
    max_source_tokens: int = Field(128, ge=2, description="Longer sources are dropped (or cut, see `truncate`).")
    max_target_tokens: int = Field(128, ge=2, description="Longer targets are dropped (or cut, see `truncate`).")
    max_output_tokens: int | None = Field(
        None, ge=2, description="Longest output on the dev set and of the exported student; null: max_target_tokens."
    )
    truncate: bool = Field(False, description="Cut what is too long instead of dropping it (summarization).")
    max_length_ratio: float | None = Field(
        4.0,
        gt=1,
        description="Drop pairs with more than this many times the tokens on one side as on the other; null: keep.",
    )
    deduplicate: bool = Field(True, description="Drop repeated pairs.")
    on_error: Literal["raise", "skip"] = Field(
        "raise",
        description="Rows of `train` and `mono` that cannot be read (not UTF-8, not JSON, a column too few): refuse "
        "the first, or drop and count them.",
    )
    cache: str | None = Field(
        None,
        description="Folder of tokenized corpora, which runs on the same data share; relative to the current folder. "
        "null: `tokenized` beside the run folder.",
    )
    augmentation: AugmentationConfig = Field(
        default_factory=AugmentationConfig,
        description="Training text changed in each pass; with a method that reads recorded outputs of the teacher, "
        "changed once, before the teacher writes them.",
    )
