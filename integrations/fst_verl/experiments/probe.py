"""`fst probe`: one fast phase on somebody's verl command, no training. It shows what holds the task back.

It runs the user's own command for one step with the actor frozen, and reads the record of the first cycle: the seed
prompt and the best new one on the same held-out problems, and, from the step's rollouts, how far a group's best rollout
is ahead of its mean, which is what RL learns from.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fst_plugin.analysis.read import read
from fst_plugin.analysis.run import Run
from fst_plugin.prompts import shown

from .. import report
from ..command_line import Command, key_of
from ..composing import complete
from . import runner
from .launch import LOG_FILE
from .runner import VerlRun, run_all

SURE = 2.0
"""Standard errors from which a difference counts (ours)."""
ROOM = 0.1
"""How far a group's best rollout is ahead of its mean, in perfect scores, from which RL has room to gain (ours)."""
QUIET_S = 60.0
"""Seconds without news after which a line says that the probe still runs (ours)."""
NEWS = re.compile(r"(?:fst: |fast phase \d+: ).*")
"""What the fast phase writes to verl's log."""


@dataclass(frozen=True)
class Found:
    """What a probe measured; rewards as the run has them.

    seed, best: mean anchor score of the seed prompt and of the best prompt. gain, error: reward that the best new
    prompt adds on `problems` held-out problems, and its standard error; None if it can't be told.
    tested: new prompts that were tried at all. mean, top: of the step's groups, mean reward, and mean reward of each
    group's best rollout. solved: share of groups whose best rollout reaches `perfect`, the perfect score; None if that
    is not known yet.
    rollouts: what the fast phase cost. prompt: the best prompt's text.
    """

    seed: float
    best: float
    gain: float | None
    error: float | None
    problems: int
    tested: int
    mean: float
    top: float
    solved: float
    perfect: float | None
    rollouts: int
    prompt: str

    def helps(self) -> bool | None:
        """Does a new prompt lift the reward for sure? None if that was not measured."""
        if self.gain is None and self.tested and self.best <= self.seed:
            return False  # none was ahead of the seed prompt even on the anchors
        if self.gain is None or self.error is None:
            return None
        return self.gain > 0 and self.gain >= SURE * self.error

    def room(self) -> bool:
        """Is a group's best rollout so far ahead of its mean that RL has something to learn from?"""
        ahead = self.top - self.mean
        return ahead > 0 and ahead >= ROOM * abs(self.perfect or 0.0)

    def verdict(self) -> str:
        helps, room = self.helps(), self.room()
        if helps is None:
            why = "the best new prompt was not compared on 2 or more held-out problems"
            return (
                f"No verdict: {why if self.tested else 'no new prompt was tried'}; raise fst.fast.budget or"
                " data.train_batch_size, and see what the log says of the reflection."
            )
        if helps and room:
            return "Both: a better prompt lifts the reward, and under it there is still room for RL."
        if helps:
            return "Prompt-limited: a better prompt lifts the reward, and little is left for RL under it."
        if room:
            return (
                "Weight-limited: no prompt found lifts the reward for sure, but a group's best rollout is ahead of its"
                " mean: RL has a signal."
            )
        return (
            "Inconclusive: no prompt found lifts the reward for sure, and groups hardly differ within"
            " themselves; look at the model, the reward function, or a larger fst.fast.budget."
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict()}


def arguments(given: Sequence[str], out: Path) -> list[str]:
    """The user's overrides, with one step, nothing saved, the actor frozen, and no free scores needed."""
    mine = {
        "trainer.total_training_steps": "1",
        "trainer.critic_warmup": "2",
        "trainer.val_before_train": "false",
        "trainer.test_freq": "-1",
        "trainer.save_freq": "-1",
        "trainer.resume_mode": "disable",
        "trainer.logger": "[console,file]",
        "trainer.default_local_dir": str(out / "checkpoints"),
        "hydra.run.dir": str(out / "hydra"),
    }
    return [*(word for word in given if key_of(word) not in mine), *(f"{key}={value}" for key, value in mine.items())]


