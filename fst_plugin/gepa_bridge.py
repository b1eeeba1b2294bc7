"""What `gepa.optimize` calls back: our side of its public protocols.

GEPA (gepa 0.1.4) owns the loop: propose from parents, test each child on a minibatch, score those that pass on all
anchors. Its doors are used as follows.

- Warm start: GEPA takes one seed candidate. In its first round `Tasks` hands it one carried prompt per task; the
  "reflection" on such a task is that prompt, verbatim, and its score was paid before, in one batch with the seed's.
- A parent's minibatch costs nothing: its rollouts on the anchors are known. Reflection reads those rollouts.
- Choice of parents and minibatches is a function of (seed, round, slot) and of the scores, so a phase can be repeated.
- A round is only as wide as the budget bears in the worst case, where every child passes: the budget is a hard cap.
- Failed rollouts are left out of every comparison and never shown to a reflection.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gepa.core.adapter import EvaluationBatch
from gepa.proposer.reflective_mutation.reflection_lm import ReflectionProposal
from gepa.strategies.proposal_sampling import ProposalTask

from .ledger import Ledger
from .prompts import Prompt
from .proposals import Proposer, Records
from .rollouts import Problem, Rollout
from .selection import frontier

COMPONENT = "system_prompt"
MAX_BARREN_ROUNDS = 5
"""Rounds in a row without any child worth a rollout that end a phase (ours)."""


@dataclass(frozen=True)
class Trial:
    """A training example of GEPA's: a problem that a child is tested on beside its parent."""

    problem: Problem


@dataclass(frozen=True)
class Anchor:
    """A validation example of GEPA's: a problem that prompts are scored on."""

    problem: Problem


@dataclass(frozen=True)
class Carried:
    """Stands for a prompt of the old population on its way into GEPA's pool."""

    text: str


Reflected = tuple[ReflectionProposal, "Bridge"]


class Bridge:
    """GEPA's adapter, reflection, acceptance criterion and stop condition over one ledger and one proposer.

    carried: the old population. minibatch: problems a child is tested on. records: most rollouts shown to a reflection.
    """

    propose_new_texts = None  # GEPA: proposals come from the reflection strategy

    def __init__(
        self,
        ledger: Ledger,
        proposer: Proposer,
        carried: Sequence[Prompt],
        *,
        records: int,
        perfect_score: float,
        max_failed_rounds: int,
    ):
        self.ledger = ledger
        self.proposer = proposer
        self.carried = list(carried)
        self.records = records
        self.perfect_score = perfect_score
        self.max_failed_rounds = max_failed_rounds
        self.round = 0
        self.accepted = 0
        self.rejected = 0
        self.exhausted = False
        self._barren = 0
        self._made: dict[str, Prompt] = {}
        self._fatal: Exception | None = None
        for prompt in carried:
            proposer.know(prompt.text)

    # Adapter

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> EvaluationBatch:
        """GEPA scores its seed with this, before anything else: the moment to score the whole old population."""
        self.ledger.score(self.carried)
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: list[tuple[dict[str, str], list[Any]]]) -> list[EvaluationBatch]:
        to_score = [c[COMPONENT] for c, batch in items if isinstance(batch[0], Anchor)]
        self.ledger.score([self._made[text] for text in to_score if not self.ledger.knows(text)])
        tests = [
            (self._made[c[COMPONENT]], [example.problem for example in batch])
            for c, batch in items
            if isinstance(batch[0], Trial) and not self.ledger.knows(c[COMPONENT])
        ]
        tested = iter(self.ledger.run(tests))
        return [self._answer(c[COMPONENT], batch, tested) for c, batch in items]

    def _answer(self, text: str, batch: Sequence[Any], tested: Any) -> EvaluationBatch:
        if isinstance(batch[0], Carried):  # always passes
            scores = [float(text == example.text) for example in batch]
            return EvaluationBatch(list(batch), scores, list(batch), num_metric_calls=0)
        cost = 0
        if self.ledger.knows(text):
            known = self.ledger.rollouts(text)
            rollouts = [known.get(example.problem.id, _MISSING) for example in batch]
        else:
            rollouts = next(tested)
            cost = len(batch)
        valid = [r.score for r in rollouts if r.error is None]
        mean = sum(valid) / len(valid) if valid else 0.0  # GEPA wants a number for every cell; this one moves no mean
        scores = [mean if r.error is not None else r.score for r in rollouts]
        pairs = [(example.problem, r) for example, r in zip(batch, rollouts, strict=True)]
        return EvaluationBatch(list(rollouts), scores, pairs, num_metric_calls=cost)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: EvaluationBatch, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {name: [{"seen": seen} for seen in eval_batch.trajectories or ()] for name in components_to_update}

    # Reflection

    def reflect(self, candidate: dict[str, str], dataset: Any, components: list[str]) -> Reflected:
        return self.reflect_many([(candidate, dataset, components)])[0]

    def reflect_many(self, jobs: list[tuple[dict[str, str], Any, list[str]]]) -> list[Reflected]:
        """Texts for all jobs of a round; an empty proposal where a job comes to nothing, which costs no rollout."""
        seen = [[record["seen"] for record in dataset[COMPONENT]] for _, dataset, _ in jobs]
        if all(isinstance(s[0], Carried) for s in seen):
            return [(ReflectionProposal({COMPONENT: s[0].text}), self) for s in seen]
        parents = [
            (self.ledger.prompt(candidate[COMPONENT]), self._records(candidate[COMPONENT], s, slot))
            for slot, ((candidate, _, _), s) in enumerate(zip(jobs, seen, strict=True))
        ]
        try:
            children = self.proposer.propose(self.round, parents)
        except Exception as error:  # GEPA would swallow it; `__call__` raises it
            self._fatal = error
            children = [None] * len(jobs)
        self._barren = 0 if any(children) else self._barren + 1
        self._made.update({child.text: child for child in children if child is not None})
        return [(ReflectionProposal({COMPONENT: c.text} if c is not None else {}), self) for c in children]

    def _records(self, parent: str, tested: list[tuple[Problem, Rollout]], slot: int) -> Records:
        """The minibatch, then other failures of the parent on the anchors, paid for already."""
        have = {problem.id for problem, _ in tested}
        known = self.ledger.rollouts(parent)
        others = [
            (problem, known[problem.id])
            for problem in self.ledger.anchors
            if problem.id not in have and problem.id in known and known[problem.id].score < self.perfect_score
        ]
        random.Random(f"records-{self.proposer.seed}-{self.round}-{slot}").shuffle(others)
        return tuple([*tested, *others[: max(0, self.records - len(tested))]])

    # Acceptance and end

    def should_accept(self, proposal: Any, state: Any) -> bool:
        """Better than its parent on the problems of the minibatch where neither rollout failed."""
        if isinstance(proposal.eval_after.trajectories[0], Carried):
            return True
        pairs = [
            (before, after)
            for (_, before), (_, after) in zip(
                proposal.eval_before.trajectories, proposal.eval_after.trajectories, strict=True
            )
            if before.error is None and after.error is None
        ]
        better = sum(after.score for _, after in pairs) > sum(before.score for before, _ in pairs)
        self.accepted += better
        self.rejected += not better
        return better

    def __call__(self, state: Any) -> bool:
        """GEPA's stop condition, asked before every round."""
        if self._fatal is not None:
            raise self._fatal
        return (
            self.exhausted or self.proposer.failed_rounds >= self.max_failed_rounds or self._barren >= MAX_BARREN_ROUNDS
        )


