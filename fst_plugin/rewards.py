"""From which reward on an answer is solved: one definition for learning, metrics and probes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
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


class StepRewards:
    """The rewards of one slow step, by the prompt's rank and by problem."""

    def __init__(self) -> None:
        self._by_rank: dict[int, list[float]] = defaultdict(list)
        self._by_problem: dict[str, list[float]] = defaultdict(list)

    def add(self, problem: str, rank: int | None, reward: float) -> None:
        """rank: of the rollout's prompt; None for one that was in flight when the cycle began."""
        self._by_problem[problem].append(reward)
        if rank is not None:
            self._by_rank[rank].append(reward)

    def figures(self, bar: RewardBar) -> dict[str, float]:
        """Mean reward by rank; and means over the groups: of the mean reward, the best reward, whether an answer is
        solved, and the share that is. What has no rewards is left out."""
        found = {f"reward_prompt_{rank}": _mean(rewards) for rank, rewards in sorted(self._by_rank.items())}
        groups = list(self._by_problem.values())
        if groups:
            solved = [[bar.solved(reward) for reward in group] for group in groups]
            found["group_mean"] = _mean([_mean(group) for group in groups])
            found["group_best"] = _mean([max(group) for group in groups])
            found["group_solved"] = _mean([any(group) for group in solved])
            found["group_solved_mean"] = _mean([_mean(group) for group in solved])
        return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


__all__ = ["RewardBar", "StepRewards"]