def run(command: Command, out: Path, tell: Callable[[str], None] = lambda line: None) -> Found:
    """Runs the probe in a folder of `out`.

    tell: takes lines that say how far it is. Raises ValueError if the command cannot be used, RuntimeError if verl
    fails.
    """
    folder = out.absolute() / "probe_0"
    command, _ = complete(command)
    looked = report.look(command.with_overrides(arguments(command.overrides, folder)))
    if looked.problems:
        raise ValueError("\n".join(str(problem) for problem in looked.problems))
    one = VerlRun.of(looked.command, folder, "probe", 0)
    for line in looked.notes:
        tell(line)
    news = _News(folder / LOG_FILE, tell)
    if not one.finished():
        tell(f"verl starts, which can take minutes; its log: {folder / LOG_FILE}")
    run_all([one], 1, lambda one: runner.run(one, lambda step: news.look()))
    return measured(read(one.spec))


class _News:
    """Tells what the fast phase writes to verl's log, line by line, and that the probe still runs if it writes nothing.

    log: the file. tell: takes the lines.
    """

    def __init__(self, log: Path, tell: Callable[[str], None]):
        self._log, self._tell = log, tell
        self._read = 0
        self._began = self._last = time.monotonic()

    def look(self) -> None:
        now = time.monotonic()
        for line in self._lines():
            self._tell(shown(line))
            self._last = now
        if now - self._last >= QUIET_S:
            self._tell(f"still running after {now - self._began:.0f} s")
            self._last = now

    def _lines(self) -> Iterator[str]:
        if not self._log.exists():
            return
        with open(self._log, "rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for line in new[:whole].decode("utf-8", "replace").splitlines():
            if found := NEWS.search(line):
                yield found.group()


def measured(run: Run) -> Found:
    """Figures of a finished probe: of its one cycle, and of its one step.

    Raises RuntimeError if the phase failed.
    """
    if not (run.cycles and run.cycles[0].finished):
        raise RuntimeError(f"the fast phase did not finish: {Path(run.where) / LOG_FILE} says why")
    cycle, step = run.cycles[0], run.steps[-1].data
    evidence, phase = cycle.evidence, cycle.metrics
    return Found(
        seed=phase.get("anchor_seed", math.nan),
        best=phase.get("anchor_best", math.nan),
        gain=evidence.margin if evidence else None,
        error=evidence.error if evidence and math.isfinite(evidence.error) else None,
        problems=evidence.problems if evidence else 0,
        tested=int(phase.get("proposals_accepted", 0) + phase.get("proposals_rejected", 0)),
        mean=step["fst/group_mean"],
        top=step["fst/group_best"],
        solved=step["fst/group_solved"],
        perfect=step.get("fst/perfect_score"),
        rollouts=int(phase["rollouts"]),
        prompt=cycle.population[0].text,
    )


def show(console: Any, found: Found) -> None:
    """Prints the figures, the best prompt and the verdict."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table("figure", "value", title="probe: one fast phase, no training")
    error = "" if found.error is None else f" ± {found.error:.3f}"
    gain = "no new prompt was ahead" if found.gain is None else f"{found.gain:+.3f}{error}"
    table.add_row("seed prompt, mean anchor score", f"{found.seed:.3f}")
    table.add_row("best prompt, mean anchor score", f"{found.best:.3f}")
    table.add_row(f"gain on {found.problems} held-out problems", gain)
    table.add_row("new prompts tried", str(found.tested))
    table.add_row("slow rollouts: mean reward", f"{found.mean:.3f}")
    table.add_row("slow rollouts: best of each group, mean", f"{found.top:.3f}")
    table.add_row("slow rollouts: groups solved at least once", f"{found.solved:.3f}")
    table.add_row("fast rollouts spent", str(found.rollouts))
    console.print(table)
    console.print(Panel(Text(shown(found.prompt)), title="best prompt"))
    console.print(found.verdict(), markup=False)
