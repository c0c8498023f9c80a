"""A lexical shortlist: the columns of the output layer that a source calls for.

These are the columns of the tokens that are written most, and of those that its own tokens are likely to become. The
product of the output layer is made for the union of a batch, and every sentence has a mask of its own over that, so
that its output does not depend on its neighbours.

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
    """What a batch may write."""

    kept: Tensor
    """int64 [kept]: columns that some sentence may write, in order."""
    penalty: Tensor
    """[batch, kept]: zero where that sentence may write the column, minus infinity elsewhere."""


class Shortlist(nn.Module):
    """From source tokens to columns."""

    def __init__(self, always: Tensor, likely: Tensor, columns: int) -> None:
        """``always``, int64 [n]: columns of every source; ``likely``, int64 [vocab, most]: those of each source token.

        A token with fewer has some of its columns, or of those of every source, several times.
        """
        super().__init__()
        smallest = torch.int16 if columns <= torch.iinfo(torch.int16).max else torch.int32
        self.register_buffer("likely", likely.to(smallest))
        self.likely: Tensor
        self.register_buffer("always", torch.zeros(columns, dtype=torch.bool).index_fill(0, always, True))
        self.always: Tensor

    @classmethod
    def from_table(cls, table: LexicalTable, constraints: Constraints) -> Shortlist:
        """The shortlist over the columns of a search; tokens without a column are left out."""
        columns, total = constraints.columns, constraints.eos.shape[0]
        always = columns[torch.from_numpy(table.always)]
        always = always[always < total]
        likely = columns[torch.from_numpy(table.likely)]
        return cls(always, torch.where(likely < total, likely, always[0]), total)

    def forward(self, source: Tensor) -> Shortlisted:
        """``source``: int64 [batch, source_len]."""
        wanted = self.likely[source].flatten(1).long()
        allowed = self.always.expand(source.shape[0], -1).scatter(1, wanted, True)
        kept = allowed.any(dim=0).nonzero().squeeze(1)
        return Shortlisted(kept, torch.where(allowed.index_select(1, kept), 0.0, -torch.inf))
