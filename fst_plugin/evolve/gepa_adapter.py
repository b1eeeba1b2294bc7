"""What `gepa.optimize` calls back: our side of its public protocols.

GEPA (gepa 0.1.4) owns the loop: propose from parents, test each child on a minibatch, score those that pass on all
anchors. Its doors are used as follows.

- Warm start: GEPA takes one seed candidate. In its first round `ParentSampling` hands it one carried prompt per task;
  the "reflection" on such a task is that prompt, verbatim, and its score was paid before, in one batch with the seed's.
- A parent's minibatch costs nothing: its rollouts on the anchors are known, and so are, from the slow phase, those of
  carried prompts on many other problems. Reflection reads them. A child's test is part of its score if it passes.
- GEPA's scoring of a child on all anchors only marks it: the rollouts go out with the next round's tests, in one batch.
  Until then it is known by its test.
- Of a round's children at most half pass: those that beat their parents by most. A round is only as wide as the budget
  bears, so the budget is a hard cap.
- Where the parent scores the same on every anchor, as it does while all rewards are 0, no test can tell a step in the
  right direction from none. There, if no child is better, those that are no worse pass: scored on all anchors, some
  may turn out better, and what they still get wrong is the next thing to learn.
- Choice of parents and minibatches is a function of (seed, round, slot) and of the scores, so a phase can be repeated.
- Failed rollouts are left out of every comparison and never shown to a reflection.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gepa.core.adapter import EvaluationBatch
from gepa.proposer.reflective_mutation.reflection_lm import ReflectionProposal
from gepa.strategies.proposal_sampling import ProposalTask

from ..prompts import Prompt
from ..rollouts import Problem, Rollout
from .budget import BudgetSplit
from .phase import Phase
from .proposer import Records
from .selection import frontier

COMPONENT = "system_prompt"


@dataclass(frozen=True)
class TestExample:
    """A training example of GEPA's: a problem that a child is tested on next to its parent."""

    problem: Problem


@dataclass(frozen=True)
class AnchorExample:
    """A validation example of GEPA's: a problem that prompts are scored on."""

    problem: Problem


@dataclass(frozen=True)
class Carried:
    """Stands for a prompt of the old population on its way into GEPA's pool."""

    text: str


Reflected = tuple[ReflectionProposal, "GEPAAdapter"]


