"""The shipped search: small tests, and more of them for what does well (`fst.fast.parents=thompson` or `mean`).

No prompt is scored on all anchors. A child is tested on a few problems that no reflection on the way to it has read;
half of a round's rollouts go to the best of the earlier children, on problems new to them. So the budget is spent on
many generations, and on telling the best few apart, as in successive halving (arXiv 1810.05934).
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

from ..prompts import Prompt
from ..rollouts import Problem
from .budget import EVIDENCE_SHARE
from .evidence import Margin
from .phase import Phase, read_for
from .plan import Plan, Problems
from .proposer import Records
from .search import Contender, Search

LEAST_HELD_OUT = 6
"""Problems held out of few that must also be learnt from, if they are at least twice as many (ours)."""
FIRST = 48
"""Most problems that an old prompt is scored on where the slow phase left no scores (ours)."""
FIRST_SHARE = 0.25
"""Most of the search's rollouts that go there (ours)."""
ARCHIVE_SHARE = 0.05
"""Most of the budget that goes to a first test of archived prompts (ours)."""
ARCHIVE_TEST = 3
"""Fewest problems of such a test: where the budget is small, only the likeliest archived prompts are tried (ours)."""
MAX_CHILDREN = 12
"""Most prompts proposed at a time (ours)."""
IDLE, IDLE_CALLS = 3, 8
"""Rounds in a row without a usable new prompt, and reflections in them, that end a search for which slow steps wait
(ours: in the benchmark prompts are as good as with five rounds, docs/fast_phase.md). Not counted: rounds in which a
reflection failed, and those while all rewards are the same."""


