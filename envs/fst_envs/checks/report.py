"""What was found about one environment, as plain data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """What was found about one environment. What was not measured is None.

    env_id, kwargs: as given to `check`.
    problems: "kind: what is wrong"; empty if the environment is fit to train on.
    notes: what is worth knowing.
    gold: share of instances with a gold answer, 0 to 1.
    rewards: the lowest and the highest reward of an episode.
    overlap: largest share of questions that two splits have in common, 0 to 1.
    feedback: "own", or "made" from reward and observation.
    reset_ms, step_ms: medians, milliseconds.
    memory_mb: growth of resident memory including child processes; needs psutil.
    seconds: what the check took.
    """

    env_id: str
    kwargs: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gold: float | None = None
    rewards: tuple[float, float] | None = None
    overlap: float | None = None
    feedback: str | None = None
    reset_ms: float | None = None
    step_ms: float | None = None
    memory_mb: float | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def name(self) -> str:
        """The id, and the task if there is one: "fst/ReasoningGym-v0 path_star"."""
        return " ".join(
            [self.env_id.rpartition(":")[2], *([str(self.kwargs["task"])] if "task" in self.kwargs else [])]
        )

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, **asdict(self)}


def median_ms(seconds: Sequence[float]) -> float | None:
    """The median in milliseconds; None if nothing was timed."""
    return round(1000 * statistics.median(seconds), 3) if seconds else None


def shown(text: str) -> str:
    """A text in ASCII, cut to 40 characters."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
