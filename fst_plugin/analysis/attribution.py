"""Whose doing is the gain: the weights', or the prompt's? The paper's 2x2 (paper §evaluation), with intervals.

Cells are {base, trained} weights x {seed, evolved} prompt, each a count of passed problems (pass@1). Intervals assume
that trials are independent: count each problem once, not each of its samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from .curves import Interval, difference

CELLS = ("base/seed", "base/evolved", "trained/seed", "trained/evolved")
"""Weights / prompt: neither, fast only, slow only, both."""


def wilson(passed: int, of: int, level: float = 0.95) -> Interval:
    """Wilson score interval of `passed` out of `of` (level: ours). Raises ValueError for impossible counts."""
    if not (isinstance(passed, int) and isinstance(of, int)) or of < 1 or not 0 <= passed <= of:
        raise ValueError(f"{passed} passed of {of}: give whole numbers with 0 <= passed <= of, and of >= 1")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = passed / of
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    low = 0.0 if passed == 0 else max(0.0, centre - half)
    return Interval(share, low, 1.0 if passed == of else min(1.0, centre + half), of)


@dataclass(frozen=True)
class Attribution:
    """The four cells, and what each part adds to neither. interaction: both, less what the two add alone."""

    cells: Mapping[str, Interval]
    counts: Mapping[str, tuple[int, int]]
    fast: Interval
    slow: Interval
    both: Interval
    interaction: float


def attribution(counts: Mapping[str, Any]) -> Attribution:
    """The 2x2 from `{cell: {"passed": int, "of": int}}` for every cell of CELLS.

    Raises ValueError, naming the cell, if one is missing, unknown, or impossible.
    """
    missing, unknown = [c for c in CELLS if c not in counts], sorted(set(counts) - set(CELLS))
    if missing or unknown:
        raise ValueError(f"cells of the 2x2 are {', '.join(CELLS)}; missing: {missing}, unknown: {unknown}")
    pairs, cells = {}, {}
    for cell in CELLS:
        try:
            pairs[cell] = (counts[cell]["passed"], counts[cell]["of"])
            cells[cell] = wilson(*pairs[cell])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'cell {cell}: give {{"passed": ..., "of": ...}} ({error})') from error
    base, fast, slow, both = (cells[c] for c in CELLS)
    return Attribution(
        cells,
        pairs,
        fast=difference(fast, base),
        slow=difference(slow, base),
        both=difference(both, base),
        interaction=both.value - fast.value - slow.value + base.value,
    )


__all__ = ["CELLS", "Attribution", "attribution", "wilson"]
