"""How often a student writes what its teacher would: measured on the texts of its outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from compressor.batching import bucket_by_length
from compressor.decoding.search import pad_sources
from compressor.distillation.evaluation import free_contexts
from compressor.errors import ModelError
from compressor.teachers.base import Teacher
from compressor.text.tokenizer import cut

_BATCH_TOKENS = 4000


@torch.no_grad()
def teacher_agreement(teacher: Teacher, sources: Sequence[str], outputs: Sequence[str]) -> float | None:
    """Returns the share of the outputs' tokens that are the teacher's best ones after what stands before them.

    Outputs are tokenized again, with the teacher's tokenizer, and end with EOS; tokens that the rules of generation
    force are not counted. Of greedy outputs it is the share of the student's own contexts in which both models choose
    the same token.

    Args:
        teacher: Reads the sources and outputs.
        sources: Texts.
        outputs: A student's text for each.

    Returns:
        A number in [0, 1]; None if no token is counted.

    Raises:
        ModelError: the teacher's output has NaN.
    """
    rules, tokenizer = teacher.generation, teacher.tokenizer
    eos, longest = tokenizer.eos_id, min(rules.max_new_tokens, teacher.max_context or rules.max_new_tokens)
    first = [] if rules.forced_bos_id is None else [rules.forced_bos_id]
    read = [cut(tokenizer.encode_source(text), rules.max_source_tokens, eos) or [eos] for text in sources]
    written = [[*first, *tokenizer.encode_target(text)][:longest] for text in outputs]
    same, count = 0, 0
    for rows in bucket_by_length([max(map(len, both)) for both in zip(read, written, strict=True)], _BATCH_TOKENS):
        contexts, free = free_contexts([written[row] for row in rows], rules)
        source = pad_sources([read[row] for row in rows], rules.pad_id)
        logits = teacher.logits(*source, contexts.tokens, free)
        if bool(logits.sum().isnan()):
            raise ModelError(f"teacher {teacher.name}: its output has NaN; its weights are damaged")
        logits[:, list(rules.suppressed_ids)] = -math.inf
        same += int((logits.argmax(dim=-1) == contexts.labels[free]).sum())
        count += int(free.sum())
    return same / count if count else None
