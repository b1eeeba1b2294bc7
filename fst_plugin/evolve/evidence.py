"""When a new prompt takes the lead: a paired comparison on problems that no reflection saw."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..optimizer import Evidence
from ..prompts import Prompt

MIN_DIFFERENCES = 3
"""Held-out problems on which two prompts must differ for the comparison to count at all (ours)."""


@dataclass(frozen=True)
class Prior:
    """What the search knows of the difference of two prompts.

    margin: mean reward, the new one's less the old one's.
    error: its standard error.
    """

    margin: float
    error: float


def weigh(
    challenger: Prompt,
    incumbent: Prompt,
    pairs: Sequence[tuple[float, float]],
    confidence: float,
    prior: Prior | None = None,
) -> Evidence:
    """Does the challenger take the lead?

    pairs: rewards on the same problem, the incumbent's and the challenger's.
    confidence: standard errors that it must be ahead by (`fst.fast.confidence`).
    prior: of the search, pooled with the pairs by precision; None: the pairs alone decide.
    """
    differences = [after - before for before, after in pairs]
    margin = statistics.fmean(differences) if differences else 0.0
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("inf")
    differ, why = sum(d != 0 for d in differences), ""
    if differ < MIN_DIFFERENCES:
        why = f"the two differ on {differ} problems, a lead needs {MIN_DIFFERENCES}"
    elif margin <= 0 or _standard_errors(margin, error, prior) <= confidence + 1e-9:
        why = f"it is not ahead by more than {confidence:g} standard errors (fst.fast.confidence)"
    return Evidence(challenger.digest, incumbent.digest, len(pairs), margin, error, not why, why)


def _standard_errors(margin: float, error: float, prior: Prior | None) -> float:
    """How many the challenger is ahead by; infinite where all pairs differ alike."""
    known = [(margin, error)] if prior is None else [(margin, error), (prior.margin, prior.error)]
    if any(e == 0 for _, e in known):
        return float("inf")
    weights = [1 / e**2 for _, e in known]
    pooled = sum(m * w for (m, _), w in zip(known, weights, strict=True)) / sum(weights)
    return pooled * sum(weights) ** 0.5


__all__ = ["MIN_DIFFERENCES", "Prior", "weigh"]
