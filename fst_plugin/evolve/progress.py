"""Where a fast phase stands, for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Status:
    """stage: "searching", "comparing", "done" or "failed". spent, budget: rollouts. best: highest mean anchor score so
    far. candidates: new prompts tested; accepted: of them, those scored on all anchors."""

    cycle: int
    stage: str
    spent: int
    budget: int
    candidates: int
    accepted: int
    best: float
    reflection_calls: int
    reflection_failures: int

    def line(self) -> str:
        failures = f", {self.reflection_failures} failed" if self.reflection_failures else ""
        return (
            f"fst: cycle {self.cycle}: {self.stage}: {self.spent}/{self.budget} rollouts, {self.candidates} candidates"
            f" ({self.accepted} accepted, {self.candidates - self.accepted} rejected), best {self.best:.3f},"
            f" {self.reflection_calls} reflections{failures}"
        )


class LiveLine:
    """Shows statuses in place on a terminal; elsewhere hands each line to `log`. console: a rich Console."""

    def __init__(self, log: Callable[[str], None], console: Any = None):
        if console is None:
            from rich.console import Console

            console = Console()
        self._log, self._console = log, console
        self._live: Any = None

    def __call__(self, status: Status) -> None:
        if not self._console.is_terminal:
            self._log(status.line())
            return
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(Text(status.line()), refresh=True)
        if status.stage in ("done", "failed"):
            self._live.stop()
            self._live = None


__all__ = ["LiveLine", "Status"]
