"""`fst probe`: one fast phase on somebody's verl command, no training. It shows what holds the task back.

It runs the user's own command for one step with the actor frozen, and reads the record of the first cycle: the seed
prompt and the best new one on the same held-out problems, and, from the step's rollouts, how often a problem is solved
at least once in G tries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fst_plugin.analysis.read import read
from fst_plugin.analysis.run import Run

from .launch import LOG_FILE
from .runner import VerlRun, run_all

SURE = 2.0
"""Standard errors from which a difference counts (ours)."""
ROOM = 0.1
"""Difference between solved-at-least-once and solved-on-average from which RL has room to gain (ours)."""


@dataclass(frozen=True)
class Found:
    """What a probe measured; rewards as the run has them.

    seed, best: mean anchor score of the seed prompt and of the best prompt. gain, error: reward that the best new
    prompt adds on `problems` held-out problems, and its standard error; None if no new prompt was compared.
    mean: of the step's groups, mean reward. solved, solved_mean: share of groups with a solved rollout, and mean share
    of solved rollouts (`fst_plugin.rewards.RewardBar`).
    rollouts: what the fast phase cost. prompt: the best prompt's text.
    """

    seed: float
    best: float
    gain: float | None
    error: float | None
    problems: int
    mean: float
    solved: float
    solved_mean: float
    rollouts: int
    prompt: str

    def verdict(self) -> str:
        helps = self.gain is not None and self.error is not None and self.gain >= SURE * self.error and self.gain > 0
        room = self.solved - self.solved_mean >= ROOM
        if helps and room:
            return "Both: a better prompt lifts the reward, and under it there is still room for RL."
        if helps:
            return "Prompt-limited: a better prompt lifts the reward, and little is left for RL under it."
        if room:
            return (
                "Weight-limited: no prompt found lifts the reward for sure, but some rollouts succeed: RL has a signal."
            )
        return (
            "Inconclusive: no prompt found lifts the reward for sure, and groups hardly differ within"
            " themselves; look at the model, the reward function, or a larger fst.fast.budget."
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict()}


def arguments(given: Sequence[str], out: Path) -> list[str]:
    """The user's arguments, with one step, nothing saved, the actor frozen, and no free scores needed."""
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
    kept = [a for a in given if a.lstrip("+~").partition("=")[0] not in mine]
    if not any(a.lstrip("+").startswith("fst=") for a in kept):
        kept.append("+fst=default")
    return [*kept, *(f"{key}={value}" for key, value in mine.items())]


def run(given: Sequence[str], out: Path) -> Found:
    """Runs the probe in a folder of `out`. Raises ValueError if the arguments cannot be used, RuntimeError if verl
    fails."""
    from ..check import compose, problems

    folder = out.absolute() / "probe_0"
    one = VerlRun(folder, "probe", 0, tuple(arguments(given, folder)))
    if found := problems(compose(list(one.arguments))):
        raise ValueError("\n".join(str(problem) for problem in found))
    run_all([one], 1)
    return measured(read(one.spec))


def measured(run: Run) -> Found:
    """Figures of a finished probe: of its one cycle, and of its one step. Raises RuntimeError if its phase failed."""
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
        mean=step["fst/group_mean"],
        solved=step["fst/group_solved"],
        solved_mean=step["fst/group_solved_mean"],
        rollouts=int(phase["rollouts"]),
        prompt=cycle.population[0].text,
    )


def table(found: Found) -> Any:
    from rich.table import Table

    out = Table("figure", "value", title="probe: one fast phase, no training")
    gain = "no new prompt was ahead" if found.gain is None else f"{found.gain:+.3f} ± {found.error or 0:.3f}"
    out.add_row("seed prompt, mean anchor score", f"{found.seed:.3f}")
    out.add_row("best prompt, mean anchor score", f"{found.best:.3f}")
    out.add_row(f"gain on {found.problems} held-out problems", gain)
    out.add_row("slow rollouts: mean reward", f"{found.mean:.3f}")
    out.add_row("slow rollouts: share solved", f"{found.solved_mean:.3f}")
    out.add_row("slow rollouts: groups solved at least once", f"{found.solved:.3f}")
    out.add_row("fast rollouts spent", str(found.rollouts))
    return out
