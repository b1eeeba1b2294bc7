"""Does a prompt carry a problem's own answer? Such a prompt scores on that problem and teaches nothing."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
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

    Compared without case and with white space folded; an answer must stand between word boundaries. Takes time linear
    in the text and in the problems' texts, but for the search for each distinct answer.
    """
    folded = _fold(text)
    answers = {p.id: _fold(_TAGS.sub("", str(p.answer))) for p in problems if p.private and p.answer not in (None, "")}
    shared = Counter(answers.values())
    places = {answer: _places(folded, answer) for answer in shared if answer}
    suspects = [p for p in problems if places.get(answers.get(p.id, ""))]
    quotes: _Quotes | None = None
    for problem in suspects:
        answer = answers[problem.id]
        if len(answer) >= LONG_ANSWER and shared[answer] == 1:
            return problem.id
        quotes = quotes or _Quotes(folded, problems)
        if quotes.near(problem, places[answer]):
            return problem.id
    return None


def _places(folded: str, answer: str) -> list[int]:
    """Where the answer stands between word boundaries, ascending."""
    found, start = [], folded.find(answer)
    while start >= 0:
        end = start + len(answer)
        if not (_in_word(folded[start - 1 : start]) or _in_word(folded[end : end + 1])):
            found.append(start)
        start = folded.find(answer, start + 1)
    return found


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_"


class _Quotes:
    """What a text quotes of the problems: pieces of `QUOTE` characters, or a shorter problem whole."""

    def __init__(self, folded: str, problems: Sequence[Problem]):
        self._folded = folded
        self._asked = {problem.id: _asked(problem) for problem in problems}
        self._at: dict[str, list[int]] = defaultdict(list)
        for i in range(len(folded) - QUOTE + 1):
            self._at[folded[i : i + QUOTE]].append(i)
        self._quoted: dict[str, set[str]] = {name: self._pieces(asked) for name, asked in self._asked.items()}
        self._owners = Counter(piece for pieces in self._quoted.values() for piece in pieces)

    def _pieces(self, asked: str) -> set[str]:
        """The pieces of one problem that the text has."""
        if len(asked) < QUOTE:
            return {asked} if asked and asked in self._folded else set()
        return {piece for i in range(len(asked) - QUOTE + 1) if (piece := asked[i : i + QUOTE]) in self._at}

    def near(self, problem: Problem, places: Sequence[int]) -> bool:
        """Does the text quote, within `NEAR` of one of `places`, what this problem alone asks?"""
        return any(
            self._is_near(piece, places) and self._is_alone(piece, problem.id) for piece in self._quoted[problem.id]
        )

    def _is_near(self, piece: str, places: Sequence[int]) -> bool:
        starts = self._at.get(piece) or [m.start() for m in re.finditer(re.escape(piece), self._folded)]
        for start in starts:
            first = bisect_left(places, start + len(piece) - NEAR)
            if first < len(places) and places[first] <= start + NEAR:
                return True
        return False

    def _is_alone(self, piece: str, name: str) -> bool:
        if len(piece) == QUOTE:
            return self._owners[piece] == 1
        return not any(piece in asked for other, asked in self._asked.items() if other != name)


def _asked(problem: Problem) -> str:
    return _fold(" ".join(content_text(m.get("content")) for m in problem.messages if m.get("role") != "system"))


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
