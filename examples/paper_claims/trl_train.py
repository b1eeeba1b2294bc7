"""One run through TRL, on CPU with the tiny policy: `train`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl_plan import BATCH, CYCLE, GROUP, STEP, Job, Stage, stages, task_kwargs, two_books

ENV_ID = "fst_envs:fst/HouseRules-v0"
KEPT = ("val-core/", "actor/kl_loss", "fst/rollouts_", "fst/reflection_calls_total", "fst/population", "reward")
KEPT += ("fst/archived_",)
"""What is kept of a step's figures: names that are one of these, or begin with one that ends in / or _."""


def train(job: Job) -> dict[str, Any]:
    """Runs a job.

    stages: of each stage its steps, each (step, figures).
    prompts: those that it ends with, best first; none without fast weights.
    tries: of a control with several prompts, as `_tries` has them.
    picks: its router's, as `_picks` has them; None if it has nothing to route by.
    seconds: it took.
    """
    import torch
    from fst_envs.house import policy

    from fst_plugin.analysis import read

    torch.set_num_threads(1)
    began, model = time.monotonic(), str(policy.path("rules"))
    found: dict[str, Any] = {"stages": [], "prompts": []}
    with tempfile.TemporaryDirectory() as folder:
        for number, stage in enumerate(stages(job)):
            out = f"{folder}/{number}"
            trainer = _train(job, stage, model, out)
            run, model = read.read(f"{job.arm}_{job.seed}={out}"), trainer.model
            found["stages"].append([[step.step, _kept(step.data)] for step in run.steps])
            found["prompts"] = [prompt.text for prompt in run.population]
        if job.part == "controls" and len(found["prompts"]) > 1:
            found |= {"tries": _tries(trainer, job.sizes.samples), "picks": _picks(trainer, out)}
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def _kept(data: Mapping[str, float]) -> dict[str, float]:
    return {
        name: round(value, 6)
        for name, value in data.items()
        if any(name == one or (one[-1] in "/_" and name.startswith(one)) for one in KEPT)
    }


def _tries(trainer: Any, samples: int) -> list[list[list[float]]]:
    """Rewards on the validation problems: of every prompt, of every problem, of every try. No rollout of these counts
    as spent."""
    from fst_trl import rows
    from fst_trl.fast_rollouts import changed

    from fst_plugin.rollouts import Cell

    fst, data = trainer.fst, trainer.eval_dataset
    problems = [rows.problem(row, place) for place, row in enumerate(data)]
    cells = [Cell(p, problem) for p in fst.weights.population.prompts for problem in problems for _ in range(samples)]
    trainer.model.train()  # as in a fast phase
    with changed(trainer, {"train_dataset": data}):
        scores = iter([rollout.score for rollout in fst.rollouts.evaluate(cells)])
    return [[[next(scores) for _ in range(samples)] for _ in problems] for _ in fst.weights.population.prompts]


def _picks(trainer: Any, out: str) -> list[int] | None:
    """Of every validation problem, the place of the prompt that `fst export --router` would pick at the run's end; None
    if the prompts were scored on no problem."""
    from fst_trl import rows

    from fst_plugin.analysis.export import ExportError, anchors_of_run
    from fst_plugin.record.cycles import read_record
    from fst_plugin.record.problems import text_of
    from fst_plugin.router import Router

    trainer.fst.save(f"{out}/checkpoint-{trainer.state.global_step}")  # of the fast weights alone
    record = read_record(Path(out))
    try:
        anchors, _ = anchors_of_run(record)
    except ExportError:
        return None
    router = Router(tuple(prompt.text for prompt in record.population), tuple(anchors))
    return [router.pick(text_of(rows.problem(row))) for row in trainer.eval_dataset]


def _train(job: Job, stage: Stage, model: Any, out: str) -> Any:
    """One training into `out`; returns the trainer. model: a folder, or a model."""
    from fst_trl import FSTGRPOConfig, FSTGRPOTrainer
    from transformers import AutoTokenizer, PrinterCallback, TrainerCallback

    class Until(TrainerCallback):
        """Ends a training before the step that would pass its budget, and validates there."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            fst = trainer.fst and trainer.fst.weights
            spent = state.global_step * STEP + (fst.state.counters.rollouts_fast if fst else 0)
            if stage.ends(state.global_step, spent):
                control.should_evaluate = control.should_training_stop = True

    sizes, claim = job.sizes, job.part != "controls"
    args = FSTGRPOConfig(
        output_dir=out,
        fst=dict(stage.fst),
        seed=job.seed,
        max_steps=stage.steps,
        per_device_train_batch_size=STEP,
        num_generations=GROUP,
        max_completion_length=12,
        gradient_checkpointing=False,  # saves memory, of which a model this small needs little
        learning_rate=stage.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=10,
        weight_decay=0.0,
        loss_type="cispo",
        epsilon_high=4.0,
        beta=0.001,
        eval_strategy="steps",
        eval_steps={"claims": sizes.every, "returns": CYCLE}.get(job.part, stage.steps),
        eval_on_start=claim,
        shuffle_dataset=job.part != "returns",
        per_device_eval_batch_size=sizes.problems * (1 if claim else sizes.samples),
        num_generations_eval=1 if claim else sizes.samples,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(model if isinstance(model, str) else model.config._name_or_path)
    trainer = FSTGRPOTrainer(model=model, args=args, processing_class=tokenizer, callbacks=[Until()], **_data(job))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def _data(job: Job) -> dict[str, Any]:
    """The trainer's data and rewards. A return validates on either task by itself: "first" and "second"."""
    from fst_envs import task_schedule
    from fst_trl import from_env
    from fst_trl.environments import dataset_of, reward_of

    sizes = job.sizes
    if job.part != "returns":
        most = sizes.steps if job.part == "claims" else max(sizes.steps, sizes.budget // STEP)
        return from_env(ENV_ID, task_kwargs(job.task, job.seed), train_size=BATCH * most, val_size=sizes.problems)
    first, second = two_books(job.task, job.seed)
    begins = enumerate((first, second, first))
    tasks = [{"id": ENV_ID, "kwargs": kwargs, "from_step": 1 + sizes.stage * place} for place, kwargs in begins]
    rows = task_schedule.load(task_schedule.stages(tasks, BATCH, 3 * sizes.stage * BATCH), sizes.problems)
    val = {"first": rows["val"][: sizes.problems], "second": rows["val"][sizes.problems :]}
    return {
        "train_dataset": dataset_of(rows["train"]),
        "eval_dataset": {name: dataset_of(some) for name, some in val.items()},
        "reward_funcs": reward_of({"tasks": tasks}),
    }
