"""Claims and controls through TRL, on CPU with the tiny policy: every run, one after the other, into one file.

    python examples/paper_claims/trl_runs.py --only claims --seeds 3 --json runs/results_trl.json.gz
    python examples/paper_claims/trl_runs.py --only controls --seeds 5 --json runs/results_trl.json.gz
    python examples/paper_claims/trl_runs.py --plan            # what would be run; starts nothing
    python examples/paper_claims/make_trl_results.py runs/results_trl.json.gz     # RESULTS_TRL.md

A finished run is in the file and is not repeated, so the program can be stopped at any time and started again. claims:
three tasks of the claims through verl. controls: other ways to spend the same number of rollouts. Half a minute a run.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trl_plan import BATCH, GROUP, QUICK, RATES, SWEPT, Job, Sizes, Stage, claims, controls, stages, sweep, task_kwargs

from fst_plugin import __version__
from fst_plugin.record.atomic import replacing

ENV_ID = "fst_envs:fst/HouseRules-v0"
KEPT = ("val-core/", "actor/kl_loss", "fst/rollouts_", "fst/reflection_calls_total", "fst/population", "reward")
"""What is kept of a step's figures: names that are one of these, or begin with one that ends in / or _."""


class Results:
    """Every finished run, in one file that is whole after each.

    path: a .json.gz file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.runs: dict[str, Any] = read_results(path)["runs"] if path.exists() else {}

    def finished(self, job: Job) -> bool:
        """Raises RuntimeError if the file holds a run of this name with other settings."""
        found = self.runs.get(job.name)
        if found is not None and found["job"] != job.identity():
            raise RuntimeError(f"{self.path} holds {job.name} with other settings: give --json another file")
        return found is not None

    def add(self, job: Job, found: Mapping[str, Any]) -> None:
        self.runs[job.name] = {"job": job.identity(), **found, "made": made()}
        text = json.dumps({"runs": dict(sorted(self.runs.items()))}, separators=(",", ":"))
        with replacing(self.path) as file:
            file.write(gzip.compress(text.encode(), mtime=0))


def read_results(path: Path) -> dict[str, Any]:
    return json.loads(gzip.decompress(path.read_bytes()))


def made() -> dict[str, str]:
    """When, and by which versions."""
    found = {name: version(name) for name in ("trl", "transformers", "torch")}
    return {
        "date": datetime.date.today().isoformat(),
        "fst_plugin": __version__,
        "python": platform.python_version(),
        **found,
    }


def train(job: Job) -> dict[str, Any]:
    """Runs a job. Returns its steps by stage, each (step, figures), the prompts that it ends with, and its seconds."""
    import torch
    from fst_envs.house import policy

    from fst_plugin.analysis import read

    torch.set_num_threads(1)
    began, model, found, prompts = time.monotonic(), str(policy.path("rules")), [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, stage in enumerate(stages(job)):
            out = f"{folder}/{number}"
            model = _train(job, stage, model, out)
            run = read.read(f"{job.arm}_{job.seed}={out}")
            found.append([[step.step, _kept(step.data)] for step in run.steps])
            prompts = [prompt.text for prompt in run.population]
    return {"stages": found, "prompts": prompts, "seconds": round(time.monotonic() - began, 1)}


def _kept(data: Mapping[str, float]) -> dict[str, float]:
    return {
        name: round(value, 6)
        for name, value in data.items()
        if any(name == one or (one[-1] in "/_" and name.startswith(one)) for one in KEPT)
    }


def _train(job: Job, stage: Stage, model: Any, out: str) -> Any:
    """One training into `out`; returns the trained model. model: a folder, or a model."""
    from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env
    from transformers import AutoTokenizer, PrinterCallback, TrainerCallback

    class Until(TrainerCallback):
        """Ends a training with the step that reaches its budget, and validates there."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            fst = trainer.fst and trainer.fst.weights
            spent = state.global_step * BATCH * GROUP + (fst.state.counters.rollouts_fast if fst else 0)
            if spent >= stage.until:
                control.should_evaluate = control.should_training_stop = True

    sizes, claim = job.sizes, job.part == "claims"
    args = FSTGRPOConfig(
        output_dir=out,
        fst=dict(stage.fst),
        seed=job.seed,
        max_steps=stage.steps,
        per_device_train_batch_size=BATCH * GROUP,
        num_generations=GROUP,
        max_completion_length=12,
        learning_rate=stage.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        weight_decay=0.0,
        loss_type="cispo",
        epsilon_high=4.0,
        beta=0.001,
        eval_strategy="steps",
        eval_steps=sizes.every if claim else stage.steps,
        eval_on_start=claim,
        per_device_eval_batch_size=sizes.problems * (1 if claim else sizes.samples),
        num_generations_eval=1 if claim else sizes.samples,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    most = max(sizes.steps, sizes.budget // (BATCH * GROUP)) if not claim else sizes.steps
    data = from_env(ENV_ID, task_kwargs(job.task, job.seed), train_size=BATCH * most, val_size=sizes.problems)
    tokenizer = AutoTokenizer.from_pretrained(model if isinstance(model, str) else model.config._name_or_path)
    trainer = FSTGRPOTrainer(model=model, args=args, processing_class=tokenizer, callbacks=[Until()], **data)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.model


# ---------------------------------------------------------------------------------------------------------- what is run


def validations(record: Mapping[str, Any]) -> list[float]:
    """Rewards of the last stage's validations under the run's own prompt, in order."""
    found = []
    for _, data in record["stages"][-1]:
        found += [v for name, v in data.items() if name.startswith("val-core/") and "/seed_prompt/" not in name]
    return found


def best_rate(jobs: Sequence[Job], runs: Mapping[str, Any]) -> float:
    """The rate of these jobs, which differ by it alone, at which the validations are best: highest peak, then highest
    mean. Raises KeyError if one is not finished."""

    def rank(job: Job) -> tuple[float, float]:
        curve = validations(runs[job.name])
        return max(curve), sum(curve) / len(curve)

    return max(jobs, key=rank).rate


def swept(
    part: str, arms: Sequence[str], seeds: Sequence[int], sizes: Sizes, runs: Mapping[str, Any]
) -> dict[str, float]:
    """Arm -> its best rate, or the lowest one as long as its sweep is not finished."""
    found = {}
    for arm in arms:
        jobs = sweep(part, [arm], seeds[0], sizes)
        found[arm] = best_rate(jobs, runs) if all(job.name in runs for job in jobs) else RATES[0]
    return found


def waves(
    only: Sequence[str], seeds: Sequence[int], sizes: Sizes, runs: Mapping[str, Any]
) -> Sequence[Callable[[], list[Job]]]:
    """What is to be run, each wave once the one before is finished: sweeps, then the runs at the best rates."""

    def main_claims() -> list[Job]:
        return claims(seeds, swept("claims", ["rl"], seeds, sizes, runs)["rl"], sizes)

    def main_controls() -> list[Job]:
        return controls(seeds, swept("controls", SWEPT, seeds, sizes, runs), sizes)

    found: list[Callable[[], list[Job]]] = []
    if "claims" in only:
        found += [lambda: sweep("claims", ["rl"], seeds[0], sizes), main_claims]
    if "controls" in only:
        found += [lambda: sweep("controls", SWEPT, seeds[0], sizes), main_controls]
    return found


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("claims", "controls"), action="append", help="this part alone")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (3)")
    parser.add_argument("--json", type=Path, default=Path("runs/results_trl.json.gz"), help="file of all finished runs")
    parser.add_argument("--quick", action="store_true", help="two steps a run, to try the program out")
    parser.add_argument("--plan", action="store_true", help="list the runs and start none")
    args = parser.parse_args(given)
    results, sizes = Results(args.json), QUICK if args.quick else Sizes()
    only, planned = args.only or ("claims", "controls"), set[str]()
    try:
        for wave in waves(only, range(args.seeds), sizes, results.runs):
            jobs = [job for job in wave() if not results.finished(job) and job.name not in planned]
            for number, job in enumerate(jobs, 1):
                print(f"{number} of {len(jobs)}: {job.name}", flush=True)
                if args.plan:
                    planned.add(job.name)
                    continue
                results.add(job, train(job))
                last = results.runs[job.name]
                print(f"{job.name}: {validations(last)[-1]:.3f} after {last['seconds']:.0f} s", flush=True)
    except RuntimeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
