"""Which problems of a fast phase are for what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..rollouts import Problem


@dataclass(frozen=True)
class Problems:
    """The problems of one phase.

    pool: to score prompts on and to learn from.
    held_out: what the comparison at the end may use.
    shared: both are the same problems.
    learnt: further ones that slow rollouts are known of.
    """

    pool: list[Problem]
    held_out: list[Problem]
    shared: bool
    learnt: list[Problem]


@dataclass(frozen=True)
class Plan:
    """anchors: the problems that prompts are scored on. held_out: those of the comparison. evidence: pairs that are set
    aside for it, 0 if there can be none. feasible: does the budget bear the old prompts and a child?"""

    anchors: list[Problem]
    held_out: list[Problem]
    evidence: int
    feasible: bool = True


def is_new_task(known: Collection[Problem], coming: Collection[Problem]) -> bool:
    """Are most of the coming problems of tasks that none of the known ones is of? Not if nothing is known."""
    tasks = {problem.task for problem in known}
    return bool(known) and 2 * sum(problem.task not in tasks for problem in coming) > len(coming)


__all__ = ["Plan", "Problems", "is_new_task"]
