"""From config to the optimizer of a fast phase."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..config import FSTConfig
from ..imports import load
from ..optimizer import PromptOptimizer
from ..policy import Policy
from .progress import LiveLine


def build_optimizer(
    config: FSTConfig, policy: Policy, problems: int, reflection: Any, log: Callable[[str], None]
) -> PromptOptimizer:
    """The optimizer of one fast phase. problems: how many the cycle has."""
    if config.fast.path:
        return load(config.fast.path, "fst.fast.path")(**config.fast.kwargs)
    from .optimizer import GEPAOptimizer

    return GEPAOptimizer(
        reflection,
        k=config.population,
        budget=config.fast.budget or math.ceil(config.fast.passes * problems),
        minibatch=config.fast.minibatch,
        records=config.fast.records,
        new_candidates=config.fast.new_candidates,
        proposals=config.fast.proposals,
        width=config.fast.width or policy.width,
        rounds=config.fast.rounds,
        confidence=config.fast.confidence,
        patience=config.fast.patience,
        perfect_score=config.fast.perfect_score,
        max_tokens=policy.max_tokens,
        count_tokens=policy.count_tokens,
        special_tokens=policy.special_tokens,
        max_reflection_failures=config.reflection.max_failures,
        log=log,
        status=LiveLine(log),
    )
