"""python benchmarks/trl_overhead.py --json FILE [--rounds N] [--steps N]

What the plug-in costs in a slow step with TRL: a step of FSTGRPOTrainer with fast weights, and with enabled=False, ÷ a
step of TRL's own GRPOTrainer.

All in one process, on CPU with the tiny policy. Short trainings of the three arms take turns, and each arm begins as
often as the others. They have the same tokens: the fast weights keep the data's own system message as their only
prompt, and the fast phase is one that does nothing. A step is timed from the end of the step before it, so it holds
generation, rewards, the update and all logging. Its processor seconds depend less on other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from fst_envs.house import policy
from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback
from trl import GRPOTrainer

from fst_plugin.analysis.curves import bootstrap
from fst_plugin.optimizer import Evolution

ARMS = ("plain", "off", "on")
WARM_UP = 2  # steps of each training that do not count (ours)
BATCH, GROUP = 16, 8  # problems a step, completions a problem
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


class Idle:
    """A prompt optimizer that changes nothing and makes no rollouts."""

    def __init__(self, *given: Any, **named: Any):
        pass

    def evolve(self, population: Any, problems: Any, evaluate: Any, **_: Any) -> Evolution:
        return Evolution(population)


class Clock(TrainerCallback):
    """Wall and processor seconds of every step after the first."""

    def __init__(self) -> None:
        self.took: list[tuple[float, float]] = []
        self.last: tuple[float, float] | None = None

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter(), time.process_time()
        if self.last is not None:
            self.took.append((now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now


def train(arm: str, steps: int, data: dict[str, Any]) -> list[tuple[float, float]]:
    """(wall, processor) seconds of the steps of one training, without the first WARM_UP."""
    fst = {"enabled": arm == "on", "population": 1, "slow_steps": steps, "fast": {"path": f"{__name__}.Idle"}}
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        args = FSTGRPOConfig(
            output_dir=out,
            fst=None if arm == "plain" else {**fst, "reflection": {"kind": "offline"}},
            max_steps=steps,
            per_device_train_batch_size=BATCH * GROUP,
            num_generations=GROUP,
            max_completion_length=12,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        )
        cls = GRPOTrainer if arm == "plain" else FSTGRPOTrainer
        cls(model=str(policy.path("rules")), args=args, callbacks=[clock], **data).train()
    return clock.took[WARM_UP - 1 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = from_env("fst_envs:fst/HouseRules-v0", {"book": 0}, train_size=BATCH * given.steps, val_size=0)
    data["train_dataset"] = data["train_dataset"].map(lambda row: {"prompt": [SYSTEM, *row["prompt"]]})
    rounds: list[dict[str, list[tuple[float, float]]]] = []
    for number in range(given.rounds):
        order = ARMS[number % 3 :] + ARMS[: number % 3]  # so that no arm always goes first
        rounds.append({arm: train(arm, given.steps, data) for arm in order})
    result: dict[str, Any] = {"rounds": given.rounds, "steps": given.steps}
    table = Table("arm", "clock", "median step, s", "quartiles", "÷ plain", "of each round")
    for clock, name in enumerate(("wall", "processor")):
        steps = {arm: [one[clock] for some in rounds for one in some[arm]] for arm in ARMS}
        plain = statistics.median(steps["plain"])
        for arm in ARMS:
            middle, quartiles = statistics.median(steps[arm]), statistics.quantiles(steps[arm], n=4)
            each = [_median(some[arm], clock) / _median(some["plain"], clock) for some in rounds]
            found = {"median": middle, "quartiles": [quartiles[0], quartiles[2]], "ratio": middle / plain}
            result[f"{name}_{arm}"] = {**found, "ratio_of_each_round": each}
            spread = f"{quartiles[0]:.3f} to {quartiles[2]:.3f}"
            ratios = f"{min(each):.3f} to {max(each):.3f}"
            table.add_row(arm, name, f"{middle:.3f}", spread, f"{middle / plain:.3f}", ratios)
        switched = [_median(some["on"], clock) / _median(some["off"], clock) for some in rounds]
        result[f"{name}_on_over_off"] = asdict(bootstrap(switched))
    Console(width=100).print(table)
    for name in ("wall", "processor"):
        found = result[f"{name}_on_over_off"]
        ratio = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        print(f"on ÷ off, {name}: {ratio}, median of the rounds, 95 %")
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


def _median(steps: list[tuple[float, float]], clock: int) -> float:
    return statistics.median(one[clock] for one in steps)


if __name__ == "__main__":
    main()