_MISSING = Rollout(0.0, error="this rollout failed")


class Tasks:
    """GEPA's sampling strategy, and its parent and minibatch choice in one: see the module's docstring."""

    def __init__(self, bridge: Bridge, *, minibatch: int, proposals: int, seed: int):
        self._bridge = bridge
        self._minibatch = min(minibatch, len(bridge.ledger.anchors))
        self._proposals = proposals
        self._seed = seed
        self._warm = len(bridge.carried) < 2

    @property
    def dearest(self) -> int:
        """Rollouts that one child costs when it passes its test."""
        return self._minibatch + len(self._bridge.ledger.anchors)

    def affordable(self) -> int:
        """How many children the rest of the budget bears."""
        return min(self._proposals, self._bridge.ledger.left // self.dearest)

    def sample_tasks(self, state: Any, selector: Any, sampler: Any, trainset: Any) -> list[ProposalTask]:
        index = {candidate[COMPONENT]: i for i, candidate in enumerate(state.program_candidates)}
        if not self._warm:
            self._warm = True
            seed = state.program_candidates[0]
            others = [prompt.text for prompt in self._bridge.carried[1:]]
            return [ProposalTask(0, seed, [f"carried-{i}"], [Carried(text)]) for i, text in enumerate(others)]
        self._bridge.round += 1
        parents = self._parents()
        tasks = []
        for slot in range(self.affordable() if parents else 0):
            rng = random.Random(f"task-{self._seed}-{self._bridge.round}-{slot}")
            parent = rng.choices(parents, weights=[w for _, w in parents])[0][0]
            ids = self._test(parent, rng)
            tasks.append(ProposalTask(index[parent], {COMPONENT: parent}, ids, trainset.fetch(ids)))
        self._bridge.exhausted = not tasks
        return tasks

    def _parents(self) -> list[tuple[str, int]]:
        """Texts and weights: the prompts of the frontier that hold no mere part of what another holds and that have
        failures to learn from, weighted by how many problems they hold (GEPA's rule)."""
        scored = self._bridge.ledger.scored()
        held: dict[int, set[str]] = {}
        for problem, holders in frontier(scored).items():
            for i in holders:
                held.setdefault(i, set()).add(problem)
        kept = [i for i in held if not any(held[i] < held[other] for other in held)] or list(range(len(scored)))
        able = [i for i in sorted(kept) if self._failures(scored[i].text)]
        return [(scored[i].text, len(held.get(i, ())) or 1) for i in able]

    def _failures(self, text: str) -> list[str]:
        known = self._bridge.ledger.rollouts(text)
        return [problem for problem, r in known.items() if r.score < self._bridge.perfect_score]

    def _test(self, parent: str, rng: random.Random) -> list[int]:
        """Positions of anchors: a failure of the parent first, then any others."""
        known = self._bridge.ledger.rollouts(parent)
        position = {problem.id: i for i, problem in enumerate(self._bridge.ledger.anchors)}
        failure = rng.choice(self._failures(parent))
        others = [problem for problem in known if problem != failure]
        chosen = [failure, *rng.sample(others, min(len(others), self._minibatch - 1))]
        return [position[problem] for problem in chosen]


class Silent:
    """GEPA's logger, saying nothing."""

    def log(self, message: str) -> None:
        return None


class Unused:
    """Stands where GEPA asks for a parent selector and a batch sampler; `Tasks` decides both."""

    def select_candidate_idx(self, state: Any) -> int:
        raise NotImplementedError

    def next_minibatch_ids(self, loader: Any, state: Any) -> list[int]:
        raise NotImplementedError
