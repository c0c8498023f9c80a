"""A teacher's residual stream on a student's narrower one.

Shapes: D and d = widths of teacher and student, vocab, len.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

POSITIONS = 128
"""Position embeddings that the basis is fitted to; most sentences are shorter."""


class Projection:
    """Weights of a narrow model that does what a wide one does, on an orthonormal basis P [D, d] of its stream.

    The student's stream is ``h' = Pᵀ h / c``, and ``c P h'`` stands for the teacher's h. ``c = √(D / d)`` leaves the
    mean square of a coordinate as it is, which layer norm sets to 1 in both. The result is exact if all that the
    teacher writes lies in the span of P, P maps the vector of ones to a multiple of ones (layer norm subtracts the part
    along it), and the gains of a layer norm are equal: other gains scale the teacher's own coordinates, and of
    ``Pᵀ diag(gains) P`` a layer norm of the student can have the diagonal alone. So it is approximate in general.

    Args:
        basis: P.
    """

    def __init__(self, basis: Tensor) -> None:
        self.basis = basis
        wide, narrow = basis.shape
        self.is_identity = wide == narrow and bool((basis == torch.eye(wide)).all())
        self.ratio = float((wide / narrow) ** 0.5)

    def read(self, weight: Tensor) -> Tensor:
        """Returns the weight [n, d] of what the weight [n, D] reads of the stream."""
        return self.ratio * (weight @ self.basis)

    def write(self, weight: Tensor) -> Tensor:
        """Returns the weight [d, n] or bias [d] of what a weight [D, n] or bias [D] adds to the stream."""
        return (self.basis.T @ weight) / self.ratio

    def copy_norm(self, source: nn.LayerNorm, target: nn.LayerNorm, gain: float = 1.0) -> None:
        """Fills a layer norm of the student, whose output is multiplied by ``gain``."""
        target.weight.copy_(gain * (self.basis.square().T @ source.weight))
        target.bias.copy_(gain * self.write(source.bias))


def stream_basis(teacher: Any, student: Any) -> Tensor:
    """Returns an orthonormal basis [D, d] for ``Projection``; the identity for equal widths.

    It spans the vector of ones and the d - 1 principal directions of the teacher's embeddings and positions. Within
    them, it is rotated so that the teacher's position embeddings fall on the student's, which are a fixed table
    (orthogonal Procrustes problem, Schönemann 1966).

    Args:
        teacher, student: Both ``EncoderDecoder``.
    """
    wide, narrow = teacher.config.d_model, student.config.d_model
    if wide == narrow:
        return torch.eye(wide)
    length = min(POSITIONS, len(teacher.positions), len(student.positions))
    theirs, ours = (model.positions[:length].double() for model in (teacher, student))
    moments = theirs.T @ theirs / length
    for table in teacher.embedding.values():
        scaled = table.detach().double() * teacher.scale
        moments += scaled.T @ scaled / len(scaled)
    wide_ones, wide_rest = _ones_and_rest(moments, narrow - 1)
    narrow_ones, narrow_rest = _ones_and_rest(torch.eye(narrow, dtype=torch.float64), narrow - 1)
    left, _, right = torch.linalg.svd(wide_rest.T @ theirs.T @ ours @ narrow_rest)
    basis: Tensor = torch.outer(wide_ones, narrow_ones) + wide_rest @ (left @ right) @ narrow_rest.T
    return basis.float()


def _ones_and_rest(moments: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the unit vector [n] along ones, and ``count`` principal directions [n, count] orthogonal to it.

    Args:
        moments: second moments [n, n].
        count: less than n.
    """
    size = len(moments)
    ones = torch.full((size,), size**-0.5, dtype=moments.dtype)
    apart = torch.eye(size, dtype=moments.dtype) - torch.outer(ones, ones)
    lowered = apart @ moments @ apart - torch.outer(ones, ones)  # ones become the least of all directions
    directions: Tensor = torch.linalg.eigh(lowered).eigenvectors
    return ones, directions[:, size - count :]
