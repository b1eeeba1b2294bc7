"""What every fast phase has, whatever it searches by: budget, problems, accounts, the comparison that decides the lead,
and what it hands back."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..config import FSTConfig
from ..optimizer import Candidate, Evidence, Evolution
from ..policy import Policy
from ..prompts import Population, Prompt
from ..reflection.base import Reflection, ReflectionFailed
from ..rewards import RewardBar
from ..rollouts import Evaluate, Problem, Rollout, Trace
from .budget import MIN_ANCHORS
from .evidence import NONE, Margin, weigh
from .plan import Plan, Problems, is_new_task
from .progress import Status
from .proposer import EXAMPLE, Proposer, Records
from .scoreboard import Scoreboard

_USELESS = {
    "unusable": "were answered without a prompt",
    "cut": "broke off before their prompt ended",
    "large": "were answered with too much to be read",
}


@dataclass(frozen=True)
class Settings:
    """What a run's fast phases have in common; see `ReflectiveOptimizer`."""

    reflection: Reflection
    config: FSTConfig
    policy: Policy
    bar: RewardBar
    log: Callable[[str], None]
    status: Callable[[Status], None]


def read_for(child: Prompt, records: Records) -> Records:
    """What a reflection has read for this child, of the records at hand: nothing if the child merely shows another
    example."""
    return () if child.origin == EXAMPLE else records