class GEPAAdapter:
    """GEPA's adapter, reflection, acceptance criterion and stop condition over one phase."""

    propose_new_texts = None  # GEPA: proposals come from the reflection strategy

    def __init__(self, phase: Phase):
        self.phase = phase
        self.scoreboard, self.candidates = phase.scoreboard, phase.candidates
        self.carried = list(phase.population.prompts)
        self.reserve = 2 * phase.plan.evidence  # rollouts to leave for what comes after
        self.round = 0
        self.exhausted = False
        self._barren = 0
        self._fatal: Exception | None = None

    # Adapter

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> EvaluationBatch:
        """GEPA scores its seed with this, before anything else: the moment to score the whole old population."""
        self.scoreboard.score(self.carried)
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: list[tuple[dict[str, str], list[Any]]]) -> list[EvaluationBatch]:
        texts = [candidate[COMPONENT] for candidate, _ in items]
        to_score = [t for t, (_, batch) in zip(texts, items, strict=True) if isinstance(batch[0], AnchorExample)]
        self.scoreboard.score(
            [self._prompt(text) for text in to_score if not self.scoreboard.is_scored(text)], later=True
        )
        tests = {
            text: [example.problem for example in batch]
            for text, (_, batch) in zip(texts, items, strict=True)
            if isinstance(batch[0], TestExample) and not self.scoreboard.is_scored(text)
        }
        if tests:
            self.scoreboard.run([(self._prompt(text), problems) for text, problems in tests.items()])
            self._judge(tests)
        return [self._answer(text, batch) for text, (_, batch) in zip(texts, items, strict=True)]

    def _prompt(self, text: str) -> Prompt:
        return self.candidates[text].prompt

    def _answer(self, text: str, batch: Sequence[Any]) -> EvaluationBatch:
        if isinstance(batch[0], Carried):
            return EvaluationBatch(list(batch), [1.0] * len(batch), list(batch), num_metric_calls=0)
        known = self.scoreboard.rollouts(text)
        rollouts = [known.get(example.problem.id, _MISSING) for example in batch]
        valid = [r.score for r in rollouts if r.error is None]
        mean = (
            sum(valid) / len(valid) if valid else 0.0
        )  # GEPA wants a number for every cell; the mean is a neutral stand-in
        scores = [mean if r.error is not None else r.score for r in rollouts]
        return EvaluationBatch(rollouts, scores, list(batch), num_metric_calls=0)

    def _judge(self, tests: Mapping[str, Sequence[Problem]]) -> None:
        """Which of a round's children pass: those better than their parents, by most first; if there are none, those
        that no test can tell from them (`_flat`). At most half of them."""
        parents = {prompt.digest: prompt.text for prompt in self.scoreboard.scored()}
        equal = []
        for text, problems in tests.items():
            before = self.scoreboard.rollouts(parents[self._prompt(text).parents[0]])
            after = self.scoreboard.rollouts(text)
            both = [p.id for p in problems if p.id in before and p.id in after]
            differences = [after[i].score - before[i].score for i in both]
            margin = sum(differences) / len(both) if both else 0.0
            error = statistics.stdev(differences) / len(both) ** 0.5 if len(both) > 1 else None
            tested = replace(self.candidates[text], margin=margin, tested=len(both), error=error)
            self.candidates[text] = replace(tested, verdict="outranked" if margin > 0 else "rejected")
            if both and _flat([*before.values(), *(after[i] for i in both)]):
                equal.append(text)
        better = [t for t in tests if self.candidates[t].verdict == "outranked"]
        better.sort(key=lambda t: -(self.candidates[t].margin or 0.0))
        for text in (better or equal)[: passing(len(tests))]:
            self.candidates[text] = replace(self.candidates[text], verdict="scored")

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: EvaluationBatch, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {name: [{"seen": seen} for seen in eval_batch.trajectories or ()] for name in components_to_update}

    # Reflection

    def reflect(self, candidate: dict[str, str], dataset: Any, components: list[str]) -> Reflected:
        return self.reflect_many([(candidate, dataset, components)])[0]

    def reflect_many(self, jobs: list[tuple[dict[str, str], Any, list[str]]]) -> list[Reflected]:
        """Texts for all jobs of a round; an empty proposal if a job comes to nothing, which costs no rollout."""
        seen = [[record["seen"] for record in dataset[COMPONENT]] for _, dataset, _ in jobs]
        if all(isinstance(s[0], Carried) for s in seen):
            return [(ReflectionProposal({COMPONENT: s[0].text}), self) for s in seen]
        parents = [
            (self.scoreboard.prompt(candidate[COMPONENT]), self._records(candidate[COMPONENT], s, slot))
            for slot, ((candidate, _, _), s) in enumerate(zip(jobs, seen, strict=True))
        ]
        try:
            children = self.phase.propose(self.round, parents)
        except Exception as error:  # GEPA would swallow it; `__call__` raises it
            self._fatal = error
            children = [None] * len(jobs)
        self._barren = 0 if any(children) else self._barren + 1
        return [(ReflectionProposal({COMPONENT: c.text} if c is not None else {}), self) for c in children]

    def _records(self, parent: str, tested: Sequence[TestExample], slot: int) -> Records:
        return self.phase.records(parent, [t.problem for t in tested], slot, self.round)

    # Acceptance and end

    def should_accept(self, proposal: Any, state: Any) -> bool:
        text = proposal.candidate[COMPONENT]
        return text not in self.candidates or self.candidates[text].verdict == "scored"

    def __call__(self, state: Any) -> bool:
        """GEPA's stop condition, asked before every round."""
        if self._fatal is not None:
            raise self._fatal
        if self._barren:
            self.scoreboard.run()  # no test for what is owed to ride along with; the next parents need its scores
        if self.round:
            self.phase.tell("searching")
        return self.ended() is not None

    def ended(self) -> str | None:
        """Why no further round begins; None if one does."""
        if self.exhausted:
            return "the budget is spent, or nothing is left to learn"
        return self.phase.stalled(self.round, self._barren)


