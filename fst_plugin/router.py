"""Which prompt of a population suits a problem, as `fst export --router` leaves it: by the nearest anchors.

    router = Router.load("export.json")
    messages = router.place([{"role": "user", "content": question}])

A problem's text is compared with those of the anchors (TF-IDF of character n-grams, which any script has; cosine).
Every prompt's score is estimated from the anchors that are nearest, drawn towards its mean over all of them as far as
they are unlike the problem. The highest estimate is picked; of equal ones, the better prompt. Needs scikit-learn (the
extra `router`); reads plain JSON.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from .context import Placement, place
from .prompts import Prompt
from .rollouts import Message, Problem

NEIGHBOURS = 16
"""Anchors that a choice rests on (ours)."""
PRIOR = 1.0
"""Weight of a prompt's mean score next to the similarities of the nearest anchors (ours)."""
NGRAMS = (2, 4)
"""Lengths of the character n-grams that texts are compared by (ours)."""
EXTRA = "pip install 'fst-plugin[router]'"


@dataclass(frozen=True)
class Anchor:
    """A problem that the prompts were scored on. scores: of each prompt, in their order; None if it has none."""

    text: str
    scores: tuple[float | None, ...]


@dataclass(frozen=True)
class Router:
    """Picks one of the prompts for a problem.

    prompts: texts, best first.
    anchors: at least one, each with a score or None for every prompt.
    placement: where a prompt goes in a chat, see `context.place`.
    neighbours: anchors that a choice rests on.
    """

    prompts: tuple[str, ...]
    anchors: tuple[Anchor, ...]
    placement: Placement = "system"
    neighbours: int = NEIGHBOURS

    def __post_init__(self) -> None:
        if not self.anchors or any(len(anchor.scores) != len(self.prompts) for anchor in self.anchors):
            raise ValueError("a router needs anchors that have a score, or None, for each of its prompts")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Router:
        """From the file that `fst export --router` wrote. Raises ValueError, naming the file, if it holds no router."""
        try:
            found = _FILE.validate_json(Path(path).read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{path}: {place}: {first['msg']}: write it anew with fst export RUN --router") from None
        if found.router is None:
            raise ValueError(f"{path} holds no router: write it anew with fst export RUN --router")
        return cls(tuple(p.text for p in found.population), found.router.anchors, found.placement)

    def place(self, messages: Sequence[Message]) -> list[Message]:
        """The chat with the prompt that suits it in place. Raises ModuleNotFoundError without scikit-learn."""
        from .record.problems import text_of

        return place(messages, self.prompts[self.pick(text_of(Problem("", tuple(messages))))], self.placement)

    def pick(self, text: str) -> int:
        """Index of the prompt for a problem with this text. Raises ModuleNotFoundError without scikit-learn."""
        estimates = self.estimates(text)
        return max(range(len(estimates)), key=lambda i: (estimates[i], -i))

    def estimates(self, text: str) -> list[float]:
        """Estimated score of every prompt on a problem with this text, in the reward's own units. Raises
        ModuleNotFoundError without scikit-learn."""
        vectorizer, matrix = self._vectors
        near = (matrix @ vectorizer.transform([text]).T).toarray().ravel()
        order = sorted(range(len(near)), key=lambda i: -near[i])[: self.neighbours]
        nearest = [(float(near[i]), self.anchors[i]) for i in order]
        return [self._estimate(rank, nearest) for rank in range(len(self.prompts))]

    @cached_property
    def _means(self) -> list[float]:
        return [_mean([a.scores[rank] for a in self.anchors]) for rank in range(len(self.prompts))]

    @cached_property
    def _vectors(self) -> tuple[Any, Any]:
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"a router needs {error.name}: {EXTRA}", name=error.name) from None
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True)
        return vectorizer, vectorizer.fit_transform([anchor.text for anchor in self.anchors])

    def _estimate(self, rank: int, near: Sequence[tuple[float, Anchor]]) -> float:
        known = [(weight, score) for weight, a in near if (score := a.scores[rank]) is not None]
        total = PRIOR * self._means[rank] + sum(weight * score for weight, score in known)
        return total / (PRIOR + sum(weight for weight, _ in known))


def anchors_of(prompts: Sequence[Prompt], texts: Mapping[str, str]) -> tuple[list[Anchor], int]:
    """The anchors that a router over `prompts` rests on, and how many scored problems have no text.

    texts: problem id -> text; a blank one is none.
    """
    ids = sorted({problem for prompt in prompts for problem in prompt.scores})
    found = [
        Anchor(texts[id], tuple(p.scores[id].mean if id in p.scores else None for p in prompts))
        for id in ids
        if texts.get(id, "").strip()
    ]
    return found, len(ids) - len(found)


def _mean(scores: Sequence[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else float("-inf")


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Anchors:
    anchors: tuple[Anchor, ...]


@dataclass(frozen=True)
class _File:
    format: Literal[1]
    placement: Placement
    population: tuple[_Text, ...]
    router: _Anchors | None = None


_FILE = TypeAdapter(_File)

__all__ = ["EXTRA", "NEIGHBOURS", "Anchor", "Router", "anchors_of"]
