"""One fast phase: what it is given, the identity under which its record is valid, and what becomes of a failure."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .config import FSTConfig
from .evolve import admission
from .evolve.build import build_optimizer
from .evolve.outcome import checked
from .evolve.scoreboard import RolloutsFailed
from .optimizer import Beside, Evolution, takes
from .policy import Policy
from .prompts import Population, Prompt, shown, text_digest
from .record.atomic import set_aside
from .record.cycles import write_cycle
from .record.journal import Journal
from .record.problems import write_problems
from .record.slow_scores import SlowScores, traces_digest
from .record.state import State
from .reflection.base import Reflection, ReflectionFailed
from .rewards import RewardBar
from .rollouts import Evaluate, Problem, Trace
from .secrets import described, redact

OUTCOME_NEUTRAL: dict[str, Any] = {
    "validate_seed": True,
    "drift": True,
    "schedule": True,
    "fast": {"max_failed_phases"},
    "reflection": {"timeout_s", "retries", "concurrency"},
}
"""Settings that do not decide a phase's outcome: its journal stays valid when they change."""


class FastPhaseFailed(RuntimeError):
    """A fast phase failed and the config does not allow training to go on without it."""


@dataclass(frozen=True)
class PhaseInputs:
    """What the optimizer of one fast phase gets besides the population.

    cycle: 0-based number of the cycle that it begins.
    seed: another one in every cycle, so that minibatches come in another order.
    anchors: the coming cycle's problems, each once, at most `fst.fast.anchors`.
    traces: the last cycle's problems and how the carried prompts did on them.
    archived: earlier prompts to try again.
    """

    cycle: int
    seed: int
    anchors: tuple[Problem, ...]
    traces: tuple[Trace, ...]
    archived: tuple[Prompt, ...]

    @classmethod
    def gather(
        cls,
        config: FSTConfig,
        state: State,
        slow: SlowScores,
        step: int,
        problems: Sequence[Problem],
        recent: Sequence[Problem],
    ) -> PhaseInputs:
        """For the cycle that begins with slow step `step`. problems, recent: see `FastWeights.evolve`."""
        fast, cycle = config.fast, state.cycle + 1
        distinct = list({p.id: with_privacy(p, fast.answers) for p in problems}.values())
        known = [with_privacy(p, fast.answers) for p in recent]
        return cls(
            cycle,
            seed_of(config, cycle),
            tuple(distinct[: fast.anchors or len(distinct)]),
            tuple(slow.traces(state.population, known, step=step, max_age=fast.max_score_age)),
            state.archive.candidates(state.population, distinct)[: fast.archive],
        )

    def identity(self, config: FSTConfig, state: State, weights: str, setup: str) -> dict[str, str]:
        """Names everything that decides the phase's outcome. weights, setup: see `FastWeights`."""
        return {
            "weights": weights,
            "population": state.population.digest,
            "archived": text_digest("\n".join(p.digest for p in self.archived)),
            "anchors": text_digest("\n".join(a.id for a in self.anchors)),
            "slow_scores": traces_digest(self.traces),
            "settings": text_digest(config.model_dump_json(exclude=OUTCOME_NEUTRAL)),
            "setup": setup,
            "rewards": repr(state.reward_range),
        }


