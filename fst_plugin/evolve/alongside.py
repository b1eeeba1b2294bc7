"""The shipped search beside the slow steps of a cycle (`fst.fast.when=hybrid`).

The first step shows how the carried prompts do. During each further one the children of the last step's failures are
rolled out on a part of its problems, and what did well before is tested again. In the last step the best new prompt
meets the old ones. The carried prompts' side of every comparison is the slow rollouts, paid for already: a reward
counts as the difference to theirs on the same problem in the same step, so that scores of different weights never mix.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from ..optimizer import Beside
from ..prompts import Population, Prompt
from ..rollouts import Evaluate, Problem
from .budget import EVIDENCE_SHARE
from .evidence import Margin
from .halving import HalvingPhase
from .phase import Settings
from .plan import Plan, Problems
from .search import Search

MOST_TIMES = 8
"""How often a challenger meets a problem in the last step, if the budget lasts (ours)."""


class AlongsidePhase(HalvingPhase):
    """A phase of which every batch goes out with one slow step."""

    def __init__(
        self,
        settings: Settings,
        population: Population,
        problems: Sequence[Problem],
        evaluate: Evaluate,
        cycle: int,
        seed: int,
        beside: Beside,
    ):
        super().__init__(settings, population, problems, evaluate, cycle, seed, ())
        self.beside = beside
        self.fresh_carried = 0
        self.proposer.private = list(problems)
        self.baseline: dict[str, float] = {}

    def divide(self, problems: Problems) -> Plan:
        """Anchors are the problems of the steps, as they come. The old prompt's side of the last comparison is free."""
        pairs = int(self.budget * EVIDENCE_SHARE)
        return Plan([], [], pairs, self.budget > pairs)

    def scored(self) -> str:
        return "scored by the slow steps beside"

    def search(self) -> str:
        self.found = Search(self.population.prompts, explore=self.fast.parents == "thompson", seed=self.seed)
        self._meet()
        self._take_step([])
        self.generations, self.generation, barren = self.beside.left() - 1, 0, 0
        ended: str | None = None
        while self.beside.left() > 1:
            ended = ended or self.stalled(self.generation, barren)
            parents = [] if ended else self._parents(self.generation)
            children = self._reproduce(parents, self.generation) if parents else []
            barren = 0 if children else barren + 1
            self._meet()
            self._take_step(self._tests(children, self.generation))
            self.generation += 1
            self.tell("searching")
        return ended or "the last step of the cycle begins"

    def _meet(self) -> None:
        """Waits for the coming step: its problems are what prompts are tested on."""
        self.plan = replace(self.plan, anchors=self.beside.problems())

    def _take_step(self, work: Sequence[tuple[Prompt, Sequence[Problem]]]) -> None:
        """One slow step, with these rollouts beside it, and what it says of the old prompts."""
        self.scoreboard.run(work, always=True)
        self._see_slow_rollouts()
        for contender in list(self.found.contenders.values()):  # slow rollouts may come later than those beside them
            gains = self._gains(contender.prompt)
            if gains != contender.gains:
                self.scoreboard.keep(contender.prompt)
                self.found.tell(contender.prompt, gains)

    def _see_slow_rollouts(self) -> None:
        texts = {prompt.digest: prompt.text for prompt in self.population.prompts}
        for trace in self.beside.traces():
            if trace.problem.id in self.baseline:
                continue
            known = {texts[digest]: rollout for digest, rollout in trace.rollouts.items() if digest in texts}
            if not known:
                continue
            self.baseline[trace.problem.id] = statistics.fmean(r.score for r in known.values())
            self.learning.append(trace.problem)
            self.scoreboard.learn(trace.problem, known)

    def _gains(self, prompt: Prompt) -> dict[str, float]:
        """Only where slow rollouts tell what the old prompts earned: a step may train on a part of its problems."""
        known = self.scoreboard.rollouts(prompt.text)
        return {p: r.score - self.baseline[p] for p, r in known.items() if p in self.baseline}

    def _room(self, rounds: int) -> int:
        left = self.scoreboard.left - self.plan.evidence
        return max(0, left) // max(1, self.generations - rounds)

    def _pairs(self, challenger: Prompt, incumbent: Prompt) -> list[tuple[float, float]]:
        self._meet()
        shown, met = self.found.contenders[challenger.text].shown, self.scoreboard.met(challenger.text)
        new = [problem for problem in self.plan.anchors if problem.id not in shown | met]
        some = new[: self.scoreboard.left]
        times = max(1, min(MOST_TIMES, self.scoreboard.left // max(1, len(some))))
        self.scoreboard.run([(challenger, some)], times=times, always=True)
        self._see_slow_rollouts()
        before, after = self.scoreboard.rollouts(incumbent.text), self.scoreboard.rollouts(challenger.text)
        return [(self.baseline[p.id], after[p.id].score) for p in new if p.id in before and p.id in after]

    def _ahead(self, incumbent: Prompt) -> Margin:
        """The pairs compare with the whole old population, which has all slow rollouts of a problem where the incumbent
        has a few, on problems that the incumbent has some of; how far it is ahead of it on such, all steps before
        tell."""
        return self.found.ahead(self.found.contenders[incumbent.text])


__all__ = ["AlongsidePhase"]
