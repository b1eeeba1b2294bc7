"""The shipped prompt optimizer: GEPA, warm-started with the whole population, within a hard budget of rollouts.

One phase: the carried prompts' scores come from the slow phase, or are made in one batch; then, round after round, a
reflection proposes children from what their parents got wrong, each child is tested next to its parent, and the better
half is scored on all anchors. The K prompts to carry on are chosen among old and new by the same scores. At the end the
best new prompt meets the best old one on problems that no reflection saw; it takes the lead only if it wins there.

Invariants: at most `budget` rollouts, whatever happens. The first prompt of the outcome is new only with evidence. A
reflection that begins to fail ends the phase with what there is; one that never answers raises ReflectionFailed, a
rollout engine that fails RolloutsFailed. The outcome is a function of (population, problems, traces, seed) and of the
answers of `evaluate` and the reflection.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..config import DEFAULTS, FSTConfig
from ..optimizer import Candidate, Evidence, Evolution
from ..policy import Policy
from ..prompts import Population, Prompt
from ..reflection.base import Reflection, ReflectionFailed
from ..rewards import RewardBar
from ..rollouts import Evaluate, Problem, Rollout, Trace
from .budget import MIN_ANCHORS, BudgetSplit, split_budget
from .evidence import weigh
from .progress import Status
from .proposer import Proposer
from .scoreboard import RolloutsFailed, Scoreboard
from .selection import select

_USELESS = {
    "unusable": "were answered without a prompt",
    "cut": "broke off before their prompt ended",
    "large": "were answered with too much to be read",
}


class GEPAOptimizer:
    """A `PromptOptimizer` on gepa 0.1.4.

    reflection: proposes prompts.
    config: K is `population`; `fast` says how much a phase spends, and on what; see `FSTConfig` for every key.
    policy: whose prompts are evolved: their cap in its tokens, its control tokens, the width of its engine.
    bar: what the run knows of its rewards so far; None: nothing but `config.fast.perfect_score`.
    log: where lines for people go.
    status: receives where the phase stands, after every round.
    """

    def __init__(
        self,
        reflection: Reflection,
        config: FSTConfig = DEFAULTS,
        policy: Policy = Policy(),  # noqa: B008  frozen
        *,
        bar: RewardBar | None = None,
        log: Callable[[str], None] = lambda line: None,
        status: Callable[[Status], None] = lambda status: None,
    ):
        self.reflection = reflection
        self.config = config
        self.policy = policy
        self.bar = bar or RewardBar(config.fast.perfect_score)
        self.log = log
        self.status = status

    def evolve(
        self,
        population: Population,
        problems: Sequence[Problem],
        evaluate: Evaluate,
        *,
        cycle: int,
        seed: int,
        traces: Sequence[Trace] = (),
    ) -> Evolution:
        """See `PromptOptimizer.evolve`. `problems` that repeat count once. If enough traces (16, or as many as
        `problems`; ours) know every carried prompt, their problems are the anchors, and `problems` are only held out;
        else `problems` are both. Raises RolloutsFailed if the rollout engine does not deliver, ReflectionFailed if no
        reflection gets an answer, ValueError without problems."""
        phase = _Phase(self, population, problems, evaluate, cycle, seed, traces)
        return phase.run()


class _Phase:
    """One run of `GEPAOptimizer.evolve`."""

    def __init__(
        self,
        settings: GEPAOptimizer,
        population: Population,
        problems: Sequence[Problem],
        evaluate: Evaluate,
        cycle: int,
        seed: int,
        traces: Sequence[Trace],
    ):
        distinct = {problem.id: problem for problem in problems}
        if not distinct:
            raise ValueError("a fast phase needs at least one anchor problem")
        self.settings, self.population, self.cycle, self.seed = settings, population, cycle, seed
        carried = {prompt.digest: prompt.text for prompt in population.prompts}
        whole = {t.problem.id: t for t in traces if carried.keys() <= t.rollouts.keys()}
        free = len(whole) >= min(MIN_ANCHORS, len(distinct))
        self.fresh_carried = 0 if free else len(population)
        pool = [t.problem for t in whole.values()] if free else list(distinct.values())
        traced = {t.problem.id for t in traces} if free else set()
        unseen = [p for p in distinct.values() if p.id not in traced]
        shared = not free or 3 * len(unseen) < len(distinct)  # if the data repeats itself, a part of it is held out
        held_out = pool if shared else unseen
        fast = settings.config.fast
        self.budget = fast.budget or math.ceil(fast.passes * len(distinct))
        self.plan = split_budget(
            self.budget,
            fast,
            fast.width or settings.policy.width,
            fresh_carried=self.fresh_carried,
            anchor_pool=len(pool),
            held_out_pool=len(held_out),
            shared=shared,
        )
        chosen = self.plan or BudgetSplit(0, 0, 0, 0)
        anchors = _sample(pool, chosen.anchors, f"anchors-{seed}")
        anchor_ids = {a.id for a in anchors}
        self.held_out = [p for p in held_out if p.id not in anchor_ids]
        random.Random(f"evidence-{seed}").shuffle(self.held_out)
        if shared:
            self.held_out = self.held_out[: max(chosen.evidence, len(self.held_out) // 2)]
        never = {p.id for p in self.held_out}
        known: dict[str, dict[str, Rollout]] = {}
        for trace in traces if free else ():
            for digest in carried.keys() & trace.rollouts.keys():
                if trace.problem.id not in never:  # what is held out is rolled out anew, for both sides alike
                    known.setdefault(carried[digest], {})[trace.problem.id] = trace.rollouts[digest]
        self.scoreboard = Scoreboard(evaluate, anchors, self.budget, known, settings.bar)
        others = [t.problem for t in traces if t.problem.id not in anchor_ids | never] if free else []
        self.learning = [*anchors, *others]
        self.proposer = Proposer(
            settings.reflection,
            settings.policy,
            cycle,
            seed,
            private=[*self.learning, *self.held_out],
            bar=lambda: self.scoreboard.bar,
        )
        self.candidates: dict[str, Candidate] = {}
        self.evidence: Evidence | None = None
        self.warnings: list[str] = []

    def run(self) -> Evolution:
        if self.plan is None:
            least = self.fresh_carried + 1
            self.warnings.append(
                f"a budget of {self.budget} rollouts is too small: {len(self.population)} prompts need {least}"
            )
            return self._outcome(self.population.prompts)
        free = "known from the slow phase" if not self.fresh_carried else "scored anew"
        self.settings.log(
            f"fast phase {self.cycle}: {len(self.population)} prompts {free}, {len(self.scoreboard.anchors)} anchors,"
            f" {self.plan.evidence} or more held out, at most {self.budget} rollouts;"
            f" reflection: {self.settings.reflection.describe()}"
        )
        try:
            self._search(self.plan)
            self._refuse_silence()
            prompts = self._rank()
        except BaseException:
            self._tell("failed")
            raise
        self._tell("done")
        return self._outcome(prompts)

    def _search(self, plan: BudgetSplit) -> None:
        """Runs GEPA; what it found is in the scoreboard and in `candidates`."""
        import gepa

        from .gepa_adapter import (
            COMPONENT,
            AnchorExample,
            GEPAAdapter,
            NeverAsked,
            NullLogger,
            ParentSampling,
            TestExample,
        )

        adapter: Any = GEPAAdapter(
            self.scoreboard,
            self.proposer,
            self.population.prompts,
            learning=self.learning,
            reserve=2 * plan.evidence,
            records=self.settings.config.fast.records,
            max_barren_rounds=self.settings.config.reflection.max_failures,
            patience=self.settings.config.fast.patience,
            on_round=lambda: self._tell("searching"),
        )
        self.candidates = adapter.candidates
        trials: list[Any] = [TestExample(problem) for problem in self.scoreboard.anchors]
        anchors: list[Any] = [AnchorExample(problem) for problem in self.scoreboard.anchors]
        gepa.optimize(
            {COMPONENT: self.population.best.text},
            trainset=trials,
            valset=anchors,
            adapter=adapter,
            reflection_strategy=adapter,
            sampling_strategy=ParentSampling(adapter, test=plan.test, proposals=plan.proposals, seed=self.seed),
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
        self.settings.log(f"fast phase {self.cycle}: search ended: {adapter.ended()}")

    def _refuse_silence(self) -> None:
        """Raises ReflectionFailed, with the reflection's own words, if none of its calls got an answer."""
        calls = self.proposer.count["calls"]
        if calls and self.proposer.count["failures"] == calls:
            why = self.proposer.trouble.last.get("failures", "it gave no reason")
            raise ReflectionFailed(f"all {calls} reflections failed; the last error: {why}")

    def _rank(self) -> tuple[Prompt, ...]:
        """The K to carry on, best first. A new prompt of which half the rollouts failed is not considered."""
        old = {prompt.text for prompt in self.population.prompts}
        anchors = len(self.scoreboard.anchors)
        fit = [p for p in self.scoreboard.scored() if p.text in old or 2 * len(p.scores) >= anchors]
        picked = select(fit, self.settings.config.population)
        incumbent = select([p for p in fit if p.text in old], 1)[0]
        ahead = [p for p in picked if p.text not in old and _beats(p, incumbent)]
        lead = ahead[0] if ahead and self._compare(ahead[0], incumbent) else incumbent
        rest = [p for p in picked if p.text != lead.text]
        chosen = (lead, *rest[: self.settings.config.population - 1])
        for prompt in chosen:
            if prompt.text in self.candidates:
                verdict = "leads" if prompt is lead else "carried"
                self.candidates[prompt.text] = replace(self.candidates[prompt.text], verdict=verdict)
        return chosen

    def _compare(self, challenger: Prompt, incumbent: Prompt) -> bool:
        """Does the challenger win on the problems held out? They take what is left of the budget. Recorded as
        `evidence`."""
        problems = self.held_out[: self.scoreboard.left // 2]
        if self.plan is None or not self.plan.evidence:
            self.warnings.append("too few problems to hold any out: no new prompt can take the lead")
            return False
        self._tell("comparing")
        self.scoreboard.run([(incumbent, problems), (challenger, problems)])
        before, after = self.scoreboard.rollouts(incumbent.text), self.scoreboard.rollouts(challenger.text)
        both = [(before[p.id].score, after[p.id].score) for p in problems if p.id in before and p.id in after]
        found = weigh(challenger, incumbent, both, self.settings.config.fast.confidence)
        self.evidence = found
        verdict = "leads now" if found.adopted else f"does not lead: {found.why}"
        self.settings.log(
            f"fast phase {self.cycle}: {challenger.digest} against {incumbent.digest} on {found.problems} problems held"
            f" out: {found.margin:+.3f} ± {found.error:.3f}: {verdict}"
        )
        return found.adopted

    def _tell(self, stage: str) -> None:
        count = self._verdicts()
        self.settings.status(
            Status(
                cycle=self.cycle,
                stage=stage,
                spent=self.scoreboard.spent,
                budget=self.budget,
                candidates=len(self.candidates),
                accepted=len(self.candidates) - count["rejected"] - count["outranked"],
                best=self.scoreboard.best(),
                reflection_calls=self.proposer.count["calls"],
                reflection_failures=self.proposer.count["failures"],
            )
        )

    def _verdicts(self) -> dict[str, int]:
        found = dict.fromkeys(("rejected", "outranked", "scored", "carried", "leads"), 0)
        for candidate in self.candidates.values():
            found[candidate.verdict] += 1
        return found

    def _outcome(self, prompts: Sequence[Prompt]) -> Evolution:
        scoreboard, count, old = self.scoreboard, self.proposer.count, self.population
        warnings, trouble = self.warnings, self.proposer.trouble
        if count["failures"]:
            why = trouble.last.get("failures", "it gave no reason")
            warnings.append(f"{count['failures']} of {count['calls']} reflections failed; the last error: {why}")
        for kind, what in _USELESS.items():
            if trouble.count[kind]:
                answers = f"{trouble.count[kind]} of {count['calls']} reflections"
                warnings.append(f"{answers} {what}; the last: {trouble.last[kind]}")
        if self.proposer.failed_rounds >= self.settings.config.reflection.max_failures:
            warnings.append(
                f"the phase ended early: {self.proposer.failed_rounds} rounds of reflection in a row failed"
            )
        if count["leaks"]:
            warnings.append(f"{count['leaks']} proposed prompts carried a problem's own answer and were refused")
        if count["hidden"]:
            warnings.append(f"{count['hidden']} hidden characters were taken out of proposed prompts")
        if scoreboard.failed:
            warnings.append(f"{scoreboard.failed} of {scoreboard.spent} rollouts failed and count for nothing")
        verdicts = self._verdicts()
        means = [prompt.mean_score for prompt in prompts]
        known = scoreboard.is_scored(old.best.text)
        metrics = {
            "anchor_best": max(means),
            "anchor_lead": means[0],
            "anchor_mean": sum(means) / len(means),
            "anchor_seed": scoreboard.prompt(old.best.text).mean_score if known else old.best.mean_score,
            "anchors": len(scoreboard.anchors),
            "anchors_free": 0 if self.fresh_carried else len(scoreboard.anchors),
            "rollouts": scoreboard.spent,
            "rollouts_failed": scoreboard.failed,
            "candidates": len(scoreboard.scored()),
            "candidates_new": verdicts["scored"] + verdicts["carried"] + verdicts["leads"],
            "proposals_accepted": verdicts["scored"] + verdicts["carried"] + verdicts["leads"],
            "proposals_rejected": verdicts["rejected"] + verdicts["outranked"],
            "proposals_skipped": count["skipped"],
            "proposals_skipped_long": count["long"],
            "proposals_refused_leak": count["leaks"],
            "hidden_characters": count["hidden"],
            "reflection_calls": count["calls"],
            "reflection_failures": count["failures"],
            "reflection_timeouts": trouble.count["timeouts"],
            **{f"reflection_{kind}": trouble.count[kind] for kind in _USELESS},
            "population_size": len(prompts),
            "lead_changed": prompts[0].text != old.best.text,
        }
        if scoreboard.tokens is not None:
            metrics["tokens"] = scoreboard.tokens
        if self.evidence is not None:
            metrics |= {"evidence_margin": self.evidence.margin, "evidence_problems": self.evidence.problems}
            metrics |= {"evidence_error": self.evidence.error} if self.evidence.problems > 1 else {}
        scored = {prompt.text: prompt for prompt in scoreboard.scored()}
        new = [replace(c, prompt=scored.get(c.prompt.text, c.prompt)) for c in self.candidates.values()]
        refused = [Candidate(prompt, "refused") for prompt in self.proposer.refused]
        carried = {prompt.text for prompt in prompts}
        return Evolution(
            Population(tuple(prompts)),
            {k: float(v) for k, v in metrics.items()},
            tuple(warnings),
            (*new, *refused),
            self.evidence,
            tuple(scored.get(p.text, replace(p, scores={})) for p in old.prompts if p.text not in carried),
        )


def _sample(problems: Sequence[Problem], size: int, seed: str) -> list[Problem]:
    """A seeded part of the problems, in their order; all of them if there are no more."""
    if size >= len(problems):
        return list(problems)
    return [problems[i] for i in sorted(random.Random(seed).sample(range(len(problems)), size))]


def _beats(new: Prompt, old: Prompt) -> bool:
    """Higher mean score on the problems that both were scored on."""
    shared = new.scores.keys() & old.scores.keys()
    return sum(new.scores[p].mean for p in shared) > sum(old.scores[p].mean for p in shared)


__all__ = ["GEPAOptimizer", "RolloutsFailed"]
