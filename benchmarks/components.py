"""What examples are worth beside instructions (`fst.components`), for a small language model with two tasks.

    python benchmarks/components.py MODEL --json FILE [--seeds 3] [--tasks city order] [--arms examples rl ...]
    python benchmarks/components.py --json FILE ...       # the table of the finished runs, of several files too

MODEL: what examples/smollm2/make_model.py writes. SmolLM2-135M through TRL, on CPU, all parameters trained: 9 steps of
4 problems x 8 rollouts, T=3, K=4, fast phases of at most 64 rollouts. A run takes five minutes of one core, and 4 GB. A
finished one is in the (first) file and is not repeated. Validated on 32 problems, each tried once, with sentences that
training never shows.

instructions: prompts evolve by reflection on feedback, which states the form. examples: every second child shows one
more solved problem instead. hybrid: instructions, beside the steps. rl: RL alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fst_plugin.record.atomic import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "smollm2"))

TASKS = {"city": "city_name:smollm2/CityName-v0", "order": "order_number:smollm2/OrderNumber-v0"}
ARMS: dict[str, dict[str, Any]] = {
    "examples": {"components": ["instructions", "examples"]},
    "instructions": {},
    "hybrid": {"fast": {"budget": 64, "when": "hybrid"}},
    "rl": {"enabled": False},
}
"""Arm -> its `fst` settings, besides those of all."""
SEED_PROMPT = "Read the message."
PROBLEMS, GROUP, CYCLE, STEPS, TESTED = 4, 8, 3, 9, 32
PART = 8  # rollouts of a backward pass: more take more memory
RATE = 1e-4


def fst_of(arm: str, seed: int) -> dict[str, Any]:
    shared = {"population": 4, "slow_steps": CYCLE, "max_prompt_tokens": 192, "seed": seed}
    return {**shared, "reflection": {"kind": "offline"}, "fast": {"budget": 64}, **ARMS[arm]}


def train(model: str, task: str, arm: str, seed: int) -> dict[str, Any]:
    """One run: rewards of its validations, step -> reward, under the best and the seed prompt; rewards in training,
    step by step; fast rollouts; the last population's texts; seconds.
    """
    import torch
    from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env
    from transformers import PrinterCallback

    from fst_plugin.analysis import read

    torch.set_num_threads(1)
    began = time.monotonic()
    data = from_env(TASKS[task], train_size=PROBLEMS * STEPS, val_size=TESTED)
    for name in ("train_dataset", "eval_dataset"):
        opening = {"role": "system", "content": SEED_PROMPT}
        data[name] = data[name].map(lambda row: {"prompt": [opening, *row["prompt"]]})  # noqa: B023
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/{arm}_{seed}"
        args = FSTGRPOConfig(
            output_dir=out,
            fst=fst_of(arm, seed),
            seed=seed,
            max_steps=STEPS,
            per_device_train_batch_size=PART,
            gradient_accumulation_steps=PROBLEMS * GROUP // PART,
            steps_per_generation=PROBLEMS * GROUP // PART,
            num_generations=GROUP,
            max_completion_length=10,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            loss_type="cispo",
            epsilon_high=4.0,
            beta=0.001,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"},
            eval_strategy="steps",
            eval_steps=CYCLE,
            eval_on_start=True,
            per_device_eval_batch_size=16,
            num_generations_eval=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
        )
        trainer = FSTGRPOTrainer(model=model, args=args, **data)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        run = read.read(out)
    return {
        "best": run.reward(),
        "seed_prompt": run.reward(seed_prompt=True),
        "rewards": [round(step.data["reward"], 4) for step in run.trained],
        "fast_rollouts": int(max(run.total("rollouts_fast").values(), default=0)),
        "prompts": [prompt.text for prompt in run.population],
        "seconds": round(time.monotonic() - began),
    }


def show(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """A row a task and arm: every seed's validations, the mean reward of its training, and what was spent."""
    steps = range(0, STEPS + 1, CYCLE)
    table = Table("task", "arm", *(f"step {n}" for n in steps), "reward in training", "fast rollouts")
    for task in TASKS:
        for arm in ARMS:
            own = [run for name, run in sorted(runs.items()) if name.startswith(f"{task}/{arm}/")]
            if own:
                scores = [", ".join(f"{run['best'][str(step)]:.2f}" for run in own) for step in steps]
                trained = ", ".join(f"{sum(run['rewards']) / len(run['rewards']):.2f}" for run in own)
                table.add_row(task, arm, *scores, trained, ", ".join(str(run["fast_rollouts"]) for run in own))
    Console(width=140).print(table)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of the model; without one, only the table is printed")
    parser.add_argument("--json", type=Path, required=True, nargs="+", help="files of finished runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["examples", "instructions"])
    args = parser.parse_args(given)
    files = [path for path in args.json if path.exists()]
    runs = {name: run for path in files for name, run in json.loads(path.read_text(encoding="utf-8"))["runs"].items()}
    names = [f"{task}/{arm}/{seed}" for seed in range(args.seeds) for task in args.tasks for arm in args.arms]
    for name in names if args.model else ():
        if name not in runs:
            task, arm, seed = name.split("/")
            found = train(args.model, task, arm, int(seed))
            runs[name] = json.loads(json.dumps(found))  # steps as text, as in the file
            write_json(args.json[0], {"runs": runs})
            print(f"{name}: {found['best']}", flush=True)
    show(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
