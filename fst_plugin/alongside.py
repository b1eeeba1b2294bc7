"""The prompts of the next cycle evolve beside the slow steps of this one (`fst.fast.when=hybrid`).

Each slow step carries one batch of the phase: the phase is asked before the step's rollouts go out, and told when they
are in. In between, while the weights are updated, it reflects. It is recorded like any phase: a checkpoint holds the
calls answered so far, and a run that goes on from it makes the same phase of them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .evolve.plan import is_new_task
from .evolving import Evolving
from .optimizer import Evolution
from .phase import PhaseInputs
from .prompts import Population
from .record import sealed
from .record.calls import CALLS_FILE
from .record.journal import Journal
from .record.slow_scores import SlowScores
from .rollouts import Cell, Evaluate, Problem, Rollout, Trace

ALONGSIDE_FILE = "alongside.json"


@dataclass(frozen=True)
class Wave:
    """A batch of the phase.

    step: the slow step that it went out with. until: the one in which it was in.
    problems: ids of those that `step` trains on.
    """

    step: int
    until: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """How far a phase has come, as a checkpoint has it, next to its calls.

    cycle: that its prompts are for.
    last: the running cycle's last slow step.
    every: slow steps that a batch takes until it is in; one without rollouts takes one.
    problems: ids of the running cycle's problems, as they were known when it began.
    rewards: lowest and highest reward that the run had seen then.
    waves: the slow steps that it has been told of.
    """

    cycle: int
    last: int
    every: int
    problems: tuple[str, ...]
    rewards: tuple[float, float] | None = None
    waves: tuple[Wave, ...] = ()


class Alongside:
    """One such phase.

    course: where it stands; more than its beginning if it goes on from a checkpoint.
    inputs: what its optimizer gets; the anchors are the running cycle's problems.
    population: the prompts that it evolves.
    slow: what the running cycle's slow steps have paid for.
    journal: its record.
    begin: makes the phase, given this (an `optimizer.Beside`), see `FastPhases.phase`.
    generate: answers the policy's own reflections; called only from `ask`.
    """

    def __init__(
        self,
        course: Course,
        inputs: PhaseInputs,
        population: Population,
        slow: SlowScores,
        journal: Journal,
        begin: Callable[[Alongside], Callable[[Evaluate], Evolution]],
        generate: Callable[[Any], Any] | None,
    ):
        self.course, self.inputs, self.journal = course, inputs, journal
        self._known, self._population, self._slow = {p.id: p for p in inputs.anchors}, population, slow
        self._waves = list(course.waves)
        self.late = 0
        self._services = {"generate": generate} if generate else {}
        self._coming: Wave | None = None
        self._met: tuple[int, Wave] | None = None  # of the phase's own thread: how many calls before it, and the wave
        self._evolving = Evolving(begin(self))

    # ------------------------------------------------------------------------------------------ who drives the steps

    def ask(self, step: int, problems: Sequence[Problem]) -> list[Cell]:
        """What to roll out beside this slow step; nothing once the phase has ended, or if it would not be in before the
        cycle ends."""
        if step + self.course.every - 1 > self.course.last:
            return []
        self._known = {problem.id: problem for problem in problems} | self._known
        wave = Wave(step, step, tuple(problem.id for problem in problems))
        cells = self._evolving.ask(wave=lambda _: wave, **self._services)
        self._coming = replace(wave, until=step + self.course.every - 1) if cells else wave
        return cells or []

    def tell(self, rollouts: Sequence[Rollout]) -> None:
        """Once the step's slow rollouts are known: how those that were asked for went; nothing if none were."""
        wave, self._coming = self._coming, None
        if wave is not None and not self._evolving.ended:
            self._waves.append(wave)
            self._evolving.tell(rollouts)

    def finish(self, evaluate: Evaluate) -> Evolution:
        """At the end of the cycle. What the phase still asks for is rolled out now, in `late` rollouts. Raises what the
        phase raises."""

        def counted(cells: Sequence[Cell]) -> list[Rollout]:
            self.late += len(cells)
            return evaluate(cells)

        return self._evolving.finish(
            counted, wave=lambda _: Wave(self.course.last + 1, self.course.last + 1, ()), **self._services
        )

    def is_out_of_date(self, coming: Sequence[Problem]) -> bool:
        """Are most of the coming problems of another task?"""
        return is_new_task(list(self._known.values()), coming)

    @property
    def failure(self) -> BaseException | None:
        return self._evolving.failure

    def stop(self) -> None:
        self._evolving.stop()

    def save(self, folder: Path) -> list[str]:
        """Writes where the phase stands into a checkpoint's folder. Returns the names of the files."""
        while self.journal.batches < len(self._waves) and self._evolving.alive:
            time.sleep(0.001)  # the phase is recording what it was told
        waves = tuple(self._waves[: self.journal.batches])
        sealed.write(folder / ALONGSIDE_FILE, asdict(replace(self.course, waves=waves)))
        self.journal.copy_calls(folder / CALLS_FILE)
        return [ALONGSIDE_FILE, CALLS_FILE]

    # --------------------------------------------------------------------------- within the phase's own thread: Beside

    def problems(self) -> list[Problem]:
        return [self._known[one] for one in self._wave().problems]

    def left(self) -> int:
        calls, end = self.journal.batches, self.course.last + 1
        if calls < len(self._waves) or (self._met and self._met[0] == calls):
            coming = self._wave().step
        else:
            coming = self._waves[-1].until + 1 if self._waves else end
        return max(0, end - coming) // self.course.every

    def traces(self) -> list[Trace]:
        seen = self._waves[: self.journal.batches]
        after = seen[-1].until + 1 if seen else 0
        entries = [entry for entry in list(self._slow.entries) if entry.step < after]
        return SlowScores(entries).traces(self._population, list(self._known.values()), step=after, max_age=None)

    def _wave(self) -> Wave:
        """The one that the next call of `evaluate` goes out with."""
        calls = self.journal.batches
        if calls < len(self._waves):
            return self._waves[calls]  # answered before a restart
        if self._met is None or self._met[0] != calls:
            self._met = (calls, self._evolving.call("wave", None))
        return self._met[1]


__all__ = ["ALONGSIDE_FILE", "Alongside", "Course", "Wave"]
