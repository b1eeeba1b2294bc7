"""`fst demo`: RL alone, prompt evolution alone, and FST, on house rules with the tiny policy, through verl on CPU.

Every arm is a plain `python -m verl.trainer.main_ppo` run of its own, with the same seed, data, batch and number of
steps; `fst_plugin.analysis` reads its figures from verl's own log. Settings that are not the paper's are marked "ours".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fst_plugin.analysis import EXTRA, curves
from fst_plugin.analysis import compare as comparing
from fst_plugin.analysis.commands import print_comparison
from fst_plugin.analysis.costs import costs
from fst_plugin.analysis.read import read_all
from fst_plugin.analysis.run import Run

from . import runner
from .comparison import ARM_ARGUMENTS, ARMS
from .runner import VerlRun

ENV_ID = "fst_envs:fst/HouseRules-v0"
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
PROCESS_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the policy is a folder
    "RAY_prestart_worker_first_driver": "0",  # verl's processes are actors: workers started in advance stay idle
}
WHAT_EACH_SEES = (
    "What each learns from: RL sees rewards of 0 or 1 and nothing else. The reflection sees feedback sentences as well;"
    " in house rules such a sentence states the rule that was broken. Here it is offline: it composes prompts from"
    " these sentences, no language model reflects. The prompts-alone arm makes slow rollouts too, but does not learn"
    " from them. KL to the base: verl's per-token estimate on the step's own rollouts, each arm under its own prompts."
)


@dataclass(frozen=True)
class Setup:
    """Settings of the demo; all arms share them."""

    steps: int = 24  # ours
    batch: int = 16  # problems a step (ours)
    group: int = 8  # G, paper §settings
    population: int = 4  # K, paper §settings
    slow_steps: int = 6  # T, paper §settings
    learning_rate: float = 3e-4  # ours, the same for all arms; not swept
    val_size: int = 36  # ours
    val_samples: int = 4  # mean@4, paper §evaluation
    test_every: int = 6  # ours
    seeds: tuple[int, ...] = (0,)
    extra: tuple[str, ...] = ()  # further verl arguments, for every arm
    task: tuple[str, ...] | None = None  # verl arguments that name the task; None: house rules, the seed is the book


def arguments(arm: str, seed: int, setup: Setup, model: Path, out: Path) -> list[str]:
    """verl's command line of one arm: `python -m verl.trainer.main_ppo` and these."""
    task = (f"data.env.id={ENV_ID}", f"+data.env.kwargs.book={seed}") if setup.task is None else setup.task
    settings = {
        "data.env.system_prompt": "You are a helpful assistant.",
        "data.env.train_size": setup.batch * setup.steps,
        "data.env.val_size": setup.val_size,
        "data.seed": seed,
        "data.train_batch_size": setup.batch,
        "data.max_prompt_length": 256,
        "data.max_response_length": 12,
        "actor_rollout_ref.model.path": model,
        "actor_rollout_ref.actor.optim.lr": setup.learning_rate,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": setup.batch * setup.group,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": setup.batch * setup.group,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": setup.batch * setup.group,
        "actor_rollout_ref.rollout.n": setup.group,
        "actor_rollout_ref.rollout.max_model_len": 272,
        "actor_rollout_ref.rollout.max_num_seqs": 256,
        "actor_rollout_ref.rollout.max_num_batched_tokens": 8192,
        # one vLLM process less to start: a model this small needs no worker with threads of its own
        "+actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend": ONE_PROCESS,
        "actor_rollout_ref.rollout.val_kwargs.n": setup.val_samples,
        "actor_rollout_ref.rollout.val_kwargs.do_sample": "true",
        "actor_rollout_ref.rollout.val_kwargs.temperature": 1.0,
        "trainer.total_training_steps": setup.steps,
        "trainer.total_epochs": 1000,
        "trainer.val_before_train": "true",
        "trainer.test_freq": setup.test_every,
        "trainer.save_freq": -1,
        "trainer.resume_mode": "disable",
        "trainer.logger": "[console,file]",
        "trainer.project_name": "fst_demo",
        "trainer.experiment_name": f"{arm}_{seed}",
        "trainer.default_local_dir": out / "checkpoints",
        "fst.population": setup.population,
        "fst.slow_steps": setup.slow_steps,
        "fst.reflection.kind": "offline",
        "fst.seed": seed,
    }
    groups = ["+fst=paper", "+fst_cpu=default", "+fst_env=default"]
    return [
        *groups,
        *(f"{key}={value}" for key, value in settings.items()),
        *ARM_ARGUMENTS[arm],
        *task,
        f"hydra.run.dir={out / 'hydra'}",
        *setup.extra,
    ]


