"""The dev score that selects a run's weights."""

from __future__ import annotations

from compressor.distillation.rollout import FULL_BATCH_ROLLOUT, rollout
from compressor.distillation.setup import Setup
from compressor.text.metrics import Scores, score
from compressor.text.tokenizer import cut


def dev_scores(setup: Setup) -> Scores:
    """Returns the scores of the student's greedy outputs on the dev set."""
    recipe, tokenizer, eos = setup.recipe, setup.tokenizer, setup.tokenizer.eos_id
    limit = recipe.data.max_source_tokens
    sources = [cut(tokenizer.encode_source(example.source), limit, eos) or [eos] for example in setup.dev]
    outputs = rollout(
        setup.student,
        sources,
        setup.generation,
        recipe.method.rollout.model_copy(update={"strategy": "greedy", "max_source_ratio": None}),
        max_new_tokens=setup.generation.max_new_tokens,
        batch_tokens=FULL_BATCH_ROLLOUT * recipe.training.batch_tokens,
    )
    references = [example.target or "" for example in setup.dev]
    return score(recipe.task, [tokenizer.decode(tokens) for tokens in outputs], references)
