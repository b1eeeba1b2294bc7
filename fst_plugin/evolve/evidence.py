"""When a new prompt takes the lead: a paired comparison on problems that no reflection saw."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ..optimizer import Evidence
from ..prompts import Prompt

MIN_DIFFERENCES = 3
"""Held-out problems on which two prompts must differ for the comparison to count at all (ours)."""


def weigh(challenger: Prompt, incumbent: Prompt, pairs: Sequence[tuple[float, float]], confidence: float) -> Evidence:
    """Does the challenger take the lead?

    pairs: rewards on the same problem, the incumbent's and the challenger's.
    confidence: standard errors that it must be ahead by (`fst.fast.confidence`).
    """
    differences = [after - before for before, after in pairs]
    margin = statistics.fmean(differences) if differences else 0.0
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("inf")
    differ, why = sum(d != 0 for d in differences), ""
    if differ < MIN_DIFFERENCES:
        why = f"the two differ on {differ} problems, a lead needs {MIN_DIFFERENCES}"
    elif margin <= confidence * error + 1e-9:
        why = f"it is not ahead by more than {confidence:g} standard errors (fst.fast.confidence)"
    return Evidence(challenger.digest, incumbent.digest, len(pairs), margin, error, not why, why)


__all__ = ["MIN_DIFFERENCES", "weigh"]
