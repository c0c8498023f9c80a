"""Selects the columns of the output layer from a lexical shortlist.

A source may write the most frequent target tokens and the likely translations of its own tokens. The matmul of the
output layer computes the union of a batch's columns. Each sentence has its own mask over that union, so its output does
not depend on its neighbours.

Shapes: batch = sentences, source_len = tokens, columns = those of the output layer, kept = those of the union.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from compressor.decoding.constraints import Constraints

Array = np.ndarray[Any, Any]


class LexicalTable(NamedTuple):
    """Target tokens that the outputs of a source may contain."""

    always: Array
    """int64 [n]: tokens allowed for every source, most frequent first."""
    likely: Array
    """int64 [vocab, most]: tokens allowed by each source token, the token itself first, padded with ``always[0]``."""
    pairs: int
    """Number of sentence pairs that the table was learned from."""


class Shortlisted(NamedTuple):
    """Columns of the output layer that a batch may write."""

    kept_columns: Tensor
    """int64 [kept]: columns that at least one sentence may write, ascending."""
    penalty: Tensor
    """[batch, kept]: 0 where that sentence may write the column, minus infinity elsewhere."""


class Shortlist(nn.Module):
    """Maps source tokens to columns of the output layer."""

    def __init__(self, always: Tensor, likely: Tensor, columns: int) -> None:
        """Initializes the tables.

        Args:
            always: int64 [n], columns allowed for every source.
            likely: int64 [vocab, most], columns allowed by each source token; shorter rows repeat columns.
            columns: Number of columns of the output layer.
        """
        super().__init__()
        smallest = torch.int16 if columns <= torch.iinfo(torch.int16).max else torch.int32
        self.register_buffer("likely", likely.to(smallest))
        self.likely: Tensor
        self.register_buffer("always", torch.zeros(columns, dtype=torch.bool).index_fill(0, always, True))
        self.always: Tensor

    @classmethod
    def from_table(cls, table: LexicalTable, constraints: Constraints) -> Shortlist:
        """Returns the shortlist for the columns of a search, without the tokens that have no column."""
        columns, total = constraints.columns, constraints.eos.shape[0]
        always = columns[torch.from_numpy(table.always)]
        always = always[always < total]
        likely = columns[torch.from_numpy(table.likely)]
        return cls(always, torch.where(likely < total, likely, always[0]), total)

    def forward(self, source: Tensor) -> Shortlisted:
        """Returns the columns that the sources (int64 [batch, source_len]) allow."""
        likely = self.likely[source].flatten(1).long()
        allowed = self.always.expand(source.shape[0], -1).scatter(1, likely, True)
        kept_columns = allowed.any(dim=0).nonzero().squeeze(1)
        return Shortlisted(kept_columns, torch.where(allowed.index_select(1, kept_columns), 0.0, -torch.inf))
