"""Scores a student and its teacher after every prefix of given outputs.

Shapes: batch = examples, context_len = tokens of the longest context, prefixes = those of all outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compressor.batching import bucket_by_length
from compressor.decoding.search import pad_sources
from compressor.distillation.evaluation import free_contexts
from compressor.errors import ConfigError, ModelError
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel
from compressor.progress import Bar
from compressor.teachers.base import Teacher

FRAME = ("start_id", "eos_id", "pad_id", "forced_bos_id")
"""Rules of generation that both models of a pair must share, so that they read the same contexts."""


@dataclass(frozen=True)
class ModelPair:
    """A student in eval mode, and its teacher.

    Raises:
        ConfigError: they begin or end outputs with different tokens.
    """

    student: Seq2SeqModel
    teacher: Teacher
    rules: GenerationConfig
    """The student's rules of generation."""

    def __post_init__(self) -> None:
        ours, theirs = self.rules.model_dump(include={*FRAME}), self.teacher.generation.model_dump(include={*FRAME})
        differing = [f"{name} {theirs[name]} and {ours[name]}" for name in FRAME if ours[name] != theirs[name]]
        if differing:
            raise ConfigError(
                f"teacher {self.teacher.name} and the student read different contexts ({', '.join(differing)}); "
                "give the teacher of its recipe, or train the student with `compress distill`"
            )

    def tokens(self) -> Tensor:
        """Returns the tokens that both may write, int64 [n]: the others are left out of both distributions."""
        rows = min(self.student.config.vocab_size, self.teacher.vocab_size)
        suppressed = {*self.rules.suppressed_ids, *self.teacher.generation.suppressed_ids}
        return torch.tensor([token for token in range(rows) if token not in suppressed])


class PrefixScores(NamedTuple):
    """Scores of prefixes whose next token no rule of generation forces; all arrays [prefixes]."""

    example: NDArray[np.int64]
    """The output that the prefix is of."""
    position: NDArray[np.int64]
    """The prefix's length, the start token included: 1 for the first token of an output."""
    divergence: NDArray[np.float64]
    """KL(teacher || student) over the tokens that both may write, in nats."""
    agrees: NDArray[np.bool_]
    """Whether the best of these tokens is the same one."""
    log_probability: NDArray[np.float64]
    """The teacher's, of the output's own next token, over the tokens that the teacher may write; in nats."""

    def mean_log_probability(self, examples: int) -> NDArray[np.float64]:
        """Returns the teacher's mean log-probability a token of each output [examples]; 0 where no token is free."""
        sums = np.bincount(self.example, weights=self.log_probability, minlength=examples)
        means: NDArray[np.float64] = sums / np.bincount(self.example, minlength=examples).clip(min=1)
        return means


def greedy_outputs(
    search: Callable[[Tensor, Tensor], list[list[int]]],
    sources: Sequence[list[int]],
    pad_id: int,
    batch_tokens: int,
    bar: Bar,
    label: str,
) -> list[list[int]]:
    """Returns what a search writes for each source, in order.

    Args:
        search: from sources and their mask, int64 and bool [batch, source_len], to token ids.
        sources: token ids.
        pad_id: fills up a batch.
        batch_tokens: padded source tokens searched together.
        bar: shows how far this is.
        label: name of this step.
    """
    outputs: list[list[int]] = [[] for _ in sources]
    buckets = bucket_by_length([len(source) for source in sources], batch_tokens)
    step = bar.start(label, len(buckets))
    for rows in buckets:
        batch = search(*pad_sources([sources[row] for row in rows], pad_id))
        for row, tokens in zip(rows, batch, strict=True):
            outputs[row] = tokens
        step()
    return outputs


@torch.no_grad()
def score_prefixes(
    pair: ModelPair,
    sources: Sequence[list[int]],
    outputs: Sequence[list[int]],
    batch_tokens: int,
    bar: Bar,
    label: str,
) -> PrefixScores:
    """Returns the scores of all prefixes of the outputs, whoever wrote them.

    Args:
        pair: student and teacher.
        sources: token ids.
        outputs: token ids for each source, at most ``rules.max_new_tokens``.
        batch_tokens: padded tokens scored together.
        bar: shows how far this is.
        label: name of this step.

    Raises:
        ModelError: an output of one of the models has NaN.
    """
    parts: list[PrefixScores] = []
    tokens = pair.tokens()
    buckets = bucket_by_length([max(map(len, both)) for both in zip(sources, outputs, strict=True)], batch_tokens)
    step = bar.start(label, len(buckets))
    for rows in buckets:
        source = pad_sources([sources[row] for row in rows], pair.rules.pad_id)
        contexts, free = free_contexts([outputs[row] for row in rows], pair.rules)
        width = int((free.any(dim=0) * torch.arange(1, free.shape[1] + 1)).max())
        if width:  # no wider than the last position that counts: an output at the limit would be too long a context
            free = free[:, :width]
            numbers = _scores(pair, source, contexts.tokens[:, :width], free, contexts.labels[:, :width][free], tokens)
            example, place = (column.numpy() for column in free.nonzero(as_tuple=True))
            parts.append(PrefixScores(np.array(rows)[example], place + 1, *numbers))
        step()
    if not parts:
        raise ConfigError("nothing to score: the rules of generation force every token of every output")
    scores = PrefixScores(*map(np.concatenate, zip(*parts, strict=True)))
    if not np.isfinite(scores.divergence).all():
        raise ModelError(f"teacher {pair.teacher.name} or the student: its output has NaN; its weights are damaged")
    return scores


def _scores(
    pair: ModelPair, source: tuple[Tensor, Tensor], contexts: Tensor, free: Tensor, labels: Tensor, tokens: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Returns divergence, agreement and the teacher's log-probability of the labels at the free positions [positions].

    Args:
        pair: student and teacher.
        source: token ids and mask [batch, source_len].
        contexts: int64 [batch, context_len].
        free: bool [batch, context_len].
        labels: int64 [positions].
        tokens: int64 [n], those that both may write.
    """
    of_teacher = pair.teacher.logits(*source, contexts, free).float()
    chosen = of_teacher[:, tokens].log_softmax(dim=-1)
    of_teacher[:, list(pair.teacher.generation.suppressed_ids)] = -math.inf
    log_probability = of_teacher.log_softmax(dim=-1).gather(1, labels[:, None])[:, 0]
    features = pair.student(*source, contexts)[free]
    of_student = pair.student.project(features, tokens).float().log_softmax(dim=-1)
    divergence = F.kl_div(of_student, chosen, reduction="none", log_target=True).sum(dim=-1)
    agrees = of_student.argmax(dim=-1) == chosen.argmax(dim=-1)
    return divergence.double().numpy(), agrees.numpy(), log_probability.double().numpy()