_MISSING = Rollout(0.0, error="this rollout failed")


def _flat(rollouts: Iterable[Rollout]) -> bool:
    """Do all have the same score, so that they tell nothing of who is better?"""
    return len({rollout.score for rollout in rollouts}) == 1


def passing(children: int) -> int:
    """How many of a round's children may pass their test."""
    return -(-children // 2)


class ParentSampling:
    """GEPA's sampling strategy, and its parent and minibatch choice in one: see the module's docstring."""

    def __init__(self, adapter: GEPAAdapter, split: BudgetSplit):
        self._adapter = adapter
        self._test_size = min(split.test, len(adapter.scoreboard.anchors))
        self._proposals = split.proposals
        self._seed = adapter.phase.seed
        self._warm = len(adapter.carried) < 2

    def affordable(self) -> int:
        """How many children the rest of the budget bears, if as many pass as may."""
        more = len(self._adapter.scoreboard.anchors) - self._test_size
        for children in range(self._proposals, 0, -1):
            if (
                children * self._test_size + passing(children) * more
                <= self._adapter.scoreboard.left - self._adapter.reserve
            ):
                return children
        return 0

    def sample_tasks(self, state: Any, selector: Any, sampler: Any, trainset: Any) -> list[ProposalTask]:
        index = {candidate[COMPONENT]: i for i, candidate in enumerate(state.program_candidates)}
        if not self._warm:
            self._warm = True
            seed = state.program_candidates[0]
            others = [prompt.text for prompt in self._adapter.carried[1:]]
            return [ProposalTask(0, seed, [f"carried-{i}"], [Carried(text)]) for i, text in enumerate(others)]
        self._adapter.round += 1
        parents = self._parents()
        tasks = []
        for slot in range(self.affordable() if parents else 0):
            rng = random.Random(f"task-{self._seed}-{self._adapter.round}-{slot}")
            parent = rng.choices(parents, weights=[w for _, w in parents])[0][0]
            ids = self._test(parent, rng)
            tasks.append(ProposalTask(index[parent], {COMPONENT: parent}, ids, trainset.fetch(ids)))
        self._adapter.exhausted = not tasks
        return tasks

    def _parents(self) -> list[tuple[str, int]]:
        """Texts and weights: the prompts of the frontier that hold no mere part of what another holds and that have
        failures to learn from, weighted by how many problems they hold (GEPA's rule)."""
        scored = self._adapter.scoreboard.scored()
        held: dict[int, set[str]] = {}
        for problem, holders in frontier(scored).items():
            for i in holders:
                held.setdefault(i, set()).add(problem)
        kept = [i for i in held if not any(held[i] < held[other] for other in held)] or list(range(len(scored)))
        able = [i for i in sorted(kept) if self._failures(scored[i])]
        return [(scored[i].text, len(held.get(i, ())) or 1) for i in able]

    def _failures(self, prompt: Prompt) -> list[str]:
        return [
            problem for problem, score in prompt.scores.items() if not self._adapter.scoreboard.bar.solved(score.mean)
        ]

    def _test(self, parent: str, rng: random.Random) -> list[int]:
        """Positions of anchors: a failure of the parent first, then any others."""
        known = self._adapter.scoreboard.rollouts(parent)
        position = {problem.id: i for i, problem in enumerate(self._adapter.scoreboard.anchors)}
        failure = rng.choice(self._failures(self._adapter.scoreboard.prompt(parent)))
        others = [problem for problem in position if problem in known and problem != failure]
        chosen = [failure, *rng.sample(others, min(len(others), self._test_size - 1))]
        return [position[problem] for problem in chosen]


class NullLogger:
    """GEPA's logger, saying nothing."""

    def log(self, message: str) -> None:
        return None


class NeverAsked:
    """Stands where GEPA asks for a parent selector and a batch sampler; `ParentSampling` decides both."""

    def select_candidate_idx(self, state: Any) -> int:
        raise NotImplementedError

    def next_minibatch_ids(self, loader: Any, state: Any) -> list[int]:
        raise NotImplementedError
