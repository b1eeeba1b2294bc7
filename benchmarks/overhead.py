"""python benchmarks/overhead.py --json FILE [--repeat N] [--steps N]

What the adapter costs in a slow step: a step with fast weights ÷ plain verl's, and with fst.enabled=false ÷ plain.

Runs of verl on CPU with the tiny policy, interleaved, all with the same tokens: the fast weights keep the data's own
system message as their one prompt, and the fast phase itself is left out. Compared are medians of verl's own timing of
a step (timing_s/step) over each run's steps but the first two; the ratio is of the medians of the runs. Beside it
stands, from the same runs, the share of a step that is spent in our own hooks, which machine noise does not blur.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fst_plugin.optimizer import Evolution

ARMS = ("plain", "off", "on")
WARM_UP = 2

console = Console()


class Idle:
    """A prompt optimizer that changes nothing and rolls nothing out."""

    def evolve(self, population: Any, problems: Any, evaluate: Any, **_: Any) -> Evolution:
        return Evolution(population)


def run(arm: str, steps: int, model: Path) -> tuple[list[float], list[float]]:
    """Seconds of each step of one run, and the share of them spent in our hooks."""
    from fst_verl.demo import Setup, arguments

    with tempfile.TemporaryDirectory() as folder:
        base = arguments("fst", 0, Setup(steps=steps), model, Path(folder))
        common = ["trainer.val_before_train=false", "trainer.test_freq=-1", "algorithm.adv_estimator=grpo"]
        if arm == "plain":
            given = [a for a in base if not a.lstrip("+").startswith("fst.") and not a.startswith("+fst=")]
            given += PLAIN_RECIPE
        else:
            given = [*base, "fst.fast.path=overhead.Idle", f"fst.enabled={str(arm == 'on').lower()}"]
        metrics = Path(folder) / "metrics.jsonl"
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "verl.trainer.main_ppo", *given, *common],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "VERL_FILE_LOGGER_PATH": str(metrics), "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode:
            raise RuntimeError(f"{arm}: verl ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        entries = [json.loads(line) for line in metrics.read_text().splitlines()]
        timed = [e["data"] for e in entries if e["step"] > WARM_UP and "timing_s/step" in e["data"]]
        hooks = [d["fst/hook_seconds"] / d["timing_s/step"] for d in timed if "fst/hook_seconds" in d]
        return [d["timing_s/step"] for d in timed], hooks


# what +fst=paper sets in verl's own nodes, for the run that knows nothing of it; the advantage is verl's in all arms
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=22)
    parser.add_argument("--model", type=Path, default=Path("runs/benchmarks/tiny_policy"))
    given = parser.parse_args()
    from fst_envs.tiny_policy import main as build_policy

    model = given.model.absolute()
    build_policy(model, 0, False)
    medians: dict[str, list[float]] = {arm: [] for arm in ARMS}
    hooks: list[float] = []
    for number in range(given.repeat):
        for arm in ARMS[number % 3 :] + ARMS[: number % 3]:  # no arm always goes first
            seconds, shares = run(arm, given.steps, model)
            medians[arm].append(statistics.median(seconds))
            hooks += shares
            console.print(f"{arm}, run {number}: {medians[arm][-1]:.3f} s a step")
    plain = statistics.median(medians["plain"])
    result = {
        "slow_step_ratio_on": statistics.median(medians["on"]) / plain,
        "slow_step_ratio_off": statistics.median(medians["off"]) / plain,
        "hook_share_of_a_step": statistics.median(hooks),
        "runs": medians,
        "steps": given.steps,
    }
    table = Table("arm", "median step, s", "÷ plain", "its runs")
    for arm in ARMS:
        mine = statistics.median(medians[arm])
        table.add_row(arm, f"{mine:.3f}", f"{mine / plain:.3f}", ", ".join(f"{m:.3f}" for m in medians[arm]))
    console.print(table)
    console.print(f"spent in our own hooks: {statistics.median(hooks):.2%} of a step")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
