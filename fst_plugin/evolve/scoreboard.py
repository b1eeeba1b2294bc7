"""The accounts of one fast phase: which rollouts were paid for, and what is known from them.

Invariants: `spent` never exceeds `budget`, by construction (a batch that would is refused before it runs). A rollout
that failed (`error`, or a score that is not a finite number) is paid but never a score. A prompt meets a problem once
in a phase: what is known of it, from an earlier test or from the slow phase, is not paid for again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..prompts import Prompt, Score
from ..rewards import RewardBar
from ..rollouts import Cell, Evaluate, Problem, Rollout, merged
from ..secrets import described

MAX_DEAD_BATCHES = 3
"""Batches in a row of which every rollout failed that end a phase; the first batch ends it at once (ours)."""


class RolloutsFailed(RuntimeError):
    """The rollout engine does not deliver; carries its own first error."""


class Scoreboard:
    """Runs rollouts within a budget.

    evaluate: runs a batch of cells.
    anchors: the problems that prompts are scored on, distinct.
    budget: most rollouts.
    free: prompt text -> problem id -> rollout, what is known without paying.
    bar: what the run knows of its rewards so far; it rises with those that come in.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        anchors: Sequence[Problem],
        budget: int,
        free: Mapping[str, Mapping[str, Rollout]] | None = None,
        bar: RewardBar = RewardBar(),  # noqa: B008  frozen
    ):
        self._evaluate = evaluate
        self.anchors = list(anchors)
        self.budget = budget
        self.spent = 0
        self.failed = 0
        self.tokens: int | None = 0
        self._known: dict[str, dict[str, Rollout]] = {text: dict(found) for text, found in (free or {}).items()}
        self.bar = bar.after(r.score for known in self._known.values() for r in known.values() if r.error is None)
        self._scored: dict[str, Prompt] = {}
        self._owed: list[Cell] = []
        self._first_error: str | None = None
        self._dead_batches = 0
        self._alive = False

    @property
    def left(self) -> int:
        return self.budget - self.spent - len(self._owed)

    def learn(self, problem: Problem, free: Mapping[str, Rollout]) -> None:
        """Takes in what somebody else has paid for: prompt text -> rollout on this problem, which becomes an anchor."""
        self.anchors.append(problem)
        for text, rollout in free.items():
            self._known.setdefault(text, {}).setdefault(problem.id, rollout)
        self.bar = self.bar.after(rollout.score for rollout in free.values() if rollout.error is None)

    def run(
        self, work: Sequence[tuple[Prompt, Sequence[Problem]]] = (), *, times: int = 1, always: bool = False
    ) -> None:
        """Rolls every prompt out on those of its problems that it has not met, and whatever is owed, all as one batch.

        times: how often each; several rollouts count as one, with their mean.
        always: also a batch without cells.

        Raises RolloutsFailed if the engine fails throughout (see MAX_DEAD_BATCHES), ValueError if `evaluate`
        breaks its contract.
        """
        cells = [cell for cell in self._missing(work) for _ in range(times)]
        if len(cells) > self.left:
            raise RuntimeError(f"{len(cells)} rollouts asked for, {self.left} of the budget of {self.budget} are left")
        cells, self._owed = [*self._owed, *cells], []
        if not cells and not always:
            return
        self.spent += len(cells)
        rollouts = self._evaluate(cells)
        if len(rollouts) != len(cells):
            raise ValueError(f"evaluate returned {len(rollouts)} rollouts for {len(cells)} cells: one each, in order")
        rollouts = [_checked(rollout) for rollout in rollouts]
        self._count_tokens(rollouts)
        self.bar = self.bar.after(rollout.score for rollout in rollouts if rollout.error is None)
        found: dict[tuple[str, str], list[Rollout]] = {}
        for cell, rollout in zip(cells, rollouts, strict=True):
            found.setdefault((cell.prompt.text, cell.problem.id), []).append(rollout)
        for (text, problem), some in found.items():
            self._known.setdefault(text, {})[problem] = merged(some)
        self._watch(rollouts)

    def score(self, prompts: Sequence[Prompt], *, later: bool = False) -> None:
        """Every prompt on every anchor, what is missing in one batch; later: with the next batch, so that batches are
        few and large."""
        work = [(prompt, self.anchors) for prompt in prompts]
        if later:
            self._owed += self._missing(work)
        else:
            self.run(work)
        for prompt in prompts:
            self.keep(prompt)

    def _missing(self, work: Sequence[tuple[Prompt, Sequence[Problem]]]) -> list[Cell]:
        owed = {(cell.prompt.text, cell.problem.id) for cell in self._owed}
        return [
            Cell(prompt, problem)
            for prompt, problems in work
            for problem in problems
            if problem.id not in self._known.get(prompt.text, {}) and (prompt.text, problem.id) not in owed
        ]

    def keep(self, prompt: Prompt) -> None:
        """Enters a prompt into the accounts with whatever it has been rolled out on."""
        self._scored.setdefault(prompt.text, prompt)

    def met(self, text: str) -> frozenset[str]:
        """Ids of the problems that this prompt has been rolled out on, failed rollouts included."""
        return frozenset(self._known.get(text, ()))

    def is_scored(self, text: str) -> bool:
        return text in self._scored

    def rollouts(self, text: str) -> dict[str, Rollout]:
        """Problem id -> rollout of this prompt, anchors or not, failed ones left out."""
        return {k: r for k, r in self._known.get(text, {}).items() if r.error is None}

    def scored(self) -> list[Prompt]:
        """All prompts scored so far, oldest first, with their scores on the anchors, as far as they are in."""
        return [self.prompt(text) for text in self._scored]

    def best(self) -> float:
        """Highest mean score of a prompt that has met at least half of the anchors."""
        return max((p.mean_score for p in self.scored() if 2 * len(p.scores) >= len(self.anchors)), default=0.0)

    def prompt(self, text: str) -> Prompt:
        """This scored prompt with its scores on the anchors."""
        known = self.rollouts(text)
        scores = {a.id: Score(known[a.id].score, known[a.id].of) for a in self.anchors if a.id in known}
        return replace(self._scored[text], scores=scores)

    def _count_tokens(self, rollouts: Sequence[Rollout]) -> None:
        """A sum that leaves something out would read as a saving: it is None once an answer's tokens are not known."""
        spent = [rollout.tokens for rollout in rollouts if rollout.error is None]
        if self.tokens is not None and None not in spent:
            self.tokens += sum(tokens or 0 for tokens in spent)
        else:
            self.tokens = None

    def _watch(self, rollouts: Sequence[Rollout]) -> None:
        errors = [r.error for r in rollouts if r.error is not None]
        self.failed += len(errors)
        if errors and self._first_error is None:
            self._first_error = described(errors[0])
        if len(errors) < len(rollouts):
            self._alive, self._dead_batches = True, 0
        if len(errors) < len(rollouts) or not rollouts:
            return
        self._dead_batches += 1
        if not self._alive or self._dead_batches >= MAX_DEAD_BATCHES:
            count = len(rollouts)
            raise RolloutsFailed(f"all {count} rollouts of a batch failed; the first error: {self._first_error}")


def _checked(rollout: Rollout) -> Rollout:
    if rollout.error is None and not math.isfinite(rollout.score):
        return replace(rollout, error=f"the score is {rollout.score}, not a finite number")
    return rollout


__all__ = ["Scoreboard", "RolloutsFailed"]
