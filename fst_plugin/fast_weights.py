"""The fast weights of one run: when they evolve, what is let in, and how they survive.

An adapter (one per RL stack) owns the slow weights and calls, before every slow step, `due` and, where it says yes,
`evolve`; after the step's rollouts, `observe`. Everything else - the journal of a running phase, the budget, the checks
on what an optimizer hands back, the slow phase's scores, the durable state - is here, once for all stacks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .config import FSTConfig
from .evolve.build import build_optimizer
from .optimizer import Evolution
from .policy import Policy
from .prompts import Population, Prompt, text_digest
from .record import state as durable
from .record.atomic import set_aside
from .record.cycles import write_cycle
from .record.journal import Journal, JournalMismatch
from .record.slow_scores import SlowScores, traces_digest
from .record.state import State
from .reflection.base import ReflectionRequest
from .reflection.build import build_reflection
from .reflection.draft import Drafted
from .rollouts import Evaluate, Problem, Rollout, Trace
from .schedule import Schedule

OUTCOME_NEUTRAL: dict[str, Any] = {
    "validate_seed": True,
    "drift": True,
    "schedule": True,
    "fast": {"max_failed_phases"},
    "reflection": {"timeout_s", "retries", "concurrency", "draft"},
}
"""Settings that do not decide a phase's outcome: changing them does not cost its record."""


class FastPhaseFailed(RuntimeError):
    """A fast phase failed and the config does not allow training to go on without it."""