def runs(setup: Setup, model: Path, out: Path, arms: Sequence[str]) -> list[VerlRun]:
    """Every arm with every seed, in folders of `out`."""
    folders = [(arm, seed, out.absolute() / f"{arm}_{seed}") for seed in setup.seeds for arm in arms]
    return [VerlRun(to, arm, seed, tuple(arguments(arm, seed, setup, model, to))) for arm, seed, to in folders]


def run(setup: Setup, model: Path, out: Path, arms: Sequence[str], jobs: int, progress: Any) -> list[Run]:
    """Runs what is not finished yet, `jobs` at a time, and reads all of it. progress: a rich Progress."""
    asked = runs(setup, model, out, arms)
    bars = {}
    for one in asked:
        done = setup.steps if one.finished() else 0
        bars[one.name] = progress.add_task(f"{ARMS[one.arm]}, seed {one.seed}", total=setup.steps, completed=done)

    def run_one(one: VerlRun) -> None:
        runner.run(one, lambda step: progress.update(bars[one.name], completed=step))

    runner.run_all(asked, jobs, run_one)
    return read_all([one.spec for one in asked])


def show(console: Console, runs: Sequence[Run]) -> None:
    """The figures as tables, what they compare, and FST's best prompt."""
    found = comparing.compare(runs)
    steps, rows = comparing.by_step(runs)
    table = Table("arm", *map(str, steps), title="validation reward by RL step, median over the seeds")
    for arm, cells in rows.items():
        table.add_row(ARMS[arm], *cells)
    console.print(table)
    print_comparison(console, found)
    for line in (*comparing.sentences(found), WHAT_EACH_SEES):
        console.print(Text(line))
    best = next((one for one in runs if one.arm == "fst" and one.population), None)
    if best is not None:
        console.print(Panel(Text(best.population[0].text), title=f"best prompt of FST, seed {best.seed}"))


def time_table(runs: Sequence[Run]) -> Table:
    """Wall seconds of every run by part: what verl's log times, and the rest: start-up, first validation, shutdown."""
    timed, totals = [costs(one).seconds() for one in runs], [_seconds(one) for one in runs]
    parts = {
        name: [run.get(name, 0.0) for run in timed] for name in dict.fromkeys(name for run in timed for name in run)
    }
    parts["start-up and the rest"] = [total - sum(run.values()) for total, run in zip(totals, timed, strict=True)]
    parts["total"] = totals
    table = Table("part", *(f"{ARMS[one.arm]}, seed {one.seed}" for one in runs), title="wall seconds")
    for name, seconds in parts.items():
        table.add_row(name, *(f"{second:.0f}" for second in seconds))
    return table


def _seconds(one: Run) -> float:
    return json.loads((Path(one.where) / runner.DONE_FILE).read_text(encoding="utf-8"))["seconds"]


def write_report(console: Console, out: Path, runs: Sequence[Run]) -> None:
    """The page of `fst report`, and its charts as PNG files, in `out`; a line if their libraries are missing."""
    try:
        from fst_plugin.analysis.report import write

        written = write(out / "report.html", runs, title="Fast-Slow Training: demo", pictures=out)
    except ModuleNotFoundError as error:
        console.print(Text(f"no report and charts, for want of {error.name}: {EXTRA}"))
        return
    console.print(Text("report and charts: " + ", ".join(map(str, written))))


def figures(setup: Setup, runs: Sequence[Run]) -> dict[str, Any]:
    """Every figure, as JSON: setup, arm -> seed -> figures, and the comparison of the arms."""
    arms: dict[str, dict[str, Any]] = {}
    baselines = {one.seed: one for one in runs if one.arm == "rl"}
    for one in runs:
        reward, slow, kl = one.reward(), one.slow_rollouts(), one.kl()
        rl, fast = baselines.get(one.seed), one.total("rollouts_fast")
        arms.setdefault(one.arm, {})[str(one.seed)] = {
            "val_acc_by_step": reward,
            "val_acc_seed_prompt_by_step": one.reward(seed_prompt=True),
            "steps_to_rl_peak": curves.to_peak(rl.reward(), reward).arm if rl else None,
            "rollouts_slow": slow[max(slow)] if slow else None,
            "rollouts_fast": int(fast[max(fast)]) if fast else 0,
            "rollouts_by_step": one.rollouts(),
            "kl_to_base": kl[max(kl)] if kl else None,
            "kl_by_step": kl,
            "best_prompt": one.population[0].text if one.population else "",
            "seconds": _seconds(one),
        }
    return {"setup": asdict(setup), "arms": arms, "comparison": comparing.compare(runs)}
