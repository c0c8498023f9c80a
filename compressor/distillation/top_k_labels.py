"""A teacher's distributions as their k most probable tokens and the probability that remains.

Shapes: positions = contexts of all outputs, end to end; columns = tokens that may be generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.batching import bucket_by_length
from compressor.decoding.search import pad_sources
from compressor.decoding.topk import top
from compressor.distillation.contexts import build_contexts
from compressor.distillation.label_shards import TopK
from compressor.errors import ModelError
from compressor.teachers.base import Teacher, TeacherFacts

LOGITS = 2**25
"""Logits that are computed together: 128 MB."""


def top_log_probabilities(
    teacher: Teacher,
    sources: Sequence[list[int]],
    outputs: Sequence[list[int]],
    k: int,
    tokens: Sequence[int],
    device: torch.device,
) -> tuple[NDArray[np.int32], TopK]:
    """Returns the number of contexts of each output, and the teacher's distributions at all of them, end to end.

    Args:
        teacher: The teacher, on ``device``.
        sources: Token ids of each source.
        outputs: Token ids of its output.
        k: Tokens at each position.
        tokens: The tokens that the distributions are over.
        device: Where it is computed.

    Raises:
        ModelError: a distribution has NaN.
    """
    allowed = torch.tensor(tokens, device=device)
    pieces: list[tuple[NDArray[Any], ...]] = [()] * len(outputs)
    lengths = [len(output) + 1 for output in outputs]
    for rows in bucket_by_length(lengths, max(1, LOGITS // len(allowed))):
        contexts = build_contexts([outputs[row] for row in rows], [True] * len(rows), teacher.generation).to(device)
        source, mask = pad_sources([sources[row] for row in rows], teacher.generation.pad_id, device)
        logits = teacher.logits(source, mask, contexts.tokens, contexts.loss_mask, allowed).float()
        if bool(logits.isnan().any()):
            raise ModelError(f"teacher {teacher.name}: its output has NaN; its weights are damaged, get them again")
        logs, places = top(logits.log_softmax(dim=-1), k)
        remaining = logits.softmax(dim=-1).scatter(1, places, 0.0).sum(dim=-1)
        ends = contexts.loss_mask.sum(dim=1).cumsum(0)[:-1].tolist()
        columns = (allowed[places].int(), logs.half(), remaining)
        for row, *piece in zip(rows, *(np.split(column.cpu().numpy(), ends) for column in columns), strict=True):
            pieces[row] = tuple(piece)
    positions = np.array([len(piece[0]) for piece in pieces], np.int32)
    return positions, TopK(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


def dense_logits(stored: Sequence[TopK], tokens: Tensor, teacher: TeacherFacts) -> Tensor:
    """Returns log-probabilities [positions, columns], whose softmax is the stored distribution.

    The remaining probability is shared evenly by the tokens that are not among the k.

    Args:
        stored: The distributions of each output.
        tokens: int64 [columns], those that the distributions are over, on the device of the result; of a sample of the
            corpus, which may lack some, only what they cost.
        teacher: Whose distributions they are.
    """
    device = tokens.device
    ids = torch.from_numpy(np.concatenate([one.ids for one in stored])).to(device, torch.int64)
    logs = torch.from_numpy(np.concatenate([one.logs for one in stored])).to(device, torch.float32)
    remaining = torch.from_numpy(np.concatenate([one.remaining for one in stored])).to(device)
    column_of = torch.full((teacher.vocab_size,), len(tokens), device=device)
    column_of[tokens] = torch.arange(len(tokens), device=device)
    rest = len(tokens) - ids.shape[1]
    share = (remaining / max(rest, 1)).clamp(min=torch.finfo(torch.float32).tiny).log()
    # One column more takes the tokens that have none; it is cut off.
    return share[:, None].repeat(1, len(tokens) + 1).scatter_(1, column_of[ids], logs)[:, :-1]
