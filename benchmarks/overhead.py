"""python benchmarks/overhead.py --json FILE [--repeat N] [--steps N]

What the plug-in costs in a slow step: a step with fast weights ÷ a step of plain verl, and a step with
fst.enabled=false ÷ a step of plain verl.

The runs of verl on CPU with the tiny policy are interleaved and have the same tokens: the fast weights keep the data's
own system message as their only prompt, and there is no fast phase. A run's figure is the median of verl's own timing
of a step (timing_s/step), without the first two steps; the ratio is that of the medians of the runs. Two more figures
from the same runs depend less on other work on the machine: the processor seconds of a step, over all processes of the
run, and the share of a step that our own hooks take.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from fst_plugin.analysis.read import read_logs
from fst_plugin.optimizer import Evolution

ARMS = ("plain", "off", "on")
WARM_UP = 2

console = Console()


class Idle:
    """A prompt optimizer that changes nothing and makes no rollouts."""

    def evolve(self, population: Any, problems: Any, evaluate: Any, **_: Any) -> Evolution:
        return Evolution(population)


@dataclass(frozen=True)
class Measured:
    """What one run took, without its first WARM_UP steps.

    seconds: of each step, by verl's own timing.
    cpu: processor seconds per step, of all processes of the run.
    hooks: share of each step that our own hooks take.
    """

    seconds: list[float]
    cpu: float
    hooks: list[float]


def run(arm: str, steps: int, model: Path) -> Measured:
    from fst_verl.experiments.demo import Setup, arguments
    from fst_verl.experiments.launch import METRICS_FILE, launch

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        base = arguments("fst", 0, Setup(steps=steps), model, out)
        common = ["trainer.val_before_train=false", "trainer.test_freq=-1", "algorithm.adv_estimator=grpo"]
        if arm == "plain":
            given = [a for a in base if not a.lstrip("+").startswith("fst.") and not a.startswith("+fst=")]
            given += PLAIN_RECIPE
        else:
            given = [*base, "fst.fast.path=overhead.Idle", f"fst.enabled={str(arm == 'on').lower()}"]
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        spent: dict[int, float] = {}  # step -> processor seconds of the run when it was first seen in the log

        def on_step(step: int) -> None:
            if step not in spent:
                spent[step] = _processor_seconds()

        launch([*given, *common], out, on_step, PYTHONPATH=path, HF_HUB_OFFLINE="1")
        logged, _ = read_logs([out / METRICS_FILE])
    timed = [s.data for s in logged if s.step > WARM_UP and "timing_s/step" in s.data]
    hooks = [d["fst/hook_seconds"] / d["timing_s/step"] for d in timed if "fst/hook_seconds" in d]
    between = sorted(step for step in spent if WARM_UP <= step < steps)
    cpu = (spent[between[-1]] - spent[between[0]]) / (between[-1] - between[0])
    return Measured([d["timing_s/step"] for d in timed], cpu, hooks)


def _processor_seconds() -> float:
    """Processor seconds of this process's descendants: verl, and all that Ray started for it."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


# what +fst=paper sets in verl's own nodes, for the plain run; the advantage is verl's in all arms
PLAIN_RECIPE = [
    "actor_rollout_ref.actor.ppo_mini_batch_size=${data.train_batch_size}",
    "actor_rollout_ref.actor.optim.betas=[0.9,0.999]",
    "actor_rollout_ref.actor.optim.weight_decay=0.0",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=10",
    "algorithm.use_kl_in_reward=false",
    "actor_rollout_ref.actor.ppo_epochs=1",
    "actor_rollout_ref.actor.loss_agg_mode=token-mean",
    "actor_rollout_ref.actor.clip_ratio_low=1.0",
    "actor_rollout_ref.actor.clip_ratio_high=3.0",
    "actor_rollout_ref.actor.policy_loss.loss_mode=cispo",
    "actor_rollout_ref.actor.use_kl_loss=true",
    "actor_rollout_ref.actor.kl_loss_coef=0.001",
    "actor_rollout_ref.actor.kl_loss_type=low_var_kl",
    "actor_rollout_ref.actor.entropy_coeff=0",
]


def _ratio(by_arm: dict[str, list[float]], arm: str) -> float:
    return statistics.median(by_arm[arm]) / statistics.median(by_arm["plain"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=22)
    parser.add_argument("--model", type=Path, default=None, help="default: the tiny policy")
    given = parser.parse_args()
    from fst_envs.house import policy

    model = (given.model or policy.path("rules")).absolute()
    runs: dict[str, list[Measured]] = {arm: [] for arm in ARMS}
    for number in range(given.repeat):
        for arm in ARMS[number % 3 :] + ARMS[: number % 3]:  # so that no arm always goes first
            one = run(arm, given.steps, model)
            runs[arm].append(one)
            wall = statistics.median(one.seconds)
            console.print(f"{arm}, run {number}: {wall:.3f} s per step, {one.cpu:.3f} s of the processor")
    walls = {arm: [statistics.median(m.seconds) for m in measured] for arm, measured in runs.items()}
    cpus = {arm: [m.cpu for m in measured] for arm, measured in runs.items()}
    hooks = statistics.median(share for m in runs["on"] for share in m.hooks)
    result = {
        **{f"slow_step_ratio_{arm}": _ratio(walls, arm) for arm in ("on", "off")},
        **{f"slow_step_processor_ratio_{arm}": _ratio(cpus, arm) for arm in ("on", "off")},
        "hook_share_of_a_step": hooks,
        "runs": walls,
        "processor_seconds": cpus,
        "steps": given.steps,
    }
    table = Table("arm", "median step, s", "÷ plain", "its runs", "processor s a step", "÷ plain", "its runs")
    for arm in ARMS:
        row = [arm]
        for by_arm in (walls, cpus):
            mine = statistics.median(by_arm[arm])
            row += [f"{mine:.2f}", f"{_ratio(by_arm, arm):.3f}", ", ".join(f"{m:.2f}" for m in by_arm[arm])]
        table.add_row(*row)
    console.print(table)
    console.print(f"spent in our own hooks: {hooks:.2%} of a step")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
