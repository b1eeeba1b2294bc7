"""Does a prompt carry a problem's own answer? Such a prompt scores on that problem and teaches nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .rollouts import Problem

LONG_ANSWER = 8
"""Characters from which an answer is telling by itself; a shorter one ("42"), or one that several problems share
("False"), must stand beside its question (ours)."""
QUOTE = 20
"""Characters of a problem's text that count as quoting it (ours)."""

_TAGS = re.compile(r"</?answer>")


def leaked(text: str, problems: Sequence[Problem]) -> str | None:
    """Id of the first private problem whose answer `text` carries; None where it carries none.

    Compared without case and with white space folded; an answer must stand between word boundaries.
    """
    folded = _fold(text)
    answers = {p.id: _fold(_TAGS.sub("", str(p.answer))) for p in problems if p.private and p.answer not in (None, "")}
    shared = Counter(answers.values())
    for problem in problems:
        answer = answers.get(problem.id)
        if answer and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", folded):
            telling = len(answer) >= LONG_ANSWER and shared[answer] == 1
            if telling or _quotes(folded, problem):
                return problem.id
    return None


def _quotes(folded: str, problem: Problem) -> bool:
    asked = _fold(" ".join(str(m.get("content", "")) for m in problem.messages if m.get("role") != "system"))
    size = min(QUOTE, len(asked))
    return size > 0 and any(asked[i : i + size] in folded for i in range(len(asked) - size + 1))


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
