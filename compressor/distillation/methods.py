"""What the rows of the method table compute: a policy of contexts, a target, a choice among hypotheses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from compressor.distillation.contexts import Always, ContextPolicy, Mixture
from compressor.distillation.hypotheses import HypothesisChoice, MostAgreed, NearestToReference
from compressor.distillation.losses import jensen_shannon, reverse_kl, skew_kl, soft_cross_entropy
from compressor.distillation.targets import BestToken, Distribution, Divergence, OwnToken, Target
from compressor.method_config import MethodConfig


@dataclass(frozen=True)
class Method:
    """A row with the settings of a recipe."""

    contexts: ContextPolicy
    target: Target
    choice: HypothesisChoice | None
    """Which of the teacher's hypotheses are contexts; None: the best one."""


def resolve(config: MethodConfig) -> Method:
    """Returns what the row that a recipe names computes, with the recipe's settings."""
    row = config.row
    policy = Always(*row.contexts) if len(row.contexts) == 1 else Mixture(*row.contexts)
    return Method(policy, _target(config), _choice(config))


def _target(config: MethodConfig) -> Target:
    match config.row.learns:
        case "own_token":
            return OwnToken()
        case "best_token":
            return BestToken()
        case "distribution":
            settings = config.temperature, config.teacher_top_k, config.reference_weight
            return Distribution(_divergence(config), *settings)


def _choice(config: MethodConfig) -> HypothesisChoice | None:
    match config.row.hypothesis:
        case "best":
            return None
        case "nearest_to_reference":
            return NearestToReference()
        case "most_agreed":
            return MostAgreed(config.mbr_hypotheses)


def _divergence(config: MethodConfig) -> Divergence:
    match config.divergence:
        case "forward_kl":
            return soft_cross_entropy
        case "reverse_kl":
            return reverse_kl
        case "jensen_shannon":
            return partial(jensen_shannon, weight=config.jsd_weight)
        case "skew_kl":
            return partial(skew_kl, skew=config.skew)
