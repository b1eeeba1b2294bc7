"""The accounts of one fast phase: which rollouts were paid for, and what is known from them.

Invariants: `spent` never exceeds `budget`, by construction (a batch that would is refused before it runs). A rollout
that failed (`error`, or a score that is no finite number) is paid but never a score. A prompt is scored on the anchors
once in a phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from .prompts import Prompt, Score
from .rollouts import Cell, Evaluate, Problem, Rollout

MAX_DEAD_BATCHES = 3
"""Batches in a row of which every rollout failed that end a phase; the first batch ends it at once (ours)."""


class RolloutsFailed(RuntimeError):
    """The rollout engine does not deliver; carries its own first error."""


class Ledger:
    """Runs rollouts within a budget.

    evaluate: runs a batch of cells. anchors: the problems that prompts are scored on, distinct. budget: most rollouts.
    """

    def __init__(self, evaluate: Evaluate, anchors: Sequence[Problem], budget: int):
        self._evaluate = evaluate
        self.anchors = list(anchors)
        self.budget = budget
        self.spent = 0
        self.failed = 0
        self._rollouts: dict[str, tuple[Prompt, dict[str, Rollout]]] = {}
        self._first_error: str | None = None
        self._dead_batches = 0
        self._alive = False

    @property
    def left(self) -> int:
        return self.budget - self.spent

    def run(self, work: Sequence[tuple[Prompt, Sequence[Problem]]]) -> list[list[Rollout]]:
        """Runs every prompt on its problems, as one batch; per prompt its rollouts, in order.

        Raises RolloutsFailed where the engine fails throughout (see MAX_DEAD_BATCHES), ValueError where `evaluate`
        breaks its contract.
        """
        cells = [Cell(prompt, problem) for prompt, problems in work for problem in problems]
        if not cells:
            return [[] for _ in work]
        if len(cells) > self.left:
            raise RuntimeError(f"{len(cells)} rollouts asked for, {self.left} of the budget of {self.budget} are left")
        self.spent += len(cells)
        rollouts = self._evaluate(cells)
        if len(rollouts) != len(cells):
            raise ValueError(f"evaluate returned {len(rollouts)} rollouts for {len(cells)} cells: one each, in order")
        rollouts = [_checked(rollout) for rollout in rollouts]
        self._watch(rollouts)
        stream = iter(rollouts)
        return [[next(stream) for _ in problems] for _, problems in work]

    def score(self, prompts: Sequence[Prompt]) -> None:
        """Rolls every prompt out once on every anchor, all in one batch. Prompts scored already cost nothing."""
        new = [prompt for prompt in prompts if prompt.text not in self._rollouts]
        for prompt, rollouts in zip(new, self.run([(prompt, self.anchors) for prompt in new]), strict=True):
            by_problem = {p.id: r for p, r in zip(self.anchors, rollouts, strict=True)}
            self._rollouts[prompt.text] = (prompt, by_problem)

    def knows(self, text: str) -> bool:
        return text in self._rollouts

    def rollouts(self, text: str) -> dict[str, Rollout]:
        """Problem id -> the rollout that scored this prompt, failed ones left out."""
        return {k: r for k, r in self._rollouts[text][1].items() if r.error is None}

    def scored(self) -> list[Prompt]:
        """All prompts scored so far, oldest first, with their scores of this phase."""
        return [self.prompt(text) for text in self._rollouts]

    def prompt(self, text: str) -> Prompt:
        """This prompt with its scores of this phase."""
        scores = {k: Score(r.score) for k, r in self.rollouts(text).items()}
        return replace(self._rollouts[text][0], scores=scores)

    def _watch(self, rollouts: Sequence[Rollout]) -> None:
        errors = [r.error for r in rollouts if r.error is not None]
        self.failed += len(errors)
        if errors and self._first_error is None:
            self._first_error = errors[0]
        if len(errors) < len(rollouts):
            self._alive, self._dead_batches = True, 0
            return
        self._dead_batches += 1
        if not self._alive or self._dead_batches >= MAX_DEAD_BATCHES:
            count = len(rollouts)
            raise RolloutsFailed(f"all {count} rollouts of a batch failed; the first error: {self._first_error}")


def _checked(rollout: Rollout) -> Rollout:
    if rollout.error is None and not math.isfinite(rollout.score):
        return replace(rollout, error=f"the score is {rollout.score}, not a finite number")
    return rollout


__all__ = ["Ledger", "RolloutsFailed"]
