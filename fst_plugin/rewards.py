"""From which reward on an answer is solved: one definition for learning, metrics and probes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

_ROUNDING = 1e-9


@dataclass(frozen=True)
class RewardBar:
    """The reward at which an answer is solved and has nothing left to teach.

    configured: `fst.fast.perfect_score`; None: the bar is learnt, it is the best reward seen so far.
    seen: lowest and highest reward of a single answer so far, in the reward's own units; None before the first.

    A learnt bar needs two different rewards: while all are 0, or all are 1 of a possible 3, no answer is solved.
    """

    configured: float | None = None
    seen: tuple[float, float] | None = None

    @property
    def value(self) -> float | None:
        """None: not known yet."""
        if self.configured is not None:
            return self.configured
        return self.seen[1] if self.seen and self.seen[0] < self.seen[1] else None

    @property
    def exceeded(self) -> bool:
        """Has a reward been higher than the configured bar, which then is too low?"""
        return self.configured is not None and self.seen is not None and self.seen[1] > self.configured + _ROUNDING

    def solved(self, reward: float) -> bool:
        """Does an answer, or a mean over answers, with this reward reach the bar?"""
        return self.value is not None and reward >= self.value - _ROUNDING * max(1.0, abs(self.value))

    def after(self, rewards: Iterable[float]) -> RewardBar:
        """The bar once these (finite) rewards have been seen too."""
        found = [*rewards, *(self.seen or ())]
        return replace(self, seen=(min(found), max(found))) if found else self

    def news(self, before: RewardBar) -> str | None:
        """What a person should know that was not so `before`; None if nothing."""
        if self.seen is None or self.seen == before.seen:
            return None
        best = self.seen[1]
        if self.configured is not None:
            if not self.exceeded or before.exceeded:
                return None
            return (
                f"a reward of {best:g} is above fst.fast.perfect_score={self.configured:g}: lesser answers count as"
                " solved too; set it to the highest reward there is, or to null"
            )
        if self.value is None:
            return f"every reward so far is {best:g}: no answer counts as solved (fst.fast.perfect_score)"
        if self.value != before.value:
            return f"an answer counts as solved from a reward of {self.value:g} on, the best so far"
        return None


__all__ = ["RewardBar"]
