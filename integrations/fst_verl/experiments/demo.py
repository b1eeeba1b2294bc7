"""`fst demo`: RL alone, prompt evolution alone, and FST, on house rules with the tiny policy, through verl on CPU.

Every arm is a plain `python -m verl.trainer.main_ppo` run of its own, with the same seed, data, batch and number of
steps; its figures are read from verl's own file logger. Settings that are not the paper's are marked "ours".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fst_plugin.record.atomic import write_json
from fst_plugin.record.state import BEST_PROMPT_FILE

from .comparison import ARM_ARGUMENTS, ARMS
from .launch import METRICS_FILE, launch, run_all

ENV_ID = "fst_envs:fst/HouseRules-v0"
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
PROCESS_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "RAY_prestart_worker_first_driver": "0",  # verl's processes are actors: workers started in advance stay idle
}


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


@dataclass
class Result:
    """What one arm measured with one seed."""

    val_acc_by_step: dict[int, float] = field(default_factory=dict)
    val_acc_seed_prompt_by_step: dict[int, float] = field(default_factory=dict)
    steps_to_rl_peak: int | None = None
    rollouts_slow: int = 0
    rollouts_fast: int = 0
    rollouts_by_step: dict[int, int] = field(default_factory=dict)
    kl_to_base: float = 0.0
    kl_by_step: dict[int, float] = field(default_factory=dict)
    best_prompt: str = ""
    seconds: float = 0.0
    seconds_by_part: dict[str, float] = field(default_factory=dict)


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


def run_arm(arm: str, seed: int, setup: Setup, model: Path, out: Path, on_step: Callable[[int], None]) -> Result:
    """Runs one arm to its end. Raises RuntimeError, with the log's end, where verl fails."""
    began, marks = time.monotonic(), Marks(out / METRICS_FILE)

    def watch(step: int) -> None:
        marks.look()
        on_step(step)

    try:
        launch(arguments(arm, seed, setup, model, out), out, watch, **PROCESS_ENVIRONMENT)
    except RuntimeError as error:
        raise RuntimeError(f"arm {arm!r}, seed {seed}: {error}") from None
    on_step(setup.steps)
    result = read_metrics(out / METRICS_FILE, setup.batch * setup.group)
    if arm == "prompts":
        result.kl_by_step, result.kl_to_base = {}, 0.0  # the weights never move
    best = out / "checkpoints" / "fst" / BEST_PROMPT_FILE
    result.best_prompt = best.read_text() if best.exists() else ""
    result.seconds = time.monotonic() - began
    result.seconds_by_part = parts(out / METRICS_FILE, result.seconds, marks)
    return result


@dataclass
class Marks:
    """When verl, seen from outside, had started and had validated for the first time, which its log has no seconds of.

    started: seconds from now to the log file's appearance, which verl opens once everything is up.
    validated: seconds to the first line in it, the validation before training.
    """

    path: Path
    began: float = field(default_factory=time.monotonic)
    started: float | None = None
    validated: float | None = None

    def look(self) -> None:
        """To be called now and then; a mark is as exact as the calls are frequent."""
        if self.started is None and self.path.exists():
            self.started = time.monotonic() - self.began
        if self.validated is None and self.path.exists() and self.path.stat().st_size:
            self.validated = time.monotonic() - self.began


def parts(path: Path, seconds: float, marks: Marks) -> dict[str, float]:
    """The wall seconds of a run by part: start-up, validation, steps (fast phases included), rest.

    Steps and later validations are verl's own `timing_s/step` and `timing_s/testing`; start-up and the first validation
    are `marks`. They add up to `seconds`.
    """
    logged = [json.loads(line)["data"] for line in path.read_text().splitlines()]
    steps, tests = (sum(data.get(f"timing_s/{key}", 0.0) for data in logged) for key in ("step", "testing"))
    startup = marks.started or 0.0
    validation = (marks.validated or startup) - startup + tests
    known = {"start-up": startup, "validation": validation, "steps": steps}
    return {**known, "rest": seconds - sum(known.values())}


def read_metrics(path: Path, rollouts_per_step: int) -> Result:
    """Figures of one run from verl's file logger: one {"step", "data"} a line."""
    result = Result()
    slow = 0
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        step, data = entry["step"], entry["data"]
        for key, value in data.items():
            if key.startswith("val-core/") and "/acc/mean@" in key:
                target = result.val_acc_seed_prompt_by_step if "/seed_prompt/" in key else result.val_acc_by_step
                target[step] = value
        if "actor/kl_loss" in data:
            result.kl_by_step[step] = data["actor/kl_loss"]
            result.kl_to_base = data["actor/kl_loss"]
        if step > 0:
            slow = step * rollouts_per_step
            result.rollouts_fast = int(data.get("fst/rollouts_fast_total", 0))
        result.rollouts_slow = slow
        result.rollouts_by_step[step] = slow + result.rollouts_fast
    return result


def compare(results: dict[str, dict[int, Result]]) -> None:
    """Fills in, for every seed, the first step at which an arm's validation accuracy reaches the RL arm's best."""
    for seed, rl in results.get("rl", {}).items():
        peak = max(rl.val_acc_by_step.values())
        for arm in results:
            reached = [s for s, acc in sorted(results[arm][seed].val_acc_by_step.items()) if acc >= peak]
            results[arm][seed].steps_to_rl_peak = reached[0] if reached else None


def run(
    setup: Setup, model: Path, out: Path, arms: Sequence[str], jobs: int, progress: Any
) -> dict[str, dict[int, Result]]:
    """Runs every arm with every seed, `jobs` at a time. progress: a rich Progress."""
    results: dict[str, dict[int, Result]] = {arm: {} for arm in arms}

    def one(arm: str, seed: int) -> None:
        task = progress.add_task(f"{ARMS[arm]}, seed {seed}", total=setup.steps)
        results[arm][seed] = run_arm(
            arm, seed, setup, model, out / f"{arm}_{seed}", lambda step: progress.update(task, completed=step)
        )

    run_all([partial(one, arm, seed) for seed in setup.seeds for arm in arms], jobs)
    compare(results)
    return results


def write(path: Path, setup: Setup, results: dict[str, dict[int, Result]]) -> None:
    """Every figure, as JSON: setup, then arm -> seed -> figures."""
    arms = {arm: {str(seed): asdict(result) for seed, result in by_seed.items()} for arm, by_seed in results.items()}
    write_json(path, {"setup": asdict(setup), "arms": arms})
