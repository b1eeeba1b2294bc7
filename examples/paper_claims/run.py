"""The paper's claims, side by side on one machine: every run through verl, then results.json.

    python examples/paper_claims/run.py                 # three seeds; hours on 2 cores
    python examples/paper_claims/run.py --quick         # one seed, short runs; two tasks, zero start, 2x2; no sweep
    python examples/paper_claims/run.py --only continual --jobs 2
    python examples/paper_claims/run.py --plan          # what would be run; starts nothing
    python examples/paper_claims/run.py --collect       # results.json from what is finished; starts nothing
    python examples/paper_claims/make_results.py runs/paper_claims/results.json   # RESULTS.md

A finished run has a result.json in its folder and is not repeated; a run that was cut off begins anew, and what it left
is set aside. results.json is written from whatever is finished, and says of every figure that it lacks why.
Where this differs from the paper: a tiny policy on CPU, a reflection that only composes prompts from feedback
sentences, short runs. RL gets the best of four learning rates; FST is not swept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import DONE, reward, write_results
from fst_envs.house import policy
from fst_verl.experiments import demo, runner
from fst_verl.experiments.runner import VerlRun
from plan import CLAIMS, GRAPH, QUICK, QUICK_RATE, RATES, TASKS, Job, Lengths, Plan, with_prompt
from rich.console import Console

from fst_plugin.record.state import BEST_PROMPT_FILE

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Models:
    """The base models: `graphs` reads the star graph, `rules` everything else."""

    rules: Path
    graphs: Path

    def of(self, job: Job) -> Path:
        return self.graphs if Path(job.name).parts[0] == GRAPH else self.rules


console = Console()


def weights_of(name: str, out: Path) -> Path:
    """The last weights of a finished run, in Hugging Face's format. Raises RuntimeError if it has none."""
    saved = sorted((out / name / "checkpoints").glob("global_step_*"), key=lambda p: int(p.name.rpartition("_")[2]))
    model = saved[-1] / "actor" / "huggingface" if saved else None
    if model is None or not any(model.glob("*.safetensors")):
        raise RuntimeError(f"{out / name} left no weights: it has to be finished first")
    return model


def prompt_of(name: str, out: Path) -> str:
    """The best prompt of a finished run; of an archived one, as its marker has it."""
    kept = out / name / "checkpoints" / "fst" / BEST_PROMPT_FILE
    if kept.exists():
        return kept.read_text(encoding="utf-8")
    return json.loads((out / name / DONE).read_text(encoding="utf-8"))["figures"]["best_prompt"]


def verl_run(job: Job, models: Models, out: Path) -> VerlRun:
    """The job as verl runs it. Raises RuntimeError or OSError if a run that it starts from is not finished."""
    start = weights_of(job.weights, out) if job.weights else models.of(job)
    setup = with_prompt(job.setup, prompt_of(job.prompt, out)) if job.prompt else job.setup
    given = demo.arguments(job.arm, job.seed, setup, start, out / job.name)
    return VerlRun(out / job.name, job.arm, job.seed, tuple(given), {"job": job.identity()}, DONE)


def perform_all(jobs: Sequence[Job], models: Models, out: Path, workers: int) -> dict[str, str]:
    """Runs jobs, `workers` at a time; one that fails does not stop the others. Returns job -> what went wrong."""
    jobs = list({job.name: job for job in jobs}.values())
    waiting = [job for job in jobs if not runner.finished(out / job.name / DONE, {"job": job.identity()})]
    if waiting:
        console.print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already; {workers} at a time")
    failed: dict[str, str] = {}
    ready: list[VerlRun] = []

    def fail(name: str, error: Exception) -> None:
        failed[name] = str(error)
        console.print(f"failed: {name}: {error}", style="red", markup=False)

    for job in waiting:
        try:
            ready.append(verl_run(job, models, out))
        except (RuntimeError, OSError) as error:
            fail(job.name, error)

    def run_one(one: VerlRun) -> None:
        name = one.folder.relative_to(out).as_posix()
        try:
            runner.run(one)
            console.print(f"done: {name}", markup=False)
        except (RuntimeError, OSError) as error:
            fail(name, error)

    runner.run_all(ready, workers, run_one)
    return failed


def best_rate(plan: Plan, out: Path) -> float:
    """The learning rate at which RL's validations are best on the first task: highest peak, then highest mean. The
    only one, if there is no sweep; Setup's own if none was tried."""
    if len(plan.rates) == 1:
        return plan.rates[0]
    curves = {rate: reward(out / plan.main_job(plan.first, "rl", plan.seeds[0], rate).name) for rate in plan.rates}
    known = {rate: list(curve.values()) for rate, curve in curves.items() if curve}
    if not known:
        return demo.Setup.learning_rate
    return max(known, key=lambda rate: (max(known[rate]), sum(known[rate]) / len(known[rate])))


def run(plan: Plan, models: Models, out: Path, workers: int) -> dict[str, str]:
    """Everything that is not finished yet, then results.json. Returns what failed. Raises RuntimeError as
    `runner.run_all` does."""
    failed = perform_all(plan.sweep(), models, out, workers) if len(plan.rates) > 1 else {}
    rate = best_rate(plan, out)
    failed |= perform_all(plan.main(rate), models, out, workers)
    failed |= perform_all(plan.after(rate), models, out, workers)
    write_results(out / "results.json", plan, rate, out, failed)
    return failed


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, short runs, two tasks, zero start, 2x2 only")
    parser.add_argument("--only", choices=CLAIMS, action="append", help="this claim alone; may be given several times")
    parser.add_argument("--seeds", type=int, default=None, help="how many seeds (3; with --quick 1)")
    parser.add_argument("--jobs", type=int, default=1, help="verl runs at a time; each takes about 7 GB")
    parser.add_argument("--out", type=Path, default=None, help="folder of all runs (runs/paper_claims[_quick])")
    parser.add_argument("--model", type=Path, default=None, help="a language model for all runs")
    parser.add_argument("--set", action="append", default=[], help="further verl argument, for every run")
    parser.add_argument("--plan", action="store_true", help="list the runs and start none")
    parser.add_argument("--collect", action="store_true", help="write results.json from what is finished; start none")
    args = parser.parse_args(given)
    claims = args.only or (("efficiency", "zero_start", "attribution") if args.quick else CLAIMS)
    seeds = tuple(range(args.seeds or (1 if args.quick else 3)))
    plan = Plan(
        seeds,
        QUICK if args.quick else Lengths(),
        claims,
        tuple(args.set),
        rates=(QUICK_RATE,) if args.quick else RATES,
        tasks=TASKS[:2] if args.quick else TASKS,
        model=args.model.name if args.model else Plan.model,
    )
    out = (args.out or Path("runs") / ("paper_claims_quick" if args.quick else "paper_claims")).absolute()
    if args.plan:
        rate = best_rate(plan, out)
        jobs = {j.name: j for j in (*plan.sweep(), *plan.main(rate), *plan.after(rate))}.values()
        for job in jobs:
            console.print(f"{job.setup.steps:4d} steps  {job.name}", markup=False, highlight=False)
        console.print(f"{len(jobs)} runs, {sum(j.setup.steps for j in jobs)} steps")
        return 0
    if args.collect:
        write_results(out / "results.json", plan, best_rate(plan, out), out, {})
        return 0
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models are folders
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    given_model = args.model and args.model.absolute()
    models = Models(given_model or policy.path("rules"), given_model or policy.path("graphs"))
    try:
        failed = run(plan, models, out, args.jobs)
    except RuntimeError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    console.print(f"figures: {out / 'results.json'}; {len(failed)} runs failed", markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
