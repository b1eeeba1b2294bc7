"""Does a prompt carry a problem's own answer? Such a prompt scores on that problem and teaches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .rollouts import Problem

LONG_ANSWER = 4
"""Characters from which an answer is telling by itself; a shorter one ("42") must stand beside its question (ours)."""
QUOTE = 20
"""Characters of a problem's text that count as quoting it (ours)."""


def leaked(text: str, problems: Iterable[Problem]) -> str | None:
    """Id of the first private problem whose answer `text` carries; None where it carries none.

    Compared without case and with white space folded; an answer must stand between word boundaries.
    """
    folded = _fold(text)
    for problem in problems:
        if problem.private and problem.answer not in (None, "") and _carries(folded, problem):
            return problem.id
    return None


def _carries(folded: str, problem: Problem) -> bool:
    answer = _fold(str(problem.answer))
    if not answer or not re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", folded):
        return False
    return len(answer) >= LONG_ANSWER or _quotes(folded, problem)


def _quotes(folded: str, problem: Problem) -> bool:
    asked = _fold(" ".join(str(m.get("content", "")) for m in problem.messages if m.get("role") != "system"))
    size = min(QUOTE, len(asked))
    return size > 0 and any(asked[i : i + size] in folded for i in range(len(asked) - size + 1))


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