class HalvingPhase(Phase):
    """A phase of small tests."""

    confidence = 1.64  # ours: by chance alone one cycle of twenty would be ahead by more

    def divide(self, problems: Problems) -> Plan:
        most = len(problems.held_out) // 3 if problems.shared else len(problems.held_out)
        pairs = min(int(self.budget * EVIDENCE_SHARE) // 2, most)
        pairs = pairs if pairs >= 3 else 0
        held_out = list(problems.held_out)
        random.Random(f"evidence-{self.seed}").shuffle(held_out)
        if problems.shared:
            some = min(LEAST_HELD_OUT, len(held_out) // 2)
            held_out = held_out[: max(pairs, len(held_out) // 4, some)] if pairs else []
        never = {p.id for p in held_out}
        anchors = [p for p in problems.pool if p.id not in never]
        random.Random(f"anchors-{self.seed}").shuffle(anchors)
        search = self.budget - 2 * pairs
        self.first = 0
        if self.fresh_carried:
            share = int(search * FIRST_SHARE) // self.fresh_carried
            self.first = max(1, min(FIRST, len(anchors), share))
        return Plan(anchors, held_out, pairs, bool(anchors) and search > self.first * self.fresh_carried)

    def search(self) -> str:
        old = self.population.prompts
        self.scoreboard.run([(prompt, self.plan.anchors[: self.first]) for prompt in old])
        self.baseline = self._baseline()
        self.found = Search(old, explore=self.fast.parents == "thompson", seed=self.seed)
        self._learn(old)
        self._revive()
        rounds, barren, idle, calls = 0, 0, 0, 0
        while True:
            if rounds:
                self.tell("searching")
            if ended := self.stalled(rounds, barren):
                return ended
            if idle >= IDLE and calls >= IDLE_CALLS:
                return f"{idle} rounds in a row brought no usable prompt"
            parents = self._parents(rounds)
            if not parents:
                return "the budget is spent, or nothing is left to learn"
            failures, alike = self.proposer.count["failures"], self._all_alike()
            children = self._reproduce(parents, rounds)
            barren = 0 if children else barren + 1
            if children:
                idle = calls = 0
            elif not alike and self.proposer.count["failures"] == failures:
                idle, calls = idle + 1, calls + len(parents)
            work = self._tests(children, rounds)
            self.scoreboard.run(work)
            self._learn([prompt for prompt, _ in work])
            rounds += 1

    def _revive(self) -> None:
        """A short test for archived prompts, the likeliest first, within a small part of the budget. Those that it
        does not show to be better than the old population are let go of again."""
        most = int(self.budget * ARCHIVE_SHARE)
        some = self.retried = self.archived[: max(1, most // ARCHIVE_TEST)]
        for prompt in some:
            self.proposer.know(prompt.text)
            self.found.revive(prompt)
        work = [(prompt, self._unmet(prompt, most // len(some))) for prompt in some]
        self.scoreboard.run(work)
        self._learn(some)
        for prompt in some:
            self.found.drop_unless_better(prompt)

    def _baseline(self) -> dict[str, float]:
        """Problem id -> mean reward of the old prompts."""
        rewards: dict[str, list[float]] = {}
        for prompt in self.population.prompts:
            for problem, rollout in self.scoreboard.rollouts(prompt.text).items():
                rewards.setdefault(problem, []).append(rollout.score)
        return {problem: statistics.fmean(scores) for problem, scores in rewards.items()}

    @property
    def _level(self) -> float:
        """Mean reward of the old prompts over all problems; stands in where a problem's own is not known."""
        return statistics.fmean(self.baseline.values()) if self.baseline else 0.0

    def _learn(self, prompts: Sequence[Prompt]) -> None:
        for prompt in prompts:
            self.scoreboard.keep(prompt)
            self.found.tell(prompt, self._gains(prompt))

    def _gains(self, prompt: Prompt) -> dict[str, float]:
        """Problem id -> reward less the old prompts'."""
        level, known = self._level, self.scoreboard.rollouts(prompt.text)
        return {p: r.score - self.baseline.get(p, level) for p, r in known.items()}

    def _room(self, rounds: int) -> int:
        """Rollouts of the coming round: an even part of what is left."""
        left = self.scoreboard.left - 2 * self.plan.evidence
        return left // max(1, self.fast.generations - rounds)

    def _parents(self, rounds: int) -> list[Prompt]:
        """Of the coming round; none if the budget bears no child or nobody has failures to learn from."""
        room, test = self._room(rounds), self.fast.test
        count = self.fast.proposals or min(MAX_CHILDREN, max(1, round(room / (2 * test))))
        able = [c for c in self.found.contenders.values() if self._fails(c.prompt)]
        return [contender.prompt for contender in self.found.draw(able, min(count, room))]

    def _fails(self, prompt: Prompt) -> bool:
        return any(not self.solved(rollout) for rollout in self.scoreboard.rollouts(prompt.text).values())

    def _reproduce(self, parents: Sequence[Prompt], rounds: int) -> list[Prompt]:
        mates = [self._mate(parent) for parent in parents]
        jobs = []
        for slot, (parent, mate) in enumerate(zip(parents, mates, strict=True)):
            records = self._shown(parent, slot, rounds)
            if mate is not None:
                pairs = zip(records, self._shown(mate, slot, rounds), strict=False)
                records = tuple(itertools.chain(*pairs))[: len(records)]
            jobs.append((parent, records))
        children = []
        for child, (parent, records), mate in zip(self.propose(rounds, jobs, mates), jobs, mates, strict=True):
            if child is not None:
                self.found.add(child, parent, [problem.id for problem, _ in read_for(child, records)], mate)
                children.append(child)
        return children

    def _shown(self, parent: Prompt, slot: int, rounds: int) -> Records:
        met = [problem for problem in self.learning if problem.id in self.scoreboard.met(parent.text)]
        random.Random(f"records-{self.seed}-{rounds}-{slot}").shuffle(met)
        return self.records(parent.text, met, slot, rounds)

    def _mate(self, parent: Prompt) -> Prompt | None:
        """A second parent, drawn as the first one is; None if there is no other prompt."""
        if not self.fast.crossover:
            return None
        others = self.found.draw((c for c in self.found.contenders.values() if c.prompt.text != parent.text), 1)
        return others[0].prompt if others else None

    def _tests(self, children: Sequence[Prompt], rounds: int) -> list[tuple[Prompt, list[Problem]]]:
        """Who is rolled out on what: every child, and for the other half of the rollouts the best of those before."""
        room, size = self._room(rounds), self.fast.test
        if children:
            part = 2 if any(c.new and c.gains for c in self.found.contenders.values()) else 1
            size = max(1, room // (part * len(children)))
        again = self.found.survivors(room // size - len(children))
        work = []
        for prompt in [*children, *again]:
            problems = self._unmet(prompt, min(size, room))
            room -= len(problems)
            work.append((prompt, problems))
        return [(prompt, problems) for prompt, problems in work if problems]

    def _unmet(self, prompt: Prompt, most: int) -> list[Problem]:
        """Problems new to this prompt: first such as no reflection on the way to it has read, and of these such as the
        old prompts' rewards are known of."""
        shown, met = self.found.contenders[prompt.text].shown, self.scoreboard.met(prompt.text)
        new = [problem for problem in self.plan.anchors if problem.id not in met]
        random.Random(f"test-{self.seed}-{prompt.digest}-{len(met)}").shuffle(new)
        new.sort(key=lambda problem: (problem.id in shown, problem.id not in self.baseline))
        return new[:most]

    def contest(self) -> tuple[list[Prompt], Prompt, Prompt | None, Margin | None]:
        """A new prompt is carried only if it is better than the old ones on average, or nothing can tell."""
        ranked = self.found.ranked()
        incumbent = self.found.lead(self.found.contenders[self.population.best.text])
        ahead = next((c for c in ranked if c.new and c.gain > incumbent.gain), None)
        self._judge(ranked)
        alike = self._all_alike()
        fit = [c for c in ranked if not c.new or c.gain > 0 or alike]
        picked = [self.scoreboard.prompt(c.prompt.text) for c in fit[: self.settings.config.population]]
        best = self.scoreboard.prompt(incumbent.prompt.text)
        if ahead is None:
            return picked, best, None, None
        return picked, best, self.scoreboard.prompt(ahead.prompt.text), self.found.earned(ahead, incumbent)

    def _all_alike(self) -> bool:
        """Has every rollout the same reward, as while all are 0? Then none tells who is better."""
        texts = self.found.contenders
        return len({r.score for text in texts for r in self.scoreboard.rollouts(text).values()}) <= 1

    def _judge(self, tested: Sequence[Contender]) -> None:
        """Enters into the accounts how the children did against their parents."""
        parents = {c.prompt.digest: c for c in self.found.contenders.values()}
        alike = self._all_alike()
        for child in (c for c in tested if c.prompt.text in self.candidates):
            parent = parents[child.prompt.parents[0]]
            margin = statistics.fmean(child.gains.values()) - statistics.fmean(parent.gains.values())
            error = self.found.difference(child, parent).error if len(child.gains) > 1 else None
            better = "scored" if child.tests > 1 else "outranked"
            verdict = better if margin > 0 or alike else "rejected"
            before = self.candidates[child.prompt.text]
            self.candidates[child.prompt.text] = replace(
                before, verdict=verdict, margin=margin, tested=len(child.gains), error=error
            )

    def mean(self, prompt: Prompt) -> float:
        """As the search believes: the old population's mean reward and this prompt's gain."""
        if not self.plan.feasible:
            return prompt.mean_score
        known = self.found.contenders.get(prompt.text)
        return self._level + (known.gain if known else 0.0)


__all__ = ["HalvingPhase"]
