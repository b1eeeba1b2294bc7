"""Comparing two trajectories: who reaches what, after how much, and how far the weights have moved by then.

A curve is a dict, step -> value. An arm is a list of curves, one a seed. Nothing here needs more than Python.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Curve = Mapping[int, float]

ENUMERATED = 10_000
"""Up to this many resamples, a bootstrap takes all there are in place of random ones (ours)."""


@dataclass(frozen=True)
class Interval:
    """A figure with its interval. low, high: None if `n` (seeds, as a rule) is 1, which tells nothing of spread.

    Infinity stands for "never reached".
    """

    value: float
    low: float | None
    high: float | None
    n: int


def difference(a: Interval, b: Interval) -> Interval:
    """a - b of two independent figures, with the interval that their own make by recovered variances (the rule of
    Newcombe's hybrid score interval, 1998); None at an end that either lacks."""
    gap = a.value - b.value
    low = None if a.low is None or b.high is None else gap - math.hypot(a.value - a.low, b.high - b.value)
    high = None if a.high is None or b.low is None else gap + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(gap, low, high, min(a.n, b.n))


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float] = median,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a statistic over seeds (level and resamples: ours).

    With few seeds every resample is taken, so the outcome has no chance in it; three seeds can then say little more
    than their own range. Raises ValueError without values.
    """
    if not values:
        raise ValueError("a bootstrap needs at least one value")
    n = len(values)
    if n == 1:
        return Interval(statistic(values), None, None, 1)
    if n**n <= ENUMERATED:
        samples = itertools.product(values, repeat=n)
        found = sorted(statistic(sample) for sample in samples)
    else:
        rng = random.Random(seed)
        found = sorted(statistic(rng.choices(values, k=n)) for _ in range(resamples))
    edge = (1 - level) / 2
    last = len(found) - 1  # between two resamples the outer one counts; infinity cannot be interpolated anyway
    return Interval(statistic(values), found[math.floor(edge * last)], found[math.ceil((1 - edge) * last)], n)


def peak(curve: Curve) -> tuple[int, float]:
    """The first step at which a curve has its maximum, and the maximum (paper §evaluation: running max)."""
    if not curve:
        raise ValueError("a curve without points has no peak")
    best = max(curve.values())
    return min(step for step, value in curve.items() if value == best), best


def first_reaching(curve: Curve, value: float) -> int | None:
    """The first step at which a curve is at `value` or above; None if it never is. No interpolation: a step between
    two validations was not measured."""
    return min((step for step, v in curve.items() if v >= value), default=None)


@dataclass(frozen=True)
class ToPeak:
    """How soon an arm reaches the baseline's peak, with one seed.

    peak: the baseline's highest reward. baseline, arm: the first steps at it; arm None: never. spacing: the widest gap
    between the arm's validations, in steps: the resolution of `arm`. baseline_cost, arm_cost: total rollouts by then
    (None if not known). at_end: the baseline was highest at its last validation, so it may not have levelled off.
    """

    peak: float
    baseline: int
    arm: int | None
    spacing: int
    at_end: bool
    baseline_cost: int | None = None
    arm_cost: int | None = None

    @property
    def steps_ratio(self) -> float:
        """Arm's steps over the baseline's (below 1: the arm is faster); infinity if it never gets there; nan where
        the baseline was highest before its first step."""
        return _ratio(self.arm, self.baseline)

    @property
    def rollouts_ratio(self) -> float | None:
        """The same in total rollouts, slow and fast; None if an arm's rollouts are not known."""
        if self.arm is None:
            return math.inf
        if self.baseline_cost is None or self.arm_cost is None:
            return None
        return _ratio(self.arm_cost, self.baseline_cost)


def to_peak(baseline: Curve, arm: Curve, baseline_cost: Curve | None = None, arm_cost: Curve | None = None) -> ToPeak:
    """First step at which `arm` reaches the running maximum of `baseline` (paper §evaluation). Costs: step -> total
    rollouts. Raises ValueError if a curve is empty."""
    if not arm:
        raise ValueError("the arm was never validated")
    at, best = peak(baseline)
    step = first_reaching(arm, best)
    steps = sorted(arm)
    spacing = max((b - a for a, b in itertools.pairwise(steps)), default=0)
    costs = [_at(baseline_cost, at), None if step is None else _at(arm_cost, step)]
    return ToPeak(best, at, step, spacing, at == max(baseline), *costs)


def _at(cost: Curve | None, step: int) -> int | None:
    return int(cost[step]) if cost and step in cost else None


def _ratio(ours: float | None, theirs: float) -> float:
    if ours is None:
        return math.inf
    return ours / theirs if theirs else math.nan


@dataclass(frozen=True)
class MatchedKL:
    """KL of two arms at the same reward.

    rewards: the levels that were compared. baseline, arm: KL of each there, nats per token. ratio: median over the
    levels of arm over baseline. at_top: the ratio at the highest level that both reached. reason: why there is none.
    """

    rewards: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    arm: tuple[float, ...] = ()
    ratio: float | None = None
    at_top: float | None = None
    reason: str = ""


def kl_at(reward: float, rewards: Curve, kl: Curve) -> float | None:
    """KL at which a trajectory first reaches `reward`, linear between the validations around it; None if it never
    does. Steps that lack one of the two are left out."""
    points = [(rewards[s], kl[s]) for s in sorted(rewards.keys() & kl.keys())]
    previous: tuple[float, float] | None = None
    for here, moved in points:
        if here >= reward:
            if previous is None or here == previous[0]:
                return moved
            share = (reward - previous[0]) / (here - previous[0])
            return previous[1] + share * (moved - previous[1])
        previous = (here, moved)
    return None


def matched_kl(baseline: tuple[Curve, Curve], arm: tuple[Curve, Curve], levels: int = 20) -> MatchedKL:
    """KL at matched reward of two (reward, KL) trajectories (paper §evaluation).

    The levels (20, ours) are evenly spaced between what both exceed at their start and the highest that both reach. A
    level at which the baseline has not moved at all gives no ratio and is left out.
    """
    curves = []
    for rewards, kl in (baseline, arm):
        shared = {s: rewards[s] for s in rewards.keys() & kl.keys()}
        if not shared:
            return MatchedKL(reason="KL to the base was not logged beside the reward (actor.use_kl_loss=true logs it)")
        curves.append(shared)
    low = max(curve[min(curve)] for curve in curves)
    high = min(max(curve.values()) for curve in curves)
    if high <= low:
        return MatchedKL(reason=f"no reward that both rise to: one starts at {low:.3f}, one never exceeds {high:.3f}")
    grid = [low + (high - low) * (i + 1) / levels for i in range(levels)]
    theirs = [kl_at(r, *baseline) or 0.0 for r in grid]
    ours = [kl_at(r, *arm) or 0.0 for r in grid]
    ratios = [(a, b) for a, b in zip(ours, theirs, strict=True) if b > 0]
    if not ratios:
        return MatchedKL(tuple(grid), tuple(theirs), tuple(ours), reason="the baseline's weights have not moved there")
    top = ours[-1] / theirs[-1] if theirs[-1] > 0 else None
    return MatchedKL(tuple(grid), tuple(theirs), tuple(ours), median(a / b for a, b in ratios), top)


__all__ = [
    "Curve",
    "Interval",
    "MatchedKL",
    "ToPeak",
    "bootstrap",
    "difference",
    "first_reaching",
    "kl_at",
    "matched_kl",
    "peak",
    "to_peak",
]
