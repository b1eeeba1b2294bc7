"""python benchmarks/gpu/smollm2.py OUT --model FOLDER [--jobs N] [--seconds N] [--device cpu --quick]

SmolLM2-135M on its task (examples/smollm2) through TRL, in float32: every run of `JOBS`, N at a time, into
OUT/smollm2.json, which is whole after each run. No run begins that would not end in time, as long as the one before it
took; those that did not begin are counted as left.

rl: RL alone. told: RL alone, under a system message that states the rule. prompts: fast weights alone. fst: both.
FOLDER: what examples/smollm2/make_model.py writes.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from setting import arguments, machine, on, write

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "smollm2"))

SEED_PROMPT = "Read the message."
RATE, OTHER_RATES = 5e-5, (2e-5, 1e-4, 2e-4)  # the example's; RL's sweep
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Job:
    arm: str
    seed: int
    rate: float


@dataclass(frozen=True)
class Sizes:
    """problems, group: of a slow step. cycle: slow steps between fast phases; a validation comes as often. validation:
    problems, each tried `tries` times."""

    steps: int = 24
    problems: int = 8
    group: int = 8
    cycle: int = 4
    validation: int = 64
    tries: int = 4


FULL, QUICK = Sizes(), Sizes(steps=2, problems=2, group=2, cycle=1, validation=2, tries=1)


def jobs() -> Iterator[Job]:
    """What matters most comes first."""
    yield from (Job(arm, seed, RATE) for seed in SEEDS for arm in ("fst", "rl", "told"))
    yield from (Job("prompts", seed, 0.0) for seed in SEEDS)
    yield from (Job("rl", seed, rate) for seed in SEEDS for rate in OTHER_RATES)
    yield from (Job(arm, seed, 1e-4) for seed in SEEDS for arm in ("fst", "told"))


JOBS = tuple(jobs())


def train(job: Job, model: str, device: str, sizes: Sizes) -> dict[str, Any]:
    """One run: its figures by slow step (KL from step 0 on), and its last best prompt."""
    import torch
    from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env
    from order_number import FORM
    from transformers import PrinterCallback

    from fst_plugin.analysis import read

    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    prompt = f"{SEED_PROMPT}\n{FORM}" if job.arm == "told" else SEED_PROMPT
    fast = {"population": 4, "slow_steps": sizes.cycle, "max_prompt_tokens": 112, "reflection": {"kind": "offline"}}
    data = from_env(
        "order_number:smollm2/OrderNumber-v0", train_size=sizes.problems * sizes.steps, val_size=sizes.validation
    )
    for name in ("train_dataset", "eval_dataset"):
        data[name] = data[name].map(lambda row: {"prompt": [{"role": "system", "content": prompt}, *row["prompt"]]})
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/{job.arm}_{job.seed}"
        args = FSTGRPOConfig(
            output_dir=out,
            fst={"enabled": job.arm in ("prompts", "fst"), "seed": job.seed, **fast},
            seed=job.seed,
            max_steps=sizes.steps,
            per_device_train_batch_size=sizes.problems * sizes.group,
            num_generations=sizes.group,
            max_completion_length=12,
            learning_rate=job.rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            loss_type="cispo",  # the paper's
            epsilon_high=4.0,
            beta=0.001,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"},
            eval_strategy="steps",
            eval_steps=sizes.cycle,
            eval_on_start=True,
            per_device_eval_batch_size=sizes.validation * sizes.tries,
            num_generations_eval=sizes.tries,
            **on(device),
        )
        began = time.monotonic()
        trainer = FSTGRPOTrainer(model=model, args=args, **data)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        seconds = time.monotonic() - began
        run = read.read(out)
    return {
        "best_prompt": list(run.reward().values()),
        "seed_prompt": list(run.reward(seed_prompt=True).values()),
        "rewards": [step.data["reward"] for step in run.trained],
        "kl": list(run.kl().values())[-1],
        "kl_of_each_step": list(run.kl().values()),
        "slow_rollouts": run.slow_rollouts()[sizes.steps],
        "fast_rollouts": int(max(run.total("rollouts_fast").values(), default=0)),
        "prompt": run.population[0].text if run.population else prompt,
        "seconds": seconds,
    }


_longest = 0.0  # run of this process


def in_time(job: Job, until: float, *given: Any) -> dict[str, Any] | None:
    """`train`'s answer, or the error that it ended with; None if there is no time for it. until: of `time.time`."""
    global _longest
    began = time.time()
    if began + _longest > until:
        return None
    try:
        found = train(job, *given)
    except Exception:
        found = {"error": traceback.format_exc()}
    _longest = max(_longest, time.time() - began)
    return {**asdict(job), **found}


def main(given: list[str] | None = None) -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", required=True, help="folder of the weights")
    parser.add_argument("--jobs", type=int, default=4, help="runs at a time")
    parser.add_argument("--seconds", type=float, default=300, help="in which all runs end")
    args = parser.parse_args(given)
    sizes, wanted = (QUICK, (Job("fst", 0, RATE), Job("rl", 0, RATE))) if args.quick else (FULL, JOBS)
    until, where, found = time.time() + args.seconds, machine(args.device), list[dict[str, Any]]()
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        asked = [pool.submit(in_time, job, until, args.model, args.device, sizes) for job in wanted]
        for done in as_completed(asked):
            if (one := done.result()) is None:
                continue
            found.append(one)
            print(f"{one['arm']}_{one['seed']} at {one['rate']:g}: {one.get('error', one.get('best_prompt'))}")
            kept = {"machine": where, "sizes": asdict(sizes), "jobs": args.jobs, "left": len(wanted) - len(found)}
            write(args.out, "smollm2", {**kept, "runs": found})
    return int(any("error" in one for one in found) or not found)


if __name__ == "__main__":
    sys.exit(main())
