"""From config to the optimizer of a fast phase."""

from __future__ import annotations

from collections.abc import Callable

from ..config import FSTConfig
from ..imports import load
from ..optimizer import PromptOptimizer
from ..policy import Policy
from ..reflection.base import Reflection
from ..rewards import RewardBar
from .optimizer import ReflectiveOptimizer
from .progress import LiveLine


def build_optimizer(
    config: FSTConfig, policy: Policy, reflection: Reflection, log: Callable[[str], None], bar: RewardBar
) -> PromptOptimizer:
    """bar: what the run knows of its rewards so far.

    Returns the user's own if `fst.fast.path` names one, built with `fst.fast.kwargs`; else the shipped one."""
    if config.fast.path:
        return load(config.fast.path, "fst.fast.path")(**config.fast.kwargs)
    return ReflectiveOptimizer(reflection, config, policy, bar=bar, log=log, status=LiveLine(log))
