"""A schedule of tasks: the environment that a run trains on changes at given steps (paper §continual).

A schedule is a list of {"id", "kwargs", "from_step", "train_size"}, see `TASK_KEYS`. Its rows are in the order of the
steps, so a loader that does not shuffle serves each task from its step on.

Invariants: no training question of any task is a validation question of any task; a task that comes back continues
where it stopped; every task has its own name, even if two are the same environment with different arguments.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import gymnasium as gym

from .instances import Row, env_name, rows, task_ids

TASK_KEYS = {
    "id": "Gymnasium id of the environment",
    "kwargs": "arguments of its constructor; default: none",
    "from_step": "first RL step that trains on it, counted from 1; steps ascend along the list",
    "train_size": "number of problems, which repeat if the task's stages have more rows; default: no problem repeats",
}


@dataclass(frozen=True)
class Stage:
    """A run of steps that train on one task.

    name: of the task, see `task_names`.
    id, kwargs: of the environment.
    first, last: the steps, both included.
    rows: number of training rows of the stage.
    train_size: number of problems of the task; None: as many as its rows.
    """

    name: str
    id: str
    kwargs: Mapping[str, Any]
    first: int
    last: int
    rows: int
    train_size: int | None = None


def problems(tasks: Any, batch: int, train_size: int) -> list[tuple[str, str]]:
    """What is wrong with a schedule: (place in the list, such as "[1].from_step", what is wrong and how to fix it).

    Imports the modules of the ids; builds no environment.

    tasks: the schedule, as a user wrote it.
    batch: rows per step.
    train_size: rows of the whole run.
    """
    if not isinstance(tasks, Sequence) or isinstance(tasks, str) or not tasks:
        return [("", "is not a list of tasks: give [{id: ..., from_step: 1}, {id: ..., from_step: 101}]")]
    found: list[tuple[str, str]] = []
    steps: list[int] = []
    for i, task in enumerate(tasks):
        if not isinstance(task, Mapping):
            found.append((f"[{i}]", f"{task!r} is not a task: give {{id: ..., kwargs: {{...}}, from_step: ...}}"))
            continue
        for key in sorted(set(task) - set(TASK_KEYS)):
            found.append((f"[{i}].{key}", f"unknown key: use {', '.join(TASK_KEYS)}"))
        found += [(f"[{i}].{key}", message) for key, message in _wrong_values(task)]
        if _is_int(task.get("from_step")):
            steps.append(task["from_step"])
    if found:
        return found
    if steps[0] != 1:
        found.append(("[0].from_step", f"is {steps[0]}: steps count from 1, so let the first task begin at 1"))
    for i, (before, after) in enumerate(itertools.pairwise(steps), 1):
        if after <= before:
            found.append(
                (f"[{i}].from_step", f"{after} is not after the previous task, which begins at {before}: raise it")
            )
    sizes: dict[str, Any] = {}
    for i, task in enumerate(tasks):
        if sizes.setdefault(_identity(task), task.get("train_size")) != task.get("train_size"):
            found.append(
                (f"[{i}].train_size", "differs from that of the same task earlier in the list: give both the same")
            )
    if not found and (steps[-1] - 1) * batch >= train_size:
        message = f"{steps[-1]} is after the last row: data.env.train_size={train_size} holds {train_size // batch}"
        found.append((f"[{len(steps) - 1}].from_step", f"{message} steps of {batch} rows; raise it, or begin earlier"))
    return found


def _wrong_values(task: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    if not isinstance(task.get("id"), str):
        found.append(("id", f"{task.get('id')!r}: name an environment, such as fst_envs:fst/HouseRules-v0"))
    else:
        try:
            module, _, name = task["id"].rpartition(":")
            if module:  # it registers the id
                import_module(module)
            gym.spec(name)
        except (gym.error.Error, ImportError) as error:
            found.append(
                ("id", f"{task['id']!r} cannot be found ({error}): correct it, or put its module on PYTHONPATH")
            )
    if not isinstance(task.get("kwargs") or {}, Mapping):
        found.append(("kwargs", f"{task['kwargs']!r} is not a mapping: give {{name: value}}"))
    if not _is_int(task.get("from_step")):
        found.append(
            ("from_step", f"{task.get('from_step')!r}: give the first step of the task, a whole number from 1")
        )
    size = task.get("train_size")
    if size is not None and not (_is_int(size) and size > 0):
        found.append(("train_size", f"{size!r}: give the number of problems of the task, or leave it out"))
    return found


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _identity(task: Mapping[str, Any]) -> str:
    return json.dumps([task["id"], dict(task.get("kwargs") or {})], sort_keys=True, default=str)


def task_names(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name per task, equal for equal tasks, such as "fst/HouseRules-v0/book-2".

    It has those arguments in which tasks of the same environment differ. Loggers use it in metric names.
    """
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    for task in tasks:
        variants.setdefault(env_name(task["id"]), {})[_identity(task)] = dict(task.get("kwargs") or {})
    names: dict[str, str] = {}
    for name, own in variants.items():
        keys = sorted({k for some in own.values() for k in some if any(o.get(k, o) != some[k] for o in own.values())})
        for identity, kwargs in own.items():
            label = "_".join(f"{k}-{_plain(kwargs[k]) if k in kwargs else 'default'}" for k in keys)
            full = f"{name}/{label}" if label else name
            same = sum(other == full or other.startswith(f"{full}.") for other in names.values())
            names[identity] = f"{full}.{same + 1}" if same else full
    return [names[_identity(task)] for task in tasks]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "none"


