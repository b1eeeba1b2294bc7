"""Which problems of a fast phase are for what."""

from __future__ import annotations

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


__all__ = ["Plan", "Problems"]
