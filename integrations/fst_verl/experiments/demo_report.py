"""What the demo shows at its end: a table, the best prompt, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .demo import ARMS, Result, Setup

Results = dict[str, dict[int, Result]]

WHAT_EACH_SEES = (
    "What each learns from: RL sees rewards of 0 or 1 and nothing else. The reflection sees feedback sentences as well;"
    " in house rules such a sentence states the rule that was broken. Here it is offline: it composes prompts from"
    " these sentences, no language model reflects."
)


def spread(values: Sequence[float | None], digits: int = 2) -> str:
    """Mean ± standard deviation over seeds; "never" counts are told, not hidden."""
    known = [v for v in values if v is not None]
    if not known:
        return "never"
    text = f"{mean(known):.{digits}f}" + (f" ±{stdev(known):.{digits}f}" if len(known) > 1 else "")
    missing = len(values) - len(known)
    return text + (f" ({missing} never)" if missing else "")


def accuracy_table(setup: Setup, results: Results) -> Table:
    """Validation accuracy by step; mean ± standard deviation over the seeds."""
    steps = sorted({step for by_seed in results.values() for r in by_seed.values() for step in r.val_acc_by_step})
    out = Table(title=f"validation accuracy (mean@{setup.val_samples}) by RL step, {_seeds(setup)}")
    out.add_column("arm")
    for step in steps:
        out.add_column(str(step), justify="right")
    for arm, by_seed in results.items():
        out.add_row(ARMS[arm], *(spread([r.val_acc_by_step.get(step) for r in by_seed.values()]) for step in steps))
    return out


def cost_table(setup: Setup, results: Results) -> Table:
    """What each arm took: steps and rollouts to RL's peak, rollouts in all, KL to the base model."""
    out = Table(title=f"what it took, {_seeds(setup)}")
    for name in ("arm", "steps to RL's peak", "rollouts to RL's peak", "rollouts slow + fast", "KL to base"):
        out.add_column(name, justify="left" if name == "arm" else "right")
    for arm, by_seed in results.items():
        runs = list(by_seed.values())
        to_peak = [r.rollouts_by_step[r.steps_to_rl_peak] if r.steps_to_rl_peak is not None else None for r in runs]
        out.add_row(
            ARMS[arm],
            spread([r.steps_to_rl_peak for r in runs], 0),
            spread(to_peak, 0),
            f"{mean(r.rollouts_slow for r in runs):.0f} + {mean(r.rollouts_fast for r in runs):.0f}",
            spread([r.kl_to_base for r in runs], 3),
        )
    return out


def time_table(results: Results) -> Table:
    """Wall seconds of every run by part."""
    runs = [(f"{ARMS[arm]}, seed {seed}", r) for arm, by_seed in results.items() for seed, r in by_seed.items()]
    names = list(runs[0][1].seconds_by_part)
    out = Table(title="wall seconds")
    out.add_column("run")
    for name in (*names, "all"):
        out.add_column(name, justify="right")
    for label, run in runs:
        out.add_row(label, *(f"{run.seconds_by_part[name]:.0f}" for name in names), f"{run.seconds:.0f}")
    return out


def _seeds(setup: Setup) -> str:
    return "1 seed" if len(setup.seeds) == 1 else f"{len(setup.seeds)} seeds, mean ±sd"


def verdict(results: Results) -> str:
    """One sentence on who got to RL's peak first, whichever arm that is."""
    if not {"rl", "fst"} <= results.keys():
        return ""
    lines = []
    for seed, fst in results["fst"].items():
        rl = results["rl"][seed].steps_to_rl_peak
        ours = fst.steps_to_rl_peak
        if ours is None:
            lines.append(f"seed {seed}: FST did not reach RL's peak (RL: step {rl})")
        else:
            lines.append(f"seed {seed}: FST reached RL's peak at step {ours}, RL at step {rl}")
    return "\n".join(lines)


def show(console: Console, setup: Setup, results: Results) -> None:
    console.print(accuracy_table(setup, results))
    console.print(cost_table(setup, results))
    console.print(Text(verdict(results)))
    console.print(Text(WHAT_EACH_SEES))
    console.print(
        Text(
            "KL to base: verl's per-token estimate on the step's own rollouts, each arm under its own prompts; 0 where"
            " the weights never move. The prompts-alone arm makes slow rollouts too, but does not learn from them."
        )
    )
    if "fst" in results:
        seed, best = next(iter(results["fst"].items()))
        console.print(Panel(Text(best.best_prompt), title=f"best prompt of FST, seed {seed}"))


def picture(path: Path, setup: Setup, results: Results) -> None:
    """Accuracy against steps and against rollouts, and KL against accuracy; thin lines are seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    for color, (arm, by_seed) in zip(("tab:blue", "tab:orange", "tab:green"), results.items(), strict=False):
        for i, run in enumerate(by_seed.values()):
            label = ARMS[arm] if i == 0 else None
            steps, accuracy = zip(*sorted(run.val_acc_by_step.items()), strict=True)
            style: dict[str, Any] = {"color": color, "alpha": 0.8, "marker": "o", "markersize": 3}
            axes[0].plot(steps, accuracy, label=label, **style)
            axes[1].plot([run.rollouts_by_step[s] for s in steps], accuracy, **style)
            if run.kl_by_step:
                axes[2].plot([run.kl_by_step.get(s, 0.0) for s in steps], accuracy, **style)
    for axis, name in zip(axes, ("RL steps", "rollouts, slow + fast", "KL to base (per token)"), strict=True):
        axis.set_xlabel(name)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"validation accuracy, mean@{setup.val_samples}")
    axes[0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
