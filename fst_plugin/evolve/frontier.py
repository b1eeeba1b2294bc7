"""The search of GEPA (arXiv 2507.19457), as the paper has it (`fst.fast.parents=frontier`): parents from the
per-problem frontier, and every child that passes its test is scored on all anchors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ..prompts import Prompt
from ..rollouts import Problem
from .budget import BudgetSplit, split_budget
from .evidence import Margin
from .phase import Phase
from .plan import Plan, Problems
from .selection import select


class FrontierPhase(Phase):
    """A phase on gepa 0.1.4."""

    confidence = 1.0  # ours
    split = BudgetSplit(0, 0, 0, 0)

    def divide(self, problems: Problems) -> Plan:
        split = split_budget(
            self.budget,
            self.fast,
            self.fast.width or self.settings.policy.width,
            fresh_carried=self.fresh_carried,
            anchor_pool=len(problems.pool),
            held_out_pool=len(problems.held_out),
            shared=problems.shared,
        )
        self.split = split or self.split
        anchors = _sample(problems.pool, self.split.anchors, f"anchors-{self.seed}")
        ids = {a.id for a in anchors}
        held_out = [p for p in problems.held_out if p.id not in ids]
        random.Random(f"evidence-{self.seed}").shuffle(held_out)
        if problems.shared:
            held_out = held_out[: max(self.split.evidence, len(held_out) // 2)]
        return Plan(anchors, held_out, self.split.evidence, split is not None)

    def search(self) -> str:
        import gepa

        if self.archived:
            why = "fst.fast.parents=frontier takes none"
            self.settings.log(f"{len(self.archived)} archived prompts are not tried: {why}")
        from .gepa_adapter import (
            COMPONENT,
            AnchorExample,
            GEPAAdapter,
            NeverAsked,
            NullLogger,
            ParentSampling,
            TestExample,
        )

        adapter: Any = GEPAAdapter(self)
        trials: list[Any] = [TestExample(problem) for problem in self.scoreboard.anchors]
        anchors: list[Any] = [AnchorExample(problem) for problem in self.scoreboard.anchors]
        gepa.optimize(
            {COMPONENT: self.population.best.text},
            trainset=trials,
            valset=anchors,
            adapter=adapter,
            reflection_strategy=adapter,
            sampling_strategy=ParentSampling(adapter, self.split),
            candidate_selection_strategy=NeverAsked(),
            batch_sampler=NeverAsked(),
            acceptance_criterion=adapter,
            stop_callbacks=[adapter],
            skip_perfect_score=False,
            track_best_outputs=False,
            logger=NullLogger(),
            seed=self.seed,
        )
        self.scoreboard.run()
        return adapter.ended()

    def contest(self) -> tuple[list[Prompt], Prompt, Prompt | None, Margin | None]:
        """A new prompt of which half the rollouts failed is not considered."""
        old = {prompt.text for prompt in self.population.prompts}
        anchors = len(self.scoreboard.anchors)
        fit = [p for p in self.scoreboard.scored() if p.text in old or 2 * len(p.scores) >= anchors]
        picked = select(fit, self.settings.config.population)
        incumbent = select([p for p in fit if p.text in old], 1)[0]
        ahead = [p for p in picked if p.text not in old and _beats(p, incumbent)]
        return list(picked), incumbent, ahead[0] if ahead else None, None

    def mean(self, prompt: Prompt) -> float:
        known = self.scoreboard.is_scored(prompt.text)
        return (self.scoreboard.prompt(prompt.text) if known else prompt).mean_score

    def best(self) -> float:
        """Of the prompts that have met at least half of the anchors."""
        return self.scoreboard.best()


def _sample(problems: Sequence[Problem], size: int, seed: str) -> list[Problem]:
    """A seeded part of the problems, in their order; all of them if there are no more."""
    if size >= len(problems):
        return list(problems)
    return [problems[i] for i in sorted(random.Random(seed).sample(range(len(problems)), size))]


def _beats(new: Prompt, old: Prompt) -> bool:
    """Higher mean score on the problems that both were scored on."""
    shared = new.scores.keys() & old.scores.keys()
    return sum(new.scores[p].mean for p in shared) > sum(old.scores[p].mean for p in shared)


__all__ = ["FrontierPhase"]
