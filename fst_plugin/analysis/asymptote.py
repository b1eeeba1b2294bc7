"""How high would the reward go? R - R0 = (A - R0) / (1 + (Cmid/C)^B), fitted to validations (paper §evaluation).

A is the asymptote, R0 the reward at the start, Cmid the compute at half of the rise, B its steepness; C is slow steps
or rollouts. A and R0 enter linearly, so only (Cmid, B) are searched. The interval of A is the profile's: every A that
the data do not reject against the best one (F test). Where that interval has no upper end, the curve has not levelled
off and there is no asymptote to speak of: the fit is refused, with the reason. A reward that cannot pass a ceiling, as
a share of problems solved cannot pass 1, gives the interval its upper end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import EXTRA
from .curves import Interval, difference

MIN_POINTS = 6
"""Fewest validations: four parameters and two degrees of freedom (ours)."""
MIN_STEPS = 5
"""Fewest distinct values of C (ours)."""
SIGNIFICANT = 0.01
"""The rise must beat a flat line at this level (ours)."""
FARTHEST = 10.0
"""An A further above the highest reward than this many times the observed rise counts as unbounded (ours)."""
STEEPEST = 20.0
"""Largest B searched (ours): a step function, for all that validations can tell."""


@dataclass(frozen=True)
class Fit:
    """An asymptote, or the reason why there is none.

    asymptote: A with its interval, in reward units; None if the fit is refused. start, midpoint, steepness: R0, Cmid
    (in C's unit), B. error: root mean square residual. reason: empty if there is a fit.
    """

    asymptote: Interval | None = None
    start: float | None = None
    midpoint: float | None = None
    steepness: float | None = None
    error: float | None = None
    points: int = 0
    reason: str = ""


def curve(c: float, asymptote: float, start: float, midpoint: float, steepness: float) -> float:
    """The model itself: reward after compute `c` >= 0."""
    return start + (asymptote - start) * _rise(c, math.log(midpoint), steepness)


def _rise(c: float, log_midpoint: float, steepness: float) -> float:
    if c <= 0:
        return 0.0
    exponent = steepness * (log_midpoint - math.log(c))
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


def fit(points: Sequence[tuple[float, float]], level: float = 0.95, ceiling: float | None = None) -> Fit:
    """Fits the curve to (C, reward) points of one arm; seeds may be pooled. ceiling: highest reward there can be.

    The interval treats points as independent: pooled seeds of very different heights make it too narrow. `n` of the
    asymptote is the number of points. Raises ModuleNotFoundError, with how to fix it, without scipy; ValueError if a
    point is not finite, C is negative, or a reward is above the ceiling.
    """
    try:
        import numpy as np
        from scipy import stats
    except ImportError as error:
        raise ModuleNotFoundError(f"the asymptote needs scipy ({error}): {EXTRA}") from error
    if not all(math.isfinite(c) and math.isfinite(r) and c >= 0 for c, r in points):
        raise ValueError("points of an asymptote fit are finite numbers with C >= 0")
    if ceiling is not None and any(r > ceiling for _, r in points):
        raise ValueError(f"ceiling={ceiling}: a reward of {max(r for _, r in points)} is above it; leave it out")
    n = len(points)
    distinct = {c for c, _ in points}
    if n < MIN_POINTS or len(distinct) < MIN_STEPS:
        return Fit(points=n, reason=f"{n} points at {len(distinct)} steps: needs {MIN_POINTS} at {MIN_STEPS} or more")
    compute, reward = (np.array(v, dtype=float) for v in zip(*points, strict=True))
    if np.ptp(reward) == 0:
        return Fit(points=n, reason="the reward is the same everywhere: nothing rises")
    problem = _Problem(compute, reward)
    best = problem.best()
    if ceiling is not None and best.asymptote > ceiling:
        best = problem.best(ceiling, near=best)
    left = n - 4
    flat = float(((reward - reward.mean()) ** 2).sum())
    floor = 1e-12 * flat  # below it, residuals are rounding
    sse = max(best.sse, floor)
    if stats.f.sf((flat - sse) / 3 / (sse / left), 3, left) > SIGNIFICANT:
        return Fit(points=n, reason="the rise cannot be told from noise")
    if best.asymptote <= best.start:
        return Fit(points=n, reason="the reward falls: a curve that rises to an asymptote does not describe it")
    limit = sse * (1 + stats.f.ppf(level, 1, left) / left)
    span = float(np.ptp(reward))
    far = float(reward.max()) + FARTHEST * span if ceiling is None else ceiling
    high = problem.end(best, far, limit) if best.asymptote < far else None
    high = ceiling if high is None else high
    if high is None:
        return Fit(points=n, reason="not levelled off: the validations bear any asymptote above those reached")
    low = problem.end(best, float(reward.min()) - span, limit)
    found = Interval(best.asymptote, low, high, n)
    rms = math.sqrt(best.sse / n)
    return Fit(found, best.start, math.exp(best.log_midpoint), best.steepness, rms, n)


@dataclass(frozen=True)
class _Solution:
    sse: float
    asymptote: float
    start: float
    log_midpoint: float
    steepness: float


class _Problem:
    """Least squares with the linear parameters projected out."""

    def __init__(self, compute: Any, reward: Any):
        import numpy as np

        self.np, self.compute, self.reward = np, compute, reward
        positive = compute[compute > 0]
        self.log_c = np.log(np.where(compute > 0, compute, 1.0))
        self.bounds = (
            [math.log(positive.min()) - 3, math.log(0.2)],
            [math.log(positive.max()) + 5, math.log(STEEPEST)],
        )
        middles = np.linspace(math.log(positive.min()) - 0.5, math.log(positive.max()) + 1, 6)
        self.starts = [(m, math.log(b)) for m in middles for b in (0.7, 2.0, 6.0)]

    def rise(self, shape: Any) -> Any:
        np = self.np
        exponent = np.clip(math.exp(shape[1]) * (shape[0] - self.log_c), -700, 700)
        return np.where(self.compute > 0, 1 / (1 + np.exp(exponent)), 0.0)

    def linear(self, shape: Any, asymptote: float | None) -> tuple[float, float]:
        """Best A and R0 for a shape; R0 alone where A is given."""
        np = self.np
        h = self.rise(shape)
        if asymptote is not None:
            rest, weight = self.reward - asymptote * h, 1 - h
            norm = float(weight @ weight)
            return asymptote, float(weight @ rest) / norm if norm > 0 else 0.0
        solution = np.linalg.lstsq(np.stack([h, 1 - h], axis=1), self.reward, rcond=None)[0]
        return float(solution[0]), float(solution[1])

    def residuals(self, shape: Any, asymptote: float | None) -> Any:
        a, start = self.linear(shape, asymptote)
        h = self.rise(shape)
        return self.reward - start * (1 - h) - a * h

    def best(self, asymptote: float | None = None, near: _Solution | None = None) -> _Solution:
        from scipy.optimize import least_squares

        ranked = sorted(self.starts, key=lambda s: float((self.residuals(s, asymptote) ** 2).sum()))[:3]
        if near is not None:
            ranked = [(near.log_midpoint, math.log(near.steepness)), *ranked[:1]]
        runs = [least_squares(self.residuals, self._inside(s), bounds=self.bounds, args=(asymptote,)) for s in ranked]
        shape = min(runs, key=lambda run: run.cost).x
        sse = float((self.residuals(shape, asymptote) ** 2).sum())
        a, start = self.linear(shape, asymptote)
        return _Solution(sse, a, start, float(shape[0]), math.exp(float(shape[1])))

    def _inside(self, shape: Any) -> list[float]:
        low, high = self.bounds
        return [min(max(v, a + 1e-6), b - 1e-6) for v, a, b in zip(shape, low, high, strict=True)]

    def end(self, best: _Solution, outside: float, limit: float) -> float | None:
        """Where the profile crosses `limit` between the best A and a far one; None if the data bear that too."""
        from scipy.optimize import brentq

        def above(a: float) -> float:
            return self.best(a, near=best).sse - limit

        if above(outside) <= 0:
            return None
        width = abs(outside - best.asymptote)
        return float(brentq(above, best.asymptote, outside, xtol=1e-5 * width))


def gain(ours: Fit, theirs: Fit) -> Interval | None:
    """A of one arm less A of another, with the interval that the two's own make (curves.difference); None if either
    was refused."""
    a, b = ours.asymptote, theirs.asymptote
    return None if a is None or b is None else difference(a, b)


__all__ = ["Fit", "curve", "fit", "gain"]
