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
COUNTERS = {
    "slow_rollouts": "rollouts_slow",
    "fast_rollouts": "rollouts_fast",
    "tokens_fast": "tokens_fast",
    "reflection_calls": "reflection_calls",
}
"""Row's figure -> the run's own running total of it, `fst/<name>_total`."""


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

    def figure(self, name: str) -> float | None:
        """A figure by its name; wall seconds as "seconds", those of a phase as "seconds: <phase>". None if it was not
        recorded."""
        head, _, phase = name.partition(": ")
        if head == "seconds":
            spent = self.seconds.get(phase, 0.0) if phase else sum(self.seconds.values())
            return spent if self.seconds else None
        value: float | None = getattr(self, name)
        return value


@dataclass(frozen=True)
class Costs:
    """What a run cost.

    rows: one a logged step, oldest first.
    missing: slow steps that no log holds (of a resumed run, as a rule), 0 if the logs are whole.
    counted: Row's figure -> the run's own running total at its end; it covers what the logs lack.
    """

    rows: tuple[Row, ...]
    missing: int = 0
    counted: Mapping[str, float] = field(default_factory=dict)

    def sum(self, name: str) -> float | None:
        """Sum of a Row's figure over the run (names as of `Row.figure`); None if a step did not record it."""
        if name in self.counted:
            return self.counted[name]
        if name == "rollouts":
            return _sum([self.sum("slow_rollouts"), self.sum("fast_rollouts")])
        return None if self.missing else _sum([row.figure(name) for row in self.rows])

    def seconds(self) -> dict[str, float]:
        """Phase -> wall seconds of the logged steps, in the order of PHASES."""
        logged = [name for name in (*PHASES, "other") if any(name in row.seconds for row in self.rows)]
        return {name: sum(row.seconds.get(name, 0.0) for row in self.rows) for name in logged}

    def rates(self, name: str) -> dict[str, float | None]:
        """A figure of the logged steps over those same steps, given twice: per slow step and per rollout, slow or
        fast (names as of `Row.figure`). None if a logged step did not record it."""
        total, rollouts = (_sum([row.figure(one) for row in self.rows]) for one in (name, "rollouts"))
        return {
            "per_slow_step": None if total is None or not self.rows else total / len(self.rows),
            "per_rollout": None if total is None or not rollouts else total / rollouts,
        }


def costs(run: Run) -> Costs:
    """The costs of one run, from its logs."""
    sizes, new = run.slow_sizes(), {name: run.increments(name) for name in COUNTERS.values()}
    tokens_logged = bool(run.total("tokens_fast"))
    rows: list[Row] = []
    for step in run.trained:
        at, size, length = step.step, sizes[step.step], step.data.get("response_length/mean")
        fast = int(new["rollouts_fast"].get(at, 0.0))
        rows.append(
            Row(
                step=at,
                slow_rollouts=size,
                fast_rollouts=fast,
                tokens_slow=None if length is None or size is None else length * size,
                tokens_fast=new["tokens_fast"].get(at, 0.0) if tokens_logged else (None if fast else 0.0),
                reflection_calls=int(new["reflection_calls"].get(at, 0.0)),
                seconds=_seconds(step.data),
            )
        )
    last = run.trained[-1].step if run.trained else 0
    totals = {figure: run.total(name) for figure, name in COUNTERS.items()}
    return Costs(tuple(rows), run.missing, {figure: total[last] for figure, total in totals.items() if last in total})


def _seconds(data: Mapping[str, float]) -> dict[str, float]:
    if not data.keys() & {"timing_s/step", "timing_s/gen"}:
        return {}  # the stack timed nothing: a fast phase's own seconds are not the step's
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
