"""What a run cost, step by step, and what that is per slow step and per rollout.

Costs are what the run itself recorded. A figure that it did not record is None, and a sum over it is None too: a total
that leaves something out would read as a saving. Validation is not a training cost: its seconds are reported, its
rollouts are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .run import Run

PHASES = {
    "fast phase": ("fst/seconds",),
    "rollouts": ("timing_s/gen",),
    "log-probabilities": ("timing_s/old_log_prob", "timing_s/ref"),
    "update": ("timing_s/update_actor", "timing_s/update_critic"),
    "weight sync": ("timing_s/update_weights",),
    "validation": ("timing_s/testing",),
    "checkpoint": ("timing_s/save_checkpoint",),
}
"""Phase -> the logged seconds that it is the sum of. The rest of verl's `timing_s/step` is "other"."""


@dataclass(frozen=True)
class Row:
    """What one slow step cost. tokens: generated, not read. seconds: phase -> wall seconds."""

    step: int
    slow_rollouts: int | None
    fast_rollouts: int
    tokens_slow: float | None
    tokens_fast: float | None
    reflection_calls: int
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def rollouts(self) -> int | None:
        return None if self.slow_rollouts is None else self.slow_rollouts + self.fast_rollouts


@dataclass(frozen=True)
class Costs:
    """A run's rows, oldest first. `before`: steps that the log does not hold (a resumed run's), 0 if it is whole."""

    rows: tuple[Row, ...]
    before: int = 0

    def sum(self, name: str) -> float | None:
        """Sum of a Row's figure over the run; None if a step did not record it."""
        return _sum([getattr(row, name) for row in self.rows])

    def seconds(self) -> dict[str, float]:
        """Phase -> wall seconds of the run, in the order of PHASES."""
        logged = [name for name in (*PHASES, "other") if any(name in row.seconds for row in self.rows)]
        return {name: sum(row.seconds.get(name, 0.0) for row in self.rows) for name in logged}

    def per(self, value: float | None) -> dict[str, float | None]:
        """A total of the run, given twice: per slow step and per rollout, slow or fast."""
        rollouts = self.sum("rollouts")
        return {
            "per_slow_step": None if value is None or not self.rows else value / len(self.rows),
            "per_rollout": None if value is None or not rollouts else value / rollouts,
        }


def costs(run: Run) -> Costs:
    """The costs of one run, from its log."""
    slow = run.slow_rollouts()
    steps = [s for s in run.steps if s.step > 0]
    totals = {name: run.total(name) for name in ("rollouts_fast", "reflection_calls", "tokens_fast")}
    new = {name: _increments(total, [s.step for s in steps]) for name, total in totals.items()}
    rows: list[Row] = []
    for step in steps:
        at = step.step
        size = slow[at] - slow[max((s for s in slow if s < at), default=0)] if at in slow else None
        length, fast = step.data.get("response_length/mean"), int(new["rollouts_fast"][at])
        rows.append(
            Row(
                step=at,
                slow_rollouts=size,
                fast_rollouts=fast,
                tokens_slow=None if length is None or size is None else length * size,
                tokens_fast=new["tokens_fast"][at] if totals["tokens_fast"] else (None if fast else 0.0),
                reflection_calls=int(new["reflection_calls"][at]),
                seconds=_seconds(step.data),
            )
        )
    return Costs(tuple(rows), before=steps[0].step - 1 if steps else 0)


def _increments(totals: Mapping[int, float], steps: Sequence[int]) -> dict[int, float]:
    """Step -> what a running total rose by; 0 if it was not logged there."""
    found, last = {}, 0.0
    for step in steps:
        found[step] = totals.get(step, last) - last
        last = totals.get(step, last)
    return found


def _seconds(data: Mapping[str, float]) -> dict[str, float]:
    found = {
        phase: sum(data.get(key, 0.0) for key in keys)
        for phase, keys in PHASES.items()
        if any(key in data for key in keys)
    }
    if "timing_s/step" in data:
        inside = sum(seconds for phase, seconds in found.items() if phase != "validation")  # verl times it apart
        found["other"] = max(0.0, data["timing_s/step"] - inside)
    return found


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


__all__ = ["Costs", "Row", "costs"]
