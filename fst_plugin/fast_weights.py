"""The fast weights of one run: when they evolve, what is let in, and how they survive.

An adapter (one per RL stack) owns the slow weights and calls, before every slow step, `due` and, where it says yes,
`evolve`. Everything else - the journal of a running phase, the budget, the checks on what an optimizer hands back, the
durable state - is here, once for all stacks.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import state as durable
from .config import FSTConfig
from .factory import Policy, build_optimizer
from .journal import Journal, JournalMismatch
from .optimizer import Evolution
from .prompts import Population, Prompt, text_digest
from .rollouts import Evaluate, Problem
from .schedule import Schedule
from .state import State


class FastPhaseFailed(RuntimeError):
    """A fast phase failed and the config does not allow training to go on without it."""


@dataclass
class FastWeights:
    """State of the fast weights, and the verbs that move it.

    config: the run's `fst` node. state: where they stand. policy: what the adapter knows of the model.
    folder: live folder of the run; every finished cycle leaves its record there. log: where lines for people go.
    """

    config: FSTConfig
    state: State
    policy: Policy
    folder: Path
    log: Callable[[str], None] = print

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

    def due(self, step: int) -> bool:
        """Does a fast phase run before this slow step?"""
        return Schedule(self.config.slow_steps).due(step, self.state.cycle_start)

    def evolve(self, step: int, weights: str, problems: Sequence[Problem], evaluate: Evaluate) -> dict[str, float]:
        """Runs the fast phase of a new cycle that begins with slow step `step`, and returns its metrics.

        weights: names the slow weights that do the rollouts; a phase that was killed resumes from its journal only on
        the same weights, population, anchors and settings. problems: the cycle's problems; repeats count once.
        Raises FastPhaseFailed where the phase failed and `fst.fast.max_failed_phases` is used up.
        """
        began = time.monotonic()
        cycle = self.state.cycle + 1
        anchors = self._anchors(problems)
        folder = self.folder / f"cycle_{cycle:04d}"
        journal = self._journal(folder, weights, anchors)
        evolution = journal.finished()
        if evolution is not None:
            self.log(f"fst: cycle {cycle}: taken over from {folder.name}, finished before the restart")
        else:
            evolution = self._phase(journal, anchors, evaluate, cycle)
        for line in evolution.warnings:
            self.log(f"fst: cycle {cycle}: warning: {line}")
        population = self._admit(evolution.population)
        metrics = dict(evolution.metrics)
        self.state = replace(self.state, population=population, cycle=cycle, cycle_start=step, weights=weights).count(
            rollouts_fast=int(metrics.get("rollouts", 0)),
            reflection_calls=int(metrics.get("reflection_calls", 0)),
            reflection_failures=int(metrics.get("reflection_failures", 0)),
        )
        durable.save(self.state, self.folder)
        metrics["seconds"] = time.monotonic() - began
        self.log(
            f"fst: cycle {cycle}: {int(metrics.get('rollouts', 0))} rollouts on {len(anchors)} anchors,"
            f" best {metrics.get('anchor_best', float('nan')):.3f}, {len(population)} prompts"
        )
        return metrics

    def _anchors(self, problems: Sequence[Problem]) -> list[Problem]:
        distinct = list({p.id: p for p in problems}.values())
        return distinct[: self.config.fast.anchors or len(distinct)]

    def _journal(self, folder: Path, weights: str, anchors: Sequence[Problem]) -> Journal:
        identity = {
            "weights": weights,
            "population": self.population.digest,
            "anchors": text_digest("\n".join(a.id for a in anchors)),
            "settings": text_digest(self.config.model_dump_json()),
        }
        try:
            return Journal(folder, identity)
        except JournalMismatch as mismatch:  # a phase of other weights: worth nothing now
            self.log(f"fst: discarding {folder.name}: {mismatch}")
            shutil.rmtree(folder)
            return Journal(folder, identity)

    def _phase(self, journal: Journal, anchors: Sequence[Problem], evaluate: Evaluate, cycle: int) -> Evolution:
        optimizer = build_optimizer(self.config, self.policy, len(anchors), journal.reflection, self.log)
        seed = self.config.seed * 1_000_003 + cycle  # another minibatch order in every cycle
        try:
            evolution = optimizer.evolve(self.population, anchors, journal.evaluate(evaluate), cycle=cycle, seed=seed)
        except Exception as error:
            failed = self.state.counters.failed_phases + 1
            if failed > self.config.fast.max_failed_phases:
                raise FastPhaseFailed(
                    f"fast phase {cycle} failed: {error} (its record: {journal.folder}; to let training go on with the"
                    " old population, raise fst.fast.max_failed_phases)"
                ) from error
            self.state = self.state.count(failed_phases=1)
            return Evolution(self.population, {"phase_failed": 1.0}, (f"failed: {error}; the old population stays",))
        if journal.replayed:
            self.log(f"fst: cycle {cycle}: {journal.replayed} calls answered from the record of before the restart")
        self.state = self.state.count(failed_phases=-self.state.counters.failed_phases)  # consecutive ones count
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
