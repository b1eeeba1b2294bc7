"""The shipped prompt optimizer: GEPA, warm-started with the whole population, within a hard budget of rollouts.

One phase: the old population is scored on the anchors, in one batch; then, round after round, a reflection proposes
children from what their parents got wrong, each child is tested on a few problems beside its parent, and what passes is
scored on the anchors. The K prompts to carry on are chosen among old and new by the same scores.

Invariants: at most `budget` rollouts, whatever happens. The first prompt of the outcome is new only where it beats the
best old one on the problems that both were scored on; a phase cannot end worse by its own measure. A reflection that
fails ends the phase with what there is, at worst the old population; a rollout engine that fails raises RolloutsFailed.
The outcome is a function of (population, problems, seed) and of the answers of `evaluate` and the reflection.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from .ledger import Ledger, RolloutsFailed
from .optimizer import Evolution
from .prompts import Population, Prompt
from .proposals import MAX_TOKENS, Proposer, estimate_tokens
from .reflection.base import Reflection
from .rollouts import Evaluate, Problem
from .selection import select

MIN_ANCHORS = 16
"""Anchors below which the number of new candidates is cut rather than the anchors (ours)."""


class GEPAOptimizer:
    """A `PromptOptimizer` on gepa 0.1.4.

    reflection: proposes prompts. k: K, prompts to carry on (paper: 4 or 8). budget: most rollouts of a phase (paper:
    960, five passes over 192 anchors). minibatch: problems that a child is tested on (3, ours; GEPA's own default).
    proposals: children at a time (4, ours). records: most rollouts shown to one reflection (12, ours). new_candidates:
    the anchors are cut to a seeded part so that at least so many new prompts can be scored (8, ours): five passes over
    all of them with K = 4 carried prompts would leave room for one. perfect_score: a rollout that reaches it has
    nothing to teach (1.0, ours). max_tokens, count_tokens: cap of a prompt, in the policy's tokens (1024 and a token
    per four bytes, ours). special_tokens: of the policy's tokenizer; no new prompt holds one. max_reflection_failures:
    rounds in a row without an answer that end a phase (3, ours). log: where lines for people go.
    """

    def __init__(
        self,
        reflection: Reflection,
        *,
        k: int,
        budget: int,
        minibatch: int = 3,
        proposals: int = 4,
        records: int = 12,
        new_candidates: int = 8,
        perfect_score: float = 1.0,
        max_tokens: int = MAX_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        special_tokens: Sequence[str] = (),
        max_reflection_failures: int = 3,
        log: Callable[[str], None] | None = None,
    ):
        least = {"k": k, "minibatch": minibatch, "proposals": proposals, "records": records, "max_tokens": max_tokens}
        least |= {"new_candidates": new_candidates, "max_reflection_failures": max_reflection_failures}
        for name, value in least.items():
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.reflection = reflection
        self.k = k
        self.budget = budget
        self.minibatch = minibatch
        self.proposals = proposals
        self.records = records
        self.new_candidates = new_candidates
        self.perfect_score = perfect_score
        self.max_tokens = max_tokens
        self.count_tokens = count_tokens or estimate_tokens
        self.special_tokens = tuple(special_tokens)
        self.max_reflection_failures = max_reflection_failures
        self.log = log or (lambda line: None)

    def evolve(
        self, population: Population, problems: Sequence[Problem], evaluate: Evaluate, *, cycle: int, seed: int
    ) -> Evolution:
        """See `PromptOptimizer.evolve`. `problems` that repeat count once; they are both what prompts are scored on and
        what they learn from. Raises RolloutsFailed where the rollout engine does not deliver, ValueError without
        problems."""
        distinct = list({problem.id: problem for problem in problems}.values())
        if not distinct:
            raise ValueError("a fast phase needs at least one anchor problem")
        anchors = self._choose_anchors(distinct, len(population), seed)
        self.log(
            f"fast phase {cycle}: {len(population)} prompts, {len(anchors)} of {len(distinct)} anchors, at most"
            f" {self.budget} rollouts; reflection: {self.reflection.describe()}"
        )
        proposer = Proposer(self.reflection, cycle, seed, self.max_tokens, self.count_tokens, self.special_tokens)
        ledger = Ledger(evaluate, anchors, self.budget)
        if not anchors:
            least = len(population) + 2
            line = f"a budget of {self.budget} rollouts is too small: {len(population)} prompts need {least}"
            return self._outcome(population, population.prompts, ledger, proposer, 0, 0, [line])
        accepted, rejected = self._run(population, ledger, proposer, seed)
        return self._outcome(population, self._rank(population, ledger), ledger, proposer, accepted, rejected, [])

    def _run(self, population: Population, ledger: Ledger, proposer: Proposer, seed: int) -> tuple[int, int]:
        """Runs GEPA; its outcome is in the ledger. Returns how many children passed their test, and how many failed."""
        import gepa

        from .gepa_bridge import COMPONENT, Anchor, Bridge, Silent, Tasks, Trial, Unused

        bridge: Any = Bridge(
            ledger,
            proposer,
            population.prompts,
            records=self.records,
            perfect_score=self.perfect_score,
            max_failed_rounds=self.max_reflection_failures,
        )
        trials: list[Any] = [Trial(problem) for problem in ledger.anchors]
        anchors: list[Any] = [Anchor(problem) for problem in ledger.anchors]
        gepa.optimize(
            {COMPONENT: population.best.text},
            trainset=trials,
            valset=anchors,
            adapter=bridge,
            reflection_strategy=bridge,
            sampling_strategy=Tasks(bridge, minibatch=self.minibatch, proposals=self.proposals, seed=seed),
            candidate_selection_strategy=Unused(),
            batch_sampler=Unused(),
            acceptance_criterion=bridge,
            stop_callbacks=[bridge],
            skip_perfect_score=False,
            track_best_outputs=False,
            logger=Silent(),
            seed=seed,
        )
        return bridge.accepted, bridge.rejected

    def _choose_anchors(self, problems: list[Problem], carried: int, seed: int) -> list[Problem]:
        """As many problems as the budget bears with room for new candidates; all where it bears them; none where it
        cannot score the population and one child on a single problem."""
        size = 0
        for new in range(self.new_candidates, 0, -1):
            size = (self.budget - new * self.minibatch) // (carried + new)
            if size < self.minibatch:  # a minibatch is never larger than the anchors
                size = max(0, self.budget) // (carried + 2 * new)
            if size >= min(MIN_ANCHORS, len(problems)):
                break
        if size >= len(problems):
            return problems
        chosen = random.Random(f"anchors-{seed}").sample(range(len(problems)), size)
        return [problems[i] for i in sorted(chosen)]

    def _rank(self, population: Population, ledger: Ledger) -> tuple[Prompt, ...]:
        """The K to carry on, best first: a new one leads only where it beats the best old one on what both were scored
        on. A new prompt of which half the rollouts failed is not considered."""
        scored = ledger.scored()
        old = {prompt.text for prompt in population.prompts}
        fit = [p for p in scored if p.text in old or 2 * len(p.scores) >= len(ledger.anchors)]
        picked = select(fit, self.k)
        incumbent = select([p for p in fit if p.text in old], 1)[0]
        challengers = [p for p in picked if p.text not in old]
        lead = next((p for p in picked if p in challengers and _beats(p, incumbent)), incumbent)
        rest = [p for p in picked if p.text != lead.text]
        return (lead, *rest[: self.k - 1])

    def _outcome(
        self,
        old: Population,
        prompts: Sequence[Prompt],
        ledger: Ledger,
        proposer: Proposer,
        accepted: int,
        rejected: int,
        warnings: list[str],
    ) -> Evolution:
        count = proposer.count
        if count["failures"]:
            why = f"; the last error: {proposer.last_error}" if proposer.last_error else ""
            warnings.append(f"{count['failures']} of {count['calls']} reflections failed{why}")
        if proposer.failed_rounds >= self.max_reflection_failures:
            warnings.append(f"the phase ended early: {proposer.failed_rounds} rounds of reflection in a row failed")
        if ledger.failed:
            warnings.append(f"{ledger.failed} of {ledger.spent} rollouts failed and count for nothing")
        seed_text = old.best.text
        means = [prompt.mean_score for prompt in prompts]
        metrics = {
            "anchor_best": means[0],
            "anchor_mean": sum(means) / len(means),
            "anchor_seed": ledger.prompt(seed_text).mean_score if ledger.knows(seed_text) else old.best.mean_score,
            "anchors": len(ledger.anchors),
            "rollouts": ledger.spent,
            "rollouts_failed": ledger.failed,
            "candidates": len(ledger.scored()),
            "proposals_accepted": accepted,
            "proposals_rejected": rejected,
            "proposals_skipped": count["skipped"],
            "proposals_skipped_long": count["long"],
            "reflection_calls": count["calls"],
            "reflection_failures": count["failures"],
            "population_size": len(prompts),
        }
        return Evolution(Population(tuple(prompts)), {k: float(v) for k, v in metrics.items()}, tuple(warnings))


def _beats(new: Prompt, old: Prompt) -> bool:
    """Higher mean score on the problems that both were scored on."""
    shared = new.scores.keys() & old.scores.keys()
    return sum(new.scores[p].mean for p in shared) > sum(old.scores[p].mean for p in shared)


__all__ = ["GEPAOptimizer", "RolloutsFailed"]
