"""usage: python examples/multi_turn/show.py runs/NAME ...: what each run measured, one line per validation."""

import json
import sys
from pathlib import Path


def mean(metrics, name, arm=""):
    """verl's mean of a validation metric over all samples; None if the step did not validate under this arm."""
    return next((v for k, v in metrics.items() if f"/SecondTry-v0{arm}/{name}/mean@" in k), None)


for run in map(Path, sys.argv[1:]):
    print(f"{run.name}\nstep  reward  tries  reward under the seed prompt  fast rollouts")
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        reward, turns = mean(entry["data"], "reward"), mean(entry["data"], "turns")
        if reward is None:
            continue
        seed = mean(entry["data"], "reward", "/seed_prompt")
        seed = "" if seed is None else f"{seed:.2f}"
        fast = entry["data"].get("fst/rollouts_fast_total", 0)
        print(f"{entry['step']:4d}  {reward:6.2f}  {turns:5.2f}  {seed:>28}  {fast:13.0f}")
