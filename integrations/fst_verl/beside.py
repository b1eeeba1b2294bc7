"""Rollouts beside a slow step (`fst.fast.when=hybrid`): sent behind the step's own, and gathered when those are done.

They go through the "val" partition, so that no training batch, advantage or length of the step's own ever sees them.
What is not done within `fst.fast.grace` is cut off, and nobody looks at it any more: in sync mode, where the servers go
to sleep then, its requests are aborted, and later ones wait until they are awake; elsewhere the servers finish it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from fst_plugin.fast_weights import FastWeights
from fst_plugin.rollouts import Cell, Problem, Rollout

from . import transfer
from .assignment import CONTEXT_LOOP
from .fast_rollouts import FastRollouts
from .lookahead import LookAhead

LATE = "cut off: it was not done soon enough after the rollouts of its step (fst.fast.grace)"


class Beside:
    """What is under way beside the running step.

    trainer: a verl V1 trainer inside `fit`.
    rollouts: makes the rows.
    look_ahead: has the running cycle's problems.
    grace: see `fst.fast.grace`.
    cut: how many rollouts were cut off in the last step.
    seconds: how long the last step waited for others.
    """

    def __init__(self, trainer: Any, rollouts: FastRollouts, look_ahead: LookAhead, grace: float):
        self.trainer, self.rollouts, self.look_ahead, self.grace = trainer, rollouts, look_ahead, grace
        self.cut, self.seconds = 0, 0.0
        self._sent: deque[tuple[str, int]] = deque()  # problems sent and not yet trained on, and in which cycle
        self._ahead: int | None = None  # how many problems verl rolls out ahead of the training
        self._cells: list[Cell] = []
        self._uids: list[str] = []
        self._found: list[Rollout] | None = None  # of these cells
        self._left: set[str] = set()  # rows that were cut off and may still be under way
        self._step, self._began, self._aborted = 0, 0.0, False

    @property
    def every(self) -> int:
        """Steps that rollouts take until they are in. Where verl rolls out ahead, a step is over before those that were
        sent last; they have the next one, too."""
        return 1 if self.trainer.trainer_mode == "sync" else 2

    def note(self, problems: Sequence[str], cycle: int) -> None:
        """These problems (ids) are sent to be trained on, under the prompts of this cycle."""
        self._sent += [(problem, cycle) for problem in problems]

    def send(self, fst: FastWeights) -> None:
        """Once a step's own rollouts are sent: those that its fast weights want beside them."""
        if self._part() != 0:
            return
        self._sweep()
        problems = self._trained_now(fst.state.cycle)
        self.cut, self.seconds = 0, 0.0
        if self._cells:  # those of the step before are under way
            return
        step, last, ahead = self.trainer.global_steps, self.trainer.total_training_steps, self.look_ahead
        self._step, self._began, self._found = step, time.monotonic(), None
        self._cells = fst.ask(step, problems, lambda: [*ahead.recent(), *ahead.pending()], last, self.every)
        if any(cell.problem.id not in self.rollouts.row_of for cell in self._cells):
            self.rollouts.open(ahead.chunks())
        if self._cells:
            batch, columns = self.rollouts.rows(self._cells)
            self._uids = transfer.send(self.trainer, batch, CONTEXT_LOOP, columns, group=1)

    def gather(self) -> None:
        """Once a step's own rollouts are done, before its servers may go to sleep."""
        if self.every == 1:
            self._sent.clear()  # sent since in place of groups that were filtered out: they are of this step
        if self._cells and self.is_last_part() and self._is_due():
            began = time.monotonic()
            self._collect(within=self.grace * (began - self._began))
            self.seconds = time.monotonic() - began

    def _is_due(self) -> bool:
        return self.trainer.global_steps >= self._step + self.every - 1

    def _collect(self, within: float) -> None:
        if self._found is not None:
            return
        late = transfer.wait_for(self._uids, transfer.workers(self.trainer), within)
        done = transfer.take([uid for uid in self._uids if uid not in late])
        self._found = self.rollouts.results(self._cells, self._uids, done, unless=LATE)
        self.cut = len(late)
        if late:
            self._cut_off(late)

    def done(self) -> list[Rollout] | None:
        """How the cells went, one Rollout each, in order; handed out once. None while they are under way."""
        if self._cells and not self._is_due():
            return None
        found, self._found, self._cells = self._found or [], None, []
        return found

    def is_last_part(self) -> bool:
        """verl may train on a step's batch in parts."""
        return self._part() == getattr(self.trainer, "parameter_sync_step", 1) - 1

    def _part(self) -> int:
        return getattr(self.trainer, "local_trigger_step", 0)

    def _trained_now(self, cycle: int) -> list[Problem]:
        """The problems that this step trains on, as far as can be told: those sent for it, or where verl rolls out
        ahead, those sent before. None if most were rolled out under the prompts of another cycle."""
        if self._ahead is None:
            self._ahead = max(0, len(self._sent) - self.trainer.config.data.train_batch_size)
        some = [self._sent.popleft() for _ in range(len(self._sent) - self._ahead)]
        now = [problem for problem, sent in some if sent == cycle]
        if 2 * len(now) < len(some):
            return []
        known = {problem.id: problem for problem in self.look_ahead.recent()}
        return [known[one] for one in dict.fromkeys(now) if one in known]

    def reopen(self) -> None:
        """After the step, when the servers are awake with new weights: they take requests again."""
        if self._aborted:
            self.trainer.checkpoint_manager.resume_generation_replicas()
            self._aborted = False

    def clear(self) -> None:
        """Before a validation, which would take whatever is in its partition for its own."""
        if self._cells:
            self._collect(math.inf)
        transfer.wait_for(self._left, transfer.workers(self.trainer))
        self._sweep()

    def _cut_off(self, late: set[str]) -> None:
        self._left |= late
        if self.trainer.trainer_mode == "sync":
            self.trainer.checkpoint_manager.abort_replicas()
            self._aborted = True

    def _sweep(self) -> None:
        """Takes what has ended of the rows cut off out of the queue."""
        if self._left:
            ended = self._left - transfer.wait_for(self._left, within=0.0)
            transfer.clear(transfer.take(list(ended)))
            self._left -= ended
