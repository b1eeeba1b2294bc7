"""When the fast phase runs: before the first slow step of every cycle of T slow steps (paper Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Cycles of `slow_steps` = T RL steps; steps count from 1, as verl counts them."""

    slow_steps: int

    def due(self, step: int, cycle_start: int | None) -> bool:
        """Is a fast phase due before `step`? `cycle_start`: first step of the running cycle, None before the first."""
        return cycle_start is None or step - cycle_start >= self.slow_steps
