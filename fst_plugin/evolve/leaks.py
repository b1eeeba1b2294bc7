"""Does a prompt carry a problem's own answer? Such a prompt scores on that problem and teaches nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ..rollouts import Problem, content_text

LONG_ANSWER = 8
"""Characters from which an answer is identifying on its own; a shorter one ("42"), or one that several problems share
("False"), must stand next to its question (ours)."""
QUOTE = 20
"""Characters of a problem's text that count as quoting it, if no other problem has them too (ours)."""
NEAR = 120
"""Characters around an answer in which a quote belongs to it (ours)."""

_TAGS = re.compile(r"</?answer>")


def leaked(text: str, problems: Sequence[Problem]) -> str | None:
    """Id of the first private problem whose answer `text` carries; None if it carries none.

    Compared without case and with white space folded; an answer must stand between word boundaries.
    """
    folded = _fold(text)
    answers = {p.id: _fold(_TAGS.sub("", str(p.answer))) for p in problems if p.private and p.answer not in (None, "")}
    shared = Counter(answers.values())
    for problem in problems:
        answer = answers.get(problem.id)
        places = [m.start() for m in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", folded)] if answer else []
        if answer and places:
            telling = len(answer) >= LONG_ANSWER and shared[answer] == 1
            if telling or _quoted_near(folded, places, problem, problems):
                return problem.id
    return None


def _quoted_near(folded: str, places: Sequence[int], problem: Problem, problems: Sequence[Problem]) -> bool:
    """Does the text quote, near one of `places`, what this problem alone asks?"""
    asked = _asked(problem)
    size = min(QUOTE, len(asked))
    quotes = {asked[i : i + size] for i in range(len(asked) - size + 1)} if size else set()
    near = [folded[max(0, place - NEAR) : place + NEAR] for place in places]
    found = {quote for quote in quotes if any(quote in part for part in near)}
    others = [_asked(p) for p in problems if p.id != problem.id] if found else []
    return any(not any(quote in other for other in others) for quote in found)


def _asked(problem: Problem) -> str:
    return _fold(" ".join(content_text(m.get("content")) for m in problem.messages if m.get("role") != "system"))


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
