"""When the fast phase runs: before the first slow step of every cycle of T slow steps (paper Algorithm 1).

Beside the fixed T, an adaptive one: a cycle ends when the moving mean of its rewards has not set a new best for some
steps, within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Cycles of `slow_steps` = T RL steps; steps count from 1, as verl counts them.

    patience: None: fixed cycles. Else cycles end after `patience` steps without a new best moving mean (of `window`
    steps) of the reward, but last at least `min_steps` and at most `max_steps` steps.
    """

    slow_steps: int
    patience: int | None = None
    window: int = 1
    min_steps: int = 1
    max_steps: int = 1

    @property
    def guaranteed_steps(self) -> int:
        """Slow steps that every cycle has."""
        return self.slow_steps if self.patience is None else self.min_steps

    def due(
        self, step: int, cycle_start: int | None, rewards: Sequence[float] = (), last_step: int | None = None
    ) -> bool:
        """Is a fast phase due before `step`? Not where less than half a cycle would be left to use it (ours).

        cycle_start: first step of the running cycle, None before the first.
        rewards: mean reward of each slow step of the cycle.
        last_step: of the run; None: not known.
        """
        if cycle_start is None:
            return True
        if last_step is not None and 2 * (last_step - step + 1) < self.guaranteed_steps:
            return False
        done = step - cycle_start
        if self.patience is None:
            return done >= self.slow_steps
        return done >= self.max_steps or (done >= self.min_steps and stalled(rewards, self.window, self.patience))


def stalled(values: Sequence[float], window: int, patience: int) -> bool:
    """Have the last `patience` moving means of `window` values set no new best?"""
    means = [sum(values[i - window : i]) / window for i in range(window, len(values) + 1)]
    return len(means) > patience and max(means[-patience:]) <= max(means[:-patience])