def stages(tasks: Sequence[Mapping[str, Any]], batch: int, train_size: int) -> list[Stage]:
    """The schedule as stages; arguments as in `problems`. Raises ValueError with every problem that it has."""
    if wrong := problems(tasks, batch, train_size):
        raise ValueError("\n".join(f"data.env.tasks{place}: {message}" for place, message in wrong))
    begins = [task["from_step"] for task in tasks]
    ends = [step - 1 for step in begins[1:]] + [train_size // batch]
    found = []
    for name, task, first, last in zip(task_names(tasks), tasks, begins, ends, strict=True):
        kwargs = dict(task.get("kwargs") or {})
        size = (last - first + 1) * batch
        found.append(Stage(name, task["id"], kwargs, first, last, size, task.get("train_size")))
    return found


def load(schedule: Sequence[Stage], val_size: int) -> dict[str, list[Row]]:
    """{"train": rows of all stages in order, "val": `val_size` rows of every task}; `data_source` is the task's name.

    Validation rows choose first. Raises ValueError if an environment has too few questions.
    """
    tasks = {stage.name: stage for stage in schedule}
    val = {name: rows(t.id, t.kwargs, "val", val_size) for name, t in tasks.items()}
    held_out = {i for found in val.values() for i in task_ids(found)}
    supply = {name: itertools.cycle(_training(name, schedule, held_out)) for name in tasks}
    train = [{**next(supply[stage.name]), "data_source": stage.name} for stage in schedule for _ in range(stage.rows)]
    return {"train": train, "val": [{**row, "data_source": name} for name, found in val.items() for row in found]}


def _training(name: str, schedule: Sequence[Stage], held_out: set[str]) -> list[Row]:
    own = [stage for stage in schedule if stage.name == name]
    needed = sum(stage.rows for stage in own)
    size = min(needed, next((stage.train_size for stage in own if stage.train_size), needed))
    try:
        return rows(own[0].id, own[0].kwargs, "train", size, exclude=held_out)
    except ValueError as error:
        raise ValueError(
            f"data.env.tasks, task {name}: {error}; or set the task's train_size, so that problems repeat"
        ) from None


__all__ = ["TASK_KEYS", "Stage", "load", "problems", "stages", "task_names"]
