"""When a new prompt takes the lead: by what its search knows, and a comparison on problems that no reflection saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..optimizer import Evidence
from ..prompts import Prompt

MIN_DIFFERENCES = 3
"""Held-out problems on which two prompts must differ for the comparison to count at all (ours). Beside slow steps the
old side is a mean of several prompts, which nearly always differs."""
FAR_BEHIND = 3.0
"""Standard errors behind the best from which a new prompt says nothing of how much the others differ (ours)."""


@dataclass(frozen=True)
class Margin:
    """How far one prompt is ahead of another, or of several.

    mean: of its reward, less the other's.
    error: its standard error.
    """

    mean: float
    error: float

    def less(self, other: Margin) -> Margin:
        """How far it is ahead of the other, where both say how far they are ahead of the same; errors as of independent
        measurements."""
        return Margin(self.mean - other.mean, math.hypot(self.error, other.error))


NONE = Margin(0.0, 0.0)


def weigh(
    challenger: Prompt,
    incumbent: Prompt,
    pairs: Sequence[tuple[float, float]],
    confidence: float,
    prior: Margin | None = None,
    ahead: Margin = NONE,
) -> Evidence:
    """Does the challenger take the lead?

    pairs: rewards on the same problem, first the incumbent's, or what it is known to be `ahead` of, then the
        challenger's.
    confidence: standard errors that it must be ahead by (`fst.fast.confidence`).
    prior: what the search knows of the two, pooled with the pairs by precision; None: the pairs alone decide.
    """
    differences = [after - before for before, after in pairs]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else math.inf
    found = Margin(statistics.fmean(differences) if differences else 0.0, error).less(ahead)
    differ, why = sum(d != 0 for d in differences), ""
    if differ < MIN_DIFFERENCES:
        why = f"the two differ on {differ} problems, a lead needs {MIN_DIFFERENCES}"
    elif found.mean <= 0 or _standard_errors(found, prior) <= confidence + 1e-9:
        why = f"it is not ahead by more than {confidence:g} standard errors (fst.fast.confidence)"
    return Evidence(challenger.digest, incumbent.digest, len(pairs), found.mean, found.error, not why, why)


def shrunk(samples: Sequence[Sequence[float]], best: int) -> Margin | None:
    """The mean of the sample at place `best`, which was picked of all for its mean, and so for its luck as well.

    By empirical Bayes: true means are taken as normally distributed, with the variance that DerSimonian and Laird
    (1986) find in the samples; the picked one is pulled towards their common mean, all the way if they differ by no
    more than noise. Samples that are far behind, as of prompts that broke something, are left out: they would make the
    others look told apart. The error takes the variance as known, and is too small where that is near 0. None if
    nothing varies within a sample: then the error of a mean is unknown.
    """
    noise = _within(samples)
    if not noise:
        return None
    top = statistics.fmean(samples[best])
    far = [FAR_BEHIND * (noise / len(s) + noise / len(samples[best])) ** 0.5 for s in samples]
    near = [s for s, most in zip(samples, far, strict=True) if top - statistics.fmean(s) <= most]
    noise = _within(near) or noise
    means, errors = [statistics.fmean(s) for s in near], [noise / len(s) for s in near]
    weights = [1 / error for error in errors]
    common = _average(means, weights)
    excess = sum(w * (mean - common) ** 2 for w, mean in zip(weights, means, strict=True)) - (len(means) - 1)
    scale = sum(weights) - sum(w**2 for w in weights) / sum(weights)
    varies = max(0.0, excess / scale) if len(means) > 1 else 0.0
    weights = [1 / (error + varies) for error in errors]
    common, own = _average(means, weights), noise / len(samples[best])
    pull = own / (own + varies)
    return Margin(top + pull * (common - top), ((1 - pull) * own + pull**2 / sum(weights)) ** 0.5)


def _within(samples: Sequence[Sequence[float]]) -> float:
    """Variance within the samples; 0 if none has two values that differ."""
    free = sum(map(len, samples)) - len(samples)
    squares = sum((x - mean) ** 2 for s in samples for mean in [statistics.fmean(s)] for x in s)
    return squares / free if squares > 1e-12 else 0.0


def _average(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _standard_errors(found: Margin, prior: Margin | None) -> float:
    """How many the challenger is ahead by; infinite where one of the two is known without an error."""
    known = [found] if prior is None else [found, prior]
    if any(one.error == 0 for one in known):
        return math.inf
    weights = [1 / one.error**2 for one in known]
    return _average([one.mean for one in known], weights) * sum(weights) ** 0.5


__all__ = ["MIN_DIFFERENCES", "NONE", "Margin", "shrunk", "weigh"]