class Phase(ABC):
    """One run of `ReflectiveOptimizer.evolve`. A kind of search says how the budget is divided (`divide`), searches
    (`search`), and ranks what it found (`contest`).

    confidence: standard errors that a new lead must be ahead by, if the config says nothing.
    """

    confidence: float

    def __init__(
        self,
        settings: Settings,
        population: Population,
        problems: Sequence[Problem],
        evaluate: Evaluate,
        cycle: int,
        seed: int,
        traces: Sequence[Trace],
        archived: Sequence[Prompt] = (),
    ):
        distinct = {problem.id: problem for problem in problems}
        if not distinct:
            raise ValueError("a fast phase needs at least one anchor problem")
        self.settings, self.population, self.cycle, self.seed = settings, population, cycle, seed
        self.fast = settings.config.fast
        carried = {prompt.digest: prompt.text for prompt in population.prompts}
        tasks = {problem.task for problem in distinct.values()}
        self.new_task = is_new_task([trace.problem for trace in traces], distinct.values())
        traces = [t for t in traces if t.problem.task in tasks and not self.new_task]
        whole = {t.problem.id: t for t in traces if carried.keys() <= t.rollouts.keys()}
        free = len(whole) >= min(MIN_ANCHORS, len(distinct))
        if not free:
            traces = []
        self.fresh_carried = 0 if free else len(population)
        pool = [t.problem for t in whole.values()] if free else list(distinct.values())
        traced = {t.problem.id for t in traces}
        unseen = [p for p in distinct.values() if p.id not in traced]
        shared = not free or 3 * len(unseen) < len(distinct)  # if the data repeats itself, a part of it is held out
        partial = [t.problem for t in traces if t.problem.id not in whole]
        self.budget = self.fast.budget or math.ceil(self.fast.passes * len(distinct))
        plan = self.plan = self.divide(Problems(pool, list(pool if shared else unseen), shared, partial))
        never = {p.id for p in plan.held_out}
        known: dict[str, dict[str, Rollout]] = {}
        for trace in traces:
            for digest in carried.keys() & trace.rollouts.keys():
                if trace.problem.id not in never:  # what is held out is rolled out anew, for both sides alike
                    known.setdefault(carried[digest], {})[trace.problem.id] = trace.rollouts[digest]
        self.scoreboard = Scoreboard(evaluate, plan.anchors, self.budget, known, settings.bar)
        scored = {a.id for a in plan.anchors}
        self.learning = [*plan.anchors, *(t.problem for t in traces if t.problem.id not in scored | never)]
        self.proposer = Proposer(
            settings.reflection,
            settings.policy,
            cycle,
            seed,
            private=[*self.learning, *plan.held_out],
            bar=lambda: self.scoreboard.bar,
        )
        for prompt in population.prompts:
            self.proposer.know(prompt.text)
        self.archived = [prompt for prompt in archived if prompt.digest not in carried]
        self.retried: list[Prompt] = []  # those of the archived that get a test
        self.candidates: dict[str, Candidate] = {}
        self.evidence: Evidence | None = None
        self.warnings: list[str] = []
        self._highest, self._highest_round = float("-inf"), 0

    @abstractmethod
    def divide(self, problems: Problems) -> Plan:
        """Which problems are for what, within `budget` rollouts."""

    @abstractmethod
    def search(self) -> str:
        """Finds new prompts; they are in the scoreboard and in `candidates`. Returns why it ended."""

    @abstractmethod
    def contest(self) -> tuple[list[Prompt], Prompt, Prompt | None, Margin | None]:
        """The K to carry on if the lead stays, best first; the old prompt that leads; the new one that challenges it,
        if one is ahead; and what the search knows of their difference."""

    @abstractmethod
    def mean(self, prompt: Prompt) -> float:
        """Mean reward of this prompt over the anchors, as far as it is known."""

    def best(self) -> float:
        """The highest mean reward of a prompt so far."""
        return max(map(self.mean, self.scoreboard.scored()), default=0.0)

    def run(self) -> Evolution:
        if not self.plan.feasible:
            least = self.fresh_carried + 1
            self.warnings.append(
                f"a budget of {self.budget} rollouts is too small: {len(self.population)} prompts need {least}"
            )
            return self._outcome(self.population.prompts)
        self.settings.log(
            f"fast phase {self.cycle}: {len(self.population)} prompts {self.scored()},"
            f" {len(self.scoreboard.anchors)} anchors, {self.plan.evidence} or more held out, at most {self.budget}"
            f" rollouts; reflection: {self.settings.reflection.describe()}"
        )
        try:
            self.settings.log(f"fast phase {self.cycle}: search ended: {self.search()}")
            self._refuse_silence()
            prompts = self._rank()
        except BaseException:
            self.tell("failed")
            raise
        self.tell("done")
        return self._outcome(prompts)

    def scored(self) -> str:
        """Where the old prompts' scores come from, in words."""
        free = "known from the slow phase" if not self.fresh_carried else "scored anew"
        return free + ", since most of the coming problems are of another task" * self.new_task

    def records(self, parent: str, first: Sequence[Problem], slot: int, round_number: int) -> Records:
        """How a parent did on the problems of `first`, then other failures of it, all paid for already; successes
        last. What was answered unread is left out."""
        known = {problem: one for problem, one in self.scoreboard.rollouts(parent).items() if not one.unread}
        tested = [(problem, known[problem.id]) for problem in first if problem.id in known]
        have = {problem.id for problem, _ in tested}
        others = [
            (problem, known[problem.id])
            for problem in self.learning
            if problem.id not in have and problem.id in known and not self.solved(known[problem.id])
        ]
        random.Random(f"records-{self.seed}-{round_number}-{slot}").shuffle(others)
        failed = [pair for pair in tested if not self.solved(pair[1])]
        solved = [pair for pair in tested if self.solved(pair[1])]
        return tuple([*failed, *others, *solved][: self.fast.records])

    def solved(self, rollout: Rollout) -> bool:
        return self.scoreboard.bar.solved(rollout.score)

    def propose(
        self, round_number: int, parents: Sequence[tuple[Prompt, Records]], mates: Sequence[Prompt | None] = ()
    ) -> list[Prompt | None]:
        """A child per parent, or None; children are entered into `candidates`. Every second one of a run with examples
        (`fst.components`) shows another solved problem, if there is one; the others come of reflection. mates: see
        `Proposer.propose`."""
        children = [self._show(round_number, slot, parent) for slot, (parent, _) in enumerate(parents)]
        rest = [slot for slot, child in enumerate(children) if child is None]
        told = self.proposer.propose(round_number, [parents[i] for i in rest], [mates[i] for i in rest if mates])
        for slot, child in zip(rest, told, strict=True):
            children[slot] = child
        for child, (_, records) in zip(children, parents, strict=True):
            if child is not None:
                shown = tuple((problem.id, rollout) for problem, rollout in read_for(child, records))
                self.candidates[child.text] = Candidate(child, "rejected", None, shown)
        return children

    def _show(self, round_number: int, slot: int, parent: Prompt) -> Prompt | None:
        """The parent with another example, if this is its turn. What the parent itself solved comes first."""
        components = self.settings.config.components
        if components[(round_number + slot) % len(components)] != "examples":
            return None
        rng = random.Random(f"examples-{self.seed}-{round_number}-{slot}")
        for text in (parent.text, *(other.text for other in self.scoreboard.scored())):
            known = self.scoreboard.rollouts(text)
            tops = [(p, known[p.id], *known[p.id].top) for p in self.learning if p.id in known]
            solved = [(p, replace(r, response=said)) for p, r, score, said in tops if self.scoreboard.bar.solved(score)]
            if child := self.proposer.show(parent, solved, rng):
                return child
        return None

    def stalled(self, round_number: int, barren: int) -> str | None:
        """Why no further round is worth it; None if one is.

        round_number: rounds so far. barren: rounds in a row without any child.
        """
        best, most = self.best(), self.settings.config.reflection.max_failures
        if best > self._highest:
            self._highest, self._highest_round = best, round_number
        if self.proposer.failed_rounds >= most:
            return f"{self.proposer.failed_rounds} rounds of reflection in a row failed"
        if barren >= most:
            return f"{barren} rounds in a row brought no usable prompt"
        if self.fast.patience is not None and round_number - self._highest_round >= self.fast.patience:
            return f"the best anchor score has not moved for {self.fast.patience} rounds"
        return None

    def _refuse_silence(self) -> None:
        """Raises ReflectionFailed, with the reflection's own words, if none of its calls got an answer."""
        calls = self.proposer.count["calls"]
        if calls and self.proposer.count["failures"] == calls:
            why = self.proposer.trouble.last.get("failures", "it gave no reason")
            raise ReflectionFailed(f"all {calls} reflections failed; the last error: {why}")

    def _rank(self) -> tuple[Prompt, ...]:
        picked, incumbent, challenger, prior = self.contest()
        lead = incumbent
        if challenger is not None and self._compare(challenger, incumbent, prior):
            lead = challenger
        rest = [p for p in picked if p.text != lead.text]
        chosen = (lead, *rest[: self.settings.config.population - 1])
        for prompt in chosen:
            if prompt.text in self.candidates:
                verdict = "leads" if prompt is lead else "carried"
                self.candidates[prompt.text] = replace(self.candidates[prompt.text], verdict=verdict)
        return chosen

    def _compare(self, challenger: Prompt, incumbent: Prompt, prior: Margin | None) -> bool:
        """Does the challenger win on the problems held out? They take what is left of the budget. Recorded as
        `evidence`."""
        if not self.plan.evidence:
            self.warnings.append("too few problems to hold any out: no new prompt can take the lead")
            return False
        self.tell("comparing")
        both = self._pairs(challenger, incumbent)
        confidence = self.confidence if self.fast.confidence is None else self.fast.confidence
        found = weigh(challenger, incumbent, both, confidence, prior, self._ahead(incumbent))
        self.evidence = found
        verdict = "leads now" if found.adopted else f"does not lead: {found.why}"
        self.settings.log(
            f"fast phase {self.cycle}: {challenger.digest} against {incumbent.digest} on {found.problems} problems held"
            f" out: {found.margin:+.3f} ± {found.error:.3f}: {verdict}"
        )
        return found.adopted

    def _pairs(self, challenger: Prompt, incumbent: Prompt) -> list[tuple[float, float]]:
        """Rewards on the problems held out, the incumbent's and the challenger's; what is left of the budget pays."""
        problems = self.plan.held_out[: self.scoreboard.left // 2]
        self.scoreboard.run([(incumbent, problems), (challenger, problems)])
        before, after = self.scoreboard.rollouts(incumbent.text), self.scoreboard.rollouts(challenger.text)
        return [(before[p.id].score, after[p.id].score) for p in problems if p.id in before and p.id in after]

    def _ahead(self, incumbent: Prompt) -> Margin:
        """How far the incumbent is ahead of what the pairs compare with: by nothing, it is the incumbent itself."""
        return NONE

    def tell(self, stage: str) -> None:
        count = self._verdicts()
        self.settings.status(
            Status(
                cycle=self.cycle,
                stage=stage,
                spent=self.scoreboard.spent,
                budget=self.budget,
                candidates=len(self.candidates),
                accepted=len(self.candidates) - count["rejected"] - count["outranked"],
                best=self.best(),
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
        self._warn()
        verdicts = self._verdicts()
        accepted = verdicts["scored"] + verdicts["carried"] + verdicts["leads"]
        means = [self.mean(prompt) for prompt in prompts]
        metrics = {
            "anchor_best": max(means),
            "anchor_lead": means[0],
            "anchor_mean": sum(means) / len(means),
            "anchor_seed": self.mean(old.best),
            "anchors": len(scoreboard.anchors),
            "new_task": self.new_task,
            "anchors_free": 0 if self.fresh_carried else len(scoreboard.anchors),
            "rollouts": scoreboard.spent,
            "rollouts_failed": scoreboard.failed,
            "archived_rollouts": sum(len(scoreboard.rollouts(prompt.text)) for prompt in self.retried),
            "candidates": len(scoreboard.scored()),
            "candidates_new": accepted,
            "proposals_accepted": accepted,
            "proposals_rejected": verdicts["rejected"] + verdicts["outranked"],
            "proposals_examples": count["shown"],
            "proposals_skipped": count["skipped"],
            "proposals_skipped_long": count["long"],
            "proposals_refused_leak": count["leaks"],
            "hidden_characters": count["hidden"],
            "reflection_calls": count["calls"],
            "reflection_failures": count["failures"],
            "reflection_timeouts": self.proposer.trouble.count["timeouts"],
            **{f"reflection_{kind}": self.proposer.trouble.count[kind] for kind in _USELESS},
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
            tuple(self.warnings),
            (*new, *refused),
            self.evidence,
            tuple(scored.get(p.text, replace(p, scores={})) for p in old.prompts if p.text not in carried),
        )

    def _warn(self) -> None:
        """Lines a person should see, of what went wrong on the way."""
        count, trouble, warn = self.proposer.count, self.proposer.trouble, self.warnings.append
        if count["failures"]:
            why = trouble.last.get("failures", "it gave no reason")
            warn(f"{count['failures']} of {count['calls']} reflections failed; the last error: {why}")
        for kind, what in _USELESS.items():
            if trouble.count[kind]:
                answers = f"{trouble.count[kind]} of {count['calls']} reflections"
                warn(f"{answers} {what}; the last: {trouble.last[kind]}")
        if self.proposer.failed_rounds >= self.settings.config.reflection.max_failures:
            warn(f"the phase ended early: {self.proposer.failed_rounds} rounds of reflection in a row failed")
        if self.settings.config.shows_examples and self.candidates and not count["shown"]:
            warn("no prompt got an example: no known answer was right, in text, of one turn, and within the cap")
        if count["leaks"]:
            warn(f"{count['leaks']} proposed prompts carried a problem's own answer and were refused")
        if count["hidden"]:
            warn(f"{count['hidden']} hidden characters were taken out of proposed prompts")
        if self.scoreboard.failed:
            warn(f"{self.scoreboard.failed} of {self.scoreboard.spent} rollouts failed and count for nothing")


__all__ = ["Phase", "Settings", "read_for"]