@dataclass
class FastWeights:
    """State of the fast weights, and the verbs that move it.

    config: the run's `fst` node. state: where they stand. policy: what the adapter knows of the model.
    folder: live folder of the run; every finished cycle leaves its record there. log: where lines for people go.
    slow: what the running cycle's slow steps have paid for. world: names what else decides how a rollout goes (reward
    function, sampling, data settings); a phase's record is good for one world only.
    """

    config: FSTConfig
    state: State
    policy: Policy
    folder: Path
    log: Callable[[str], None] = print
    slow: SlowScores = field(default_factory=SlowScores)
    world: str = ""

    def __post_init__(self) -> None:
        self._drafted: Drafted | None = None

    @classmethod
    def fresh(
        cls, config: FSTConfig, policy: Policy, folder: Path, *, seed_prompt: Prompt, dataset_digest: str, weights: str
    ) -> FastWeights:
        """Fast weights before the first cycle: one seed prompt, not K copies (paper Algorithm 1)."""
        start = State(Population((seed_prompt,)), seed_prompt.digest, dataset_digest, weights)
        return cls(config, start, policy, folder)

    @property
    def population(self) -> Population:
        return self.state.population

    @property
    def seed_text(self) -> str:
        return self.policy.seed_prompt

    @property
    def schedule(self) -> Schedule:
        spec = self.config.schedule
        if spec.kind == "fixed":
            return Schedule(self.config.slow_steps)
        return Schedule(self.config.slow_steps, spec.patience, spec.window, spec.min_steps, spec.max_steps)

    def due(self, step: int) -> bool:
        """Does a fast phase run before this slow step?"""
        return self.schedule.due(step, self.state.cycle_start, self.state.rewards)

    def observe(self, step: int, weights: str, rollouts: Sequence[tuple[str, str, Rollout]]) -> None:
        """Takes in what slow step `step` rolled out with `weights`: (problem id, prompt digest, rollout) each."""
        valid = [r.score for _, _, r in rollouts if r.error is None and math.isfinite(r.score)]
        if valid:
            self.state = replace(self.state, rewards=(*self.state.rewards, sum(valid) / len(valid)))
        if self.config.fast.free_scores:
            self.slow.add(step, weights, rollouts)

    def draft(self, step: int, problems: Sequence[Problem], recent: Sequence[Problem]) -> bool:
        """Asks the reflection, in the background, for the first prompts of the fast phase before `step`. Arguments as
        `evolve` will have them. Returns whether anything was asked for."""
        traces = self._traces(step, recent)
        anchors = self._anchors(problems)
        requests = _first_requests(self.config, self.policy, self.population, anchors, traces, self._seed())
        if requests:
            self._drafted = Drafted(build_reflection(self.config, self.policy))
            self._drafted.start(requests)
        return bool(requests)

    def evolve(
        self, step: int, weights: str, problems: Sequence[Problem], evaluate: Evaluate, recent: Sequence[Problem] = ()
    ) -> dict[str, float]:
        """Runs the fast phase of a new cycle that begins with slow step `step`, and returns its metrics.

        weights: names the slow weights that do the rollouts; a phase that was killed resumes from its journal only on
        the same weights, population, problems, slow scores and settings. problems: the coming cycle's problems; repeats
        count once. recent: the last cycle's problems, where `evaluate` can still run them: their slow scores are used.
        Raises FastPhaseFailed where the phase failed and `fst.fast.max_failed_phases` is used up.
        """
        began = time.monotonic()
        cycle = self.state.cycle + 1
        anchors, traces = self._anchors(problems), self._traces(step, recent)
        folder = self.folder / f"cycle_{cycle:04d}"
        journal = self._journal(folder, weights, anchors, traces)
        evolution = journal.finished()
        if evolution is not None:
            self.log(f"fst: cycle {cycle}: taken over from {folder.name}, finished before the restart")
            self.state = self.state.count(failed_phases=-self.state.counters.failed_phases)
        else:
            evolution = self._phase(journal, anchors, traces, evaluate, cycle)
        for line in evolution.warnings:
            self.log(f"fst: cycle {cycle}: warning: {line}")
        population = self._admit(evolution.population)
        metrics = dict(evolution.metrics)
        started = replace(self.state, population=population, cycle=cycle, cycle_start=step, weights=weights, rewards=())
        self.state = started.count(
            rollouts_fast=int(metrics.get("rollouts", 0)),
            reflection_calls=int(metrics.get("reflection_calls", 0)),
            reflection_failures=int(metrics.get("reflection_failures", 0)),
        )
        self.slow, self._drafted = SlowScores(), None
        durable.save(self.state, self.folder)
        metrics["seconds"] = time.monotonic() - began
        self.log(
            f"fst: cycle {cycle}: {int(metrics.get('rollouts', 0))} rollouts, {len(traces)} problems with slow scores,"
            f" best {metrics.get('anchor_best', float('nan')):.3f}, {len(population)} prompts"
        )
        return metrics

    def _seed(self) -> int:
        return self.config.seed * 1_000_003 + self.state.cycle + 1  # another minibatch order in every cycle

    def _traces(self, step: int, recent: Sequence[Problem]) -> list[Trace]:
        age = self.config.fast.max_score_age
        return self.slow.traces(self.population, recent, step=step, max_age=age)

    def _anchors(self, problems: Sequence[Problem]) -> list[Problem]:
        distinct = list({p.id: p for p in problems}.values())
        return distinct[: self.config.fast.anchors or len(distinct)]

    def _journal(self, folder: Path, weights: str, anchors: Sequence[Problem], traces: Sequence[Trace]) -> Journal:
        identity = {
            "weights": weights,
            "population": self.population.digest,
            "anchors": text_digest("\n".join(a.id for a in anchors)),
            "slow_scores": traces_digest(traces),
            "settings": text_digest(self.config.model_dump_json(exclude=OUTCOME_NEUTRAL)),
            "world": self.world,
        }
        for later in sorted(folder.parent.glob("cycle_*")):
            if later.name > folder.name:  # of a run that went further from here
                self.log(f"fst: {later.name} is of another run: moved to {set_aside(later).name}")
        try:
            return Journal(folder, identity)
        except JournalMismatch as mismatch:  # a phase of other weights: worth nothing now
            self.log(f"fst: discarding {folder.name}, moved to {set_aside(folder).name}: {mismatch}")
            return Journal(folder, identity)

    def _phase(
        self, journal: Journal, anchors: Sequence[Problem], traces: Sequence[Trace], evaluate: Evaluate, cycle: int
    ) -> Evolution:
        try:
            reflection = journal.reflection(self._drafted or build_reflection(self.config, self.policy))
            optimizer = build_optimizer(self.config, self.policy, len(anchors), reflection, self.log)
            evolution = optimizer.evolve(
                self.population, anchors, journal.evaluate(evaluate), cycle=cycle, seed=self._seed(), traces=traces
            )
        except Exception as error:
            failed = self.state.counters.failed_phases + 1
            if failed > self.config.fast.max_failed_phases:
                raise FastPhaseFailed(
                    f"fast phase {cycle} failed: {error} (its record: {journal.folder}; to let training go on with the"
                    " old population, raise fst.fast.max_failed_phases)"
                ) from error
            self.state = self.state.count(failed_phases=1)
            spent = {"rollouts": float(journal.rollouts), "reflection_calls": float(journal.reflections)}
            lines = (f"failed: {error}; the old population stays",)
            return Evolution(self.population, {"phase_failed": 1.0, **spent}, lines)
        if journal.replayed:
            self.log(f"fst: cycle {cycle}: {journal.replayed} calls answered from the record of before the restart")
        self.state = self.state.count(failed_phases=-self.state.counters.failed_phases)  # consecutive ones count
        write_cycle(journal.folder, self.population, evolution)
        journal.finish(evolution)
        return evolution

    def _admit(self, population: Population) -> Population:
        """What any optimizer hands back, less prompts that must never be sent; the old ones where none is left."""
        kept = []
        for prompt in population.prompts[: self.config.population]:
            reason = self.policy.refuse(prompt.text)
            if reason is None or prompt.text in {p.text for p in self.population.prompts}:
                kept.append(prompt)
            else:
                self.log(f"fst: prompt {prompt.digest} refused: {reason}")
        return Population(tuple(kept)) if kept else self.population

    def metrics(self) -> dict[str, float]:
        """Figures that every step logs, as `fst/<name>`."""
        counters: Any = self.state.counters
        return {
            "cycle": self.state.cycle,
            "population": len(self.population),
            "rollouts_fast_total": counters.rollouts_fast,
            "rollouts_slow_total": counters.rollouts_slow,
            "reflection_calls_total": counters.reflection_calls,
            "reflection_failures_total": counters.reflection_failures,
            "prompt_tokens_best": self.policy.count_tokens(self.population.best.text),
            "prompt_tokens_max": max(self.policy.count_tokens(p.text) for p in self.population.prompts),
        }


class _Asked(BaseException):
    """Ends a dry run at its first reflection; not an Exception, so that nothing takes it for a failure."""


def _first_requests(
    config: FSTConfig,
    policy: Policy,
    population: Population,
    anchors: Sequence[Problem],
    traces: Sequence[Trace],
    seed: int,
) -> list[ReflectionRequest]:
    """What a phase with free scores asks its reflection first, found by running it up to there; empty where it would
    pay for rollouts before."""
    asked: list[ReflectionRequest] = []

    class Listening:
        def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
            asked.extend(requests)
            raise _Asked

        def describe(self) -> str:
            return "a dry run"

    def evaluate(cells: Any) -> Any:
        raise _Asked

    optimizer = build_optimizer(config, policy, len(anchors), Listening(), lambda line: None)
    try:
        optimizer.evolve(population, anchors, evaluate, cycle=0, seed=seed, traces=traces)
    except _Asked:
        pass
    return asked
