"""The clock of `fst.fast.when=hybrid`: which phase runs beside the slow steps, from where, and whether it counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from .alongside import ALONGSIDE_FILE, Alongside, Course
from .config import FSTConfig, least_steps
from .optimizer import Evolution
from .phase import FastPhases, PhaseInputs, cycle_folder, seed_of, with_privacy
from .policy import Policy
from .record import sealed
from .record.atomic import set_aside
from .record.calls import CALLS_FILE
from .record.journal import begin_journal
from .record.slow_scores import SlowScores
from .record.state import State
from .rewards import RewardBar
from .rollouts import Cell, Evaluate, Problem, Rollout
from .schedule import Schedule
from .secrets import described


@dataclass
class Hybrid:
    """The phase of the next cycle, if one is under way.

    config, policy, folder, setup, log: as `FastWeights` has them.
    phases: runs them.
    """

    config: FSTConfig
    policy: Policy
    phases: FastPhases
    folder: Path
    setup: str
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        self._running: Alongside | None = None
        self._kept: tuple[Course, Path] | None = None  # of a checkpoint: where the phase stood, and its calls

    @property
    def spent(self) -> dict[str, int]:
        """Rollouts and reflections of the running phase, which are counted for good when its cycle begins."""
        if self._running is None:
            return {}
        journal = self._running.journal
        return {"rollouts_fast": journal.rollouts, "reflection_calls": journal.reflections}

    # -------------------------------------------------------------------------------------------------- save, restore

    def save(self, folder: Path) -> list[str]:
        """Writes the running phase into a checkpoint's folder. Returns the names of the files."""
        return self._running.save(folder) if self._running else []

    def restore(self, folder: Path, parts: Collection[str]) -> None:
        """Inverse of `save`. parts: names of the checkpoint's files."""
        if ALONGSIDE_FILE in parts:
            self._kept = sealed.read(folder / ALONGSIDE_FILE, Course), folder / CALLS_FILE

    # ------------------------------------------------------------------------------------------------------ ask, tell

    def ask(
        self,
        state: State,
        slow: SlowScores,
        step: int,
        problems: Sequence[Problem],
        cycle: Callable[[], Sequence[Problem]],
        last_step: int | None,
        every: int,
    ) -> list[Cell]:
        """See `FastWeights.ask`."""
        if self._running is None and self._worthwhile(state, step, last_step, every):
            self._running = self._begin(state, slow, cycle(), step, every)
        if self._running is None:
            return []
        before = self._running.failure
        cells = self._running.ask(step, [with_privacy(p, self.config.fast.answers) for p in problems])
        if before is None and (error := self._running.failure):
            self.log(
                f"fst: cycle {self._running.course.cycle}: its phase, beside the steps, failed: {described(error)}"
            )
        return cells

    def tell(self, rollouts: Sequence[Rollout]) -> None:
        if self._running:
            self._running.tell(rollouts)

    def taken(self, state: State, slow: SlowScores, cycle: Sequence[Problem]) -> Alongside | None:
        """At the end of a cycle: the phase that ran beside it, if one did. cycle: its problems."""
        if self._kept:  # of a checkpoint between two cycles
            self._running = self._begin(state, slow, cycle, self._end(state) + 1, 1)
        running, self._running = self._running, None
        return running

    def void(self, phase: Alongside) -> None:
        """Lets go of a phase: the coming problems are of another task than those that its prompts were tested on."""
        phase.stop()
        gone, paid = set_aside(phase.journal.folder).name, phase.journal.rollouts
        why = f"fst: cycle {phase.course.cycle} has another task: what evolved beside the last one is void"
        self.log(f"{why} ({paid} rollouts; its record: {gone})")

    def _worthwhile(self, state: State, step: int, last_step: int | None, every: int) -> bool:
        """Will there be another cycle, and is enough of this one left?"""
        if state.cycle_start is None:
            return False
        end = self._end(state)
        another = Schedule(self.config.slow_steps).due(end + 1, state.cycle_start, (), last_step)
        return another and (self._kept is not None or end - step + 1 >= least_steps(every))

    def _end(self, state: State) -> int:
        """The running cycle's last slow step."""
        assert state.cycle_start is not None
        return state.cycle_start + self.config.slow_steps - 1

    def _begin(
        self, state: State, slow: SlowScores, problems: Sequence[Problem], step: int, every: int
    ) -> Alongside | None:
        """The phase for the next cycle, from its beginning or from where the checkpoint has it. step: that comes."""
        cycle = state.cycle + 1
        distinct = {p.id: with_privacy(p, self.config.fast.answers) for p in problems}
        course = Course(cycle, self._end(state), every, tuple(distinct), state.reward_range)
        kept, self._kept = self._kept, None
        if kept:
            course = kept[0]
            lost = sum(one not in distinct for one in course.problems)
            why = f"{lost} of its problems are gone" if lost else ""
            if course.waves and course.waves[-1].until >= step:  # the stack does a part of a step again
                why = f"its checkpoint lies within step {step}"
            if why:
                self.log(f"fst: what evolved for cycle {cycle} is let go of: {why}")
                return None
        inputs = PhaseInputs(
            cycle, seed_of(self.config, cycle), tuple(distinct[one] for one in course.problems), (), ()
        )
        identity = inputs.identity(self.config, state, f"beside cycle {state.cycle}", self.setup)
        folder = cycle_folder(self.folder, cycle)
        journal = begin_journal(folder, identity, kept[1] if kept else None, self.log)
        bar = RewardBar(self.config.fast.perfect_score, course.rewards)

        def phase(beside: Alongside) -> Callable[[Evaluate], Evolution]:
            return self.phases.phase(state.population, inputs, journal, bar, beside)

        return Alongside(course, inputs, state.population, slow, journal, phase, self.policy.generate)


__all__ = ["Hybrid"]