class FastPhases:
    """Runs the fast phases of one run, each with an optimizer of its own.

    config, policy, reflection, log: as `FastWeights` has them.
    """

    def __init__(self, config: FSTConfig, policy: Policy, reflection: Reflection, log: Callable[[str], None]):
        self.config, self.policy, self.reflection, self.log = config, policy, reflection, log
        self._told_of_archive = False

    def run(
        self,
        population: Population,
        inputs: PhaseInputs,
        journal: Journal,
        evaluate: Evaluate,
        *,
        bar: RewardBar,
        failed: int,
    ) -> Evolution:
        """One phase, to its end. What it paid for and came to is in `journal`.

        bar: from which reward on an answer is solved, as far as the run knows.
        failed: how many phases have failed right before this one.

        Returns the old population, with the metric `phase_failed`, if the phase failed and the config allows for that.
        Raises FastPhaseFailed if it does not.
        """

        def evolve() -> Evolution:
            return self.phase(population, inputs, journal, bar)(evaluate)

        return self.concluded(evolve, population, inputs, journal, failed, inputs.anchors)

    def phase(
        self,
        population: Population,
        inputs: PhaseInputs,
        journal: Journal,
        bar: RewardBar,
        beside: Beside | None = None,
    ) -> Callable[[Evaluate], Evolution]:
        """A phase that has yet to be given its `evaluate`. beside: of one that runs beside slow steps."""

        def evolve(evaluate: Evaluate) -> Evolution:
            reflection = journal.reflection(self.reflection)
            optimizer: Any = build_optimizer(self.config, self.policy, reflection, self.log, bar)
            archived = self._archived_for(optimizer, inputs)
            more: dict[str, Any] = {"archived": archived} if archived else {}
            if beside is not None and takes(optimizer, "beside"):
                more["beside"] = beside
            found = optimizer.evolve(
                population,
                list(inputs.anchors),
                journal.evaluate(evaluate),
                cycle=inputs.cycle,
                seed=inputs.seed,
                traces=list(inputs.traces),
                **more,
            )
            evolution = checked(found, self.config.fast.path)
            revived = {p.digest for p in archived} & {p.digest for p in evolution.population.prompts}
            figures = {"archived_offered": float(len(archived)), "archived_revived": float(len(revived))}
            return replace(evolution, metrics={**evolution.metrics, **figures})

        return evolve

    def concluded(
        self,
        evolve: Callable[[], Evolution],
        population: Population,
        inputs: PhaseInputs,
        journal: Journal,
        failed: int,
        coming: Sequence[Problem],
    ) -> Evolution:
        """What `evolve` comes to, recorded; as `run`. coming: the problems of the slow steps that follow."""
        try:
            evolution = evolve()
        except Exception as error:
            return self._failed(population, inputs.cycle, journal, error, failed)
        evolution = admission.readable(evolution, population)
        if journal.replayed:
            how = f"{journal.replayed} calls answered from the record made before the restart"
            self.log(f"fst: cycle {inputs.cycle}: {how}")
        parts = write_cycle(journal.folder, population, evolution)
        met = [*inputs.anchors, *(trace.problem for trace in inputs.traces)]
        parts |= write_problems(journal.folder, evolution.population, met, coming)
        journal.finish(evolution, parts)
        return evolution

    def _archived_for(self, optimizer: Any, inputs: PhaseInputs) -> tuple[Prompt, ...]:
        """The archived prompts that this optimizer gets: none if it does not take any, which is said once."""
        if not inputs.archived or takes(optimizer, "archived"):
            return inputs.archived
        if not self._told_of_archive:
            self.log(
                f"fst: {type(optimizer).__name__}.evolve has no parameter `archived`: earlier prompts are kept"
                f" ({len(inputs.archived)} by now) but never tried again; add it, or set fst.fast.archive=0"
            )
        self._told_of_archive = True
        return ()

    def _failed(self, population: Population, cycle: int, journal: Journal, error: Exception, failed: int) -> Evolution:
        """The old population if the config allows for this failure; else raises FastPhaseFailed."""
        why, folder = f"failed: {described(error, 1000)}", journal.folder
        if isinstance(error, (ReflectionFailed, RolloutsFailed)):  # the record would answer a new start with it again
            folder = set_aside(folder)
        else:
            self.log(shown(redact("".join(traceback.format_exception(error)))))
        if failed >= self.config.fast.max_failed_phases:
            raise FastPhaseFailed(
                f"fast phase {cycle} {why} (its record: {folder}; to let training go on with the"
                " old population, raise fst.fast.max_failed_phases)"
            ) from None  # the cause's own traceback, redacted, is in the log
        spent = {"rollouts": float(journal.rollouts), "reflection_calls": float(journal.reflections)}
        if isinstance(error, ReflectionFailed):
            spent["reflection_failures"] = spent["reflection_calls"]
        return Evolution(population, {"phase_failed": 1.0, **spent}, (f"{why}; the old population stays",))


def seed_of(config: FSTConfig, cycle: int) -> int:
    """Seed of a cycle's fast phase."""
    return config.seed * 1_000_003 + cycle


def cycle_folder(folder: Path, cycle: int) -> Path:
    """Of a run's folder, the one of a cycle's fast phase."""
    return folder / f"cycle_{cycle:04d}"


def with_privacy(problem: Problem, said: str) -> Problem:
    """With its answer private or shared as `fst.fast.answers` says."""
    return problem if said == "auto" else replace(problem, private=said == "private")


__all__ = ["OUTCOME_NEUTRAL", "FastPhaseFailed", "FastPhases", "PhaseInputs", "cycle_folder", "seed_of", "with_privacy"]
