"""The README's picture, from the committed logs: RL alone, prompts alone and FST on house rules with codes.

    python examples/paper_claims/picture.py docs/assets/demo.png

Lines are means over three seeds, bands the range of the seeds. RL runs at the best of four learning rates, which one
seed chose; FST's rate was not swept. Needs the extra `analysis`.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from fst_plugin.analysis.compare import by_arm
from fst_plugin.analysis.read import read_all
from fst_plugin.analysis.run import Run

ARCHIVE = Path(__file__).parent / "runs.tar.gz"
TASK = "house_rules_codes"
ARMS = {  # folder of the runs, without the seed -> label, color
    "rl_lr0.001": ("RL alone (best of 4 learning rates)", "#1f5fa8"),
    "prompts": ("prompts alone (weights frozen)", "#d9661f"),
    "fst": ("FST: prompts and weights", "#2e8540"),
}
SEEDS = (0, 1, 2)


def load(folder: Path) -> dict[str, list[Run]]:
    """Arm -> its runs, one per seed."""
    with tarfile.open(ARCHIVE) as archive:
        members = [m for m in archive.getmembers() if m.name.startswith(f"{TASK}/") and m.isfile()]
        archive.extractall(folder, members=members)  # our own archive
    return by_arm(read_all([f"{arm}_{seed}={folder / TASK / f'{arm}_{seed}'}" for arm in ARMS for seed in SEEDS]))


def draw(arms: dict[str, list[Run]]) -> Any:
    """Share of validation problems solved against RL steps, and against all rollouts, slow and fast."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for arm, (label, color) in ARMS.items():
        curves = [run.reward() for run in arms[arm]]
        costs = [run.rollouts() for run in arms[arm]]
        steps = sorted(curves[0])
        middle = [mean(curve[step] for curve in curves) for step in steps]
        low, high = ([f(curve[step] for curve in curves) for step in steps] for f in (min, max))
        spent = [mean(cost[step] for cost in costs) for step in steps]
        for axes, x in ((left, steps), (right, spent)):
            axes.plot(x, middle, color=color, label=label, marker="o", markersize=3.5, linewidth=2)
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    left.set_ylabel("validation problems solved")
    left.set_xlabel("RL steps")
    right.set_xlabel("all rollouts, slow and fast")
    left.set_ylim(0, 1.02)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS), frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("House rules with codes, tiny policy, 3 seeds: mean and range", fontsize=11)
    return figure


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        figure = draw(load(Path(folder)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/assets/demo.png"))
