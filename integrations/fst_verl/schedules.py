"""What keeps `data.env.tasks` from being served; reads no torch, so that a check is quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def schedule_problems(env: Mapping[Any, Any], data: Any, steps: int | None = None) -> list[tuple[str, str]]:
    """What keeps `data.env.tasks` from being served at the steps it names, as (key, what is wrong and how to fix it).

    env: `data.env` as plain data.
    data: the `data` node.
    steps: RL steps of the run, if known.
    """
    from fst_envs import task_schedule as tasks

    batch, size = int(data.train_batch_size), int(env["train_size"])
    found = [(f"data.env.tasks{place}", message) for place, message in tasks.problems(env["tasks"], batch, size)]
    if env.get("id") not in (None, "???"):
        found.append(("data.env.id", "is set as well as data.env.tasks: leave it out, the tasks name the environments"))
    if env.get("kwargs"):
        found.append(("data.env.kwargs", "is set as well as data.env.tasks: give every task its own kwargs"))
    if data.get("shuffle", True):
        found.append(("data.shuffle", "the tasks of data.env.tasks come in order: set it to false"))
    if (data.get("train_max_samples") or -1) > 0:
        found.append(("data.train_max_samples", "would cut the last tasks off: leave it at -1"))
    if steps is not None and steps * batch > size:
        message = f"{size} rows end before step {steps}, and the first task would come back: set it to {steps * batch}"
        found.append(("data.env.train_size", f"{message} (steps x data.train_batch_size)"))
    return found


def config_problems(config: Any) -> list[tuple[str, str]]:
    """`schedule_problems` of a whole verl config, and what else of it breaks a schedule; empty without tasks."""
    from omegaconf import OmegaConf

    if not config.data.get("env"):
        return []
    if not config.data.env.get("tasks"):
        return []
    env = OmegaConf.to_container(config.data.env, resolve=True)
    assert isinstance(env, dict)
    epochs = int(env["train_size"]) // int(config.data.train_batch_size) * int(config.trainer.total_epochs)
    found = schedule_problems(env, config.data, config.trainer.get("total_training_steps") or epochs)
    for key in ("algorithm.filter_groups.enable", "trainer.v1.sampler.sync_refill_failed_groups"):
        if OmegaConf.select(config, key):
            found.append((key, "takes more rows than a step has, and tasks would begin early: set it to false"))
    return found
