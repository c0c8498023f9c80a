"""Speculative contexts: the student proposes each token, and the teacher replaces one that it would not write."""

from __future__ import annotations

import torch
from torch import Tensor

from compressor.decoding.greedy import Choose
from compressor.decoding.topk import top
from compressor.distillation.sampling import sample_top_k
from compressor.method_config import RolloutConfig
from compressor.models.base import Seq2SeqModel


class SpeculativeSampler:
    """A ``Chooser`` by which student and teacher write a text together (Xu et al. 2024, algorithm 1).

    The student's sample is taken if it is among the teacher's ``teacher_top_k`` best tokens there, else a sample of the
    teacher's among them. The paper lets the student propose several tokens before the teacher looks at them; one at a
    time gives texts of the same distribution.

    Args:
        teacher: The teacher.
        source, source_mask: int64 and bool [batch, source_len].
        config: Numbers of candidates.
        proposals, replacements: Numbers in [0, 1) of the student's and the teacher's samples, float64 [batch, steps].
    """

    @torch.no_grad()
    def __init__(
        self,
        teacher: Seq2SeqModel,
        source: Tensor,
        source_mask: Tensor,
        config: RolloutConfig,
        proposals: Tensor,
        replacements: Tensor,
    ) -> None:
        self.teacher, self.config = teacher, config
        self.proposals, self.replacements = proposals, replacements
        self.state = teacher.initial_state(teacher.encode(source, source_mask))
        self.rows = torch.arange(source.shape[0], device=source.device)

    def __call__(self, rows: Tensor, step: int, last: Tensor) -> Choose:
        """See ``Chooser``; the teacher reads the last token of each row."""
        if len(rows) < len(self.rows):
            self.state = self.teacher.select(self.state, torch.searchsorted(self.rows, rows))
            self.rows = rows
        logits, self.state = self.teacher.step(last, self.state)
        propose = sample_top_k(self.config.top_k, self.proposals[rows, step])
        replace = sample_top_k(self.config.teacher_top_k, self.replacements[rows, step])

        def choose(of_student: Tensor) -> Tensor:
            proposed = propose(of_student)
            of_teacher = logits.float().masked_fill(of_student == -torch.inf, -torch.inf)  # the search's constraints
            _, best = top(of_teacher, min(self.config.teacher_top_k, of_teacher.shape[-1]))
            accepted = (best == proposed[:, None]).any(dim=-1)
            return torch.where(accepted, proposed, replace(of_teacher))

        return choose
