"""When a new prompt takes the lead: by what its search knows, and by a paired comparison on problems that no reflection
saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..optimizer import Evidence
from ..prompts import Prompt

MIN_DIFFERENCES = 3
"""Held-out problems on which two prompts must differ for the comparison to count at all (ours)."""


@dataclass(frozen=True)
class Margin:
    """How far one prompt is ahead of another, or of several.

    mean: of its reward, less the other's.
    error: its standard error.
    """

    mean: float
    error: float

    def less(self, other: Margin) -> Margin:
        """How far it is ahead, if the other was ahead by so much, of the same."""
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

    By empirical Bayes: true means vary around a common one, by as much as DerSimonian and Laird (1986) find in the
    samples'; the picked one is pulled towards that, all the way if the samples differ by no more than noise. The error
    takes that variance as known, and is somewhat small where it is about nought. None if nothing varies within a
    sample: that tells not how sure a mean is.
    """
    means, sizes = [statistics.fmean(sample) for sample in samples], list(map(len, samples))
    within = sum((x - mean) ** 2 for sample, mean in zip(samples, means, strict=True) for x in sample)
    if within < 1e-12:
        return None
    noise = [within / (sum(sizes) - len(sizes)) / size for size in sizes]
    weights = [1 / one for one in noise]
    common = _average(means, weights)
    excess = sum(w * (mean - common) ** 2 for w, mean in zip(weights, means, strict=True)) - (len(means) - 1)
    scale = sum(weights) - sum(w**2 for w in weights) / sum(weights)
    varies = max(0.0, excess / scale) if len(means) > 1 else 0.0
    weights = [1 / (one + varies) for one in noise]
    common = _average(means, weights)
    pull = noise[best] / (noise[best] + varies)
    error = (1 - pull) * noise[best] + pull**2 / sum(weights)
    return Margin(means[best] + pull * (common - means[best]), error**0.5)


def _average(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _standard_errors(found: Margin, prior: Margin | None) -> float:
    """How many the challenger is ahead by; infinite where all pairs differ alike."""
    known = [found] if prior is None else [found, prior]
    if any(one.error == 0 for one in known):
        return math.inf
    weights = [1 / one.error**2 for one in known]
    return _average([one.mean for one in known], weights) * sum(weights) ** 0.5


__all__ = ["MIN_DIFFERENCES", "NONE", "Margin", "shrunk", "weigh"]
