"""Rows of training data from an environment id, without a file or a framework.

A row is what verl's datasets hold: data_source, prompt (a chat), reward_model, extra_info. Its extra_info names the
`Instance` that it was made from, so that `score.compute_score` or an agent loop can play that instance anywhere.

Invariants: rows depend on the arguments alone; `Instance.of` reads back what a row names; a question is known by its
hash (`task_id`) and is in one split only. Distant seeds alone do not ensure that: small task spaces repeat questions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym

from .base import EnvironmentFault, ReasoningEnv, content_id
from .contract import ContractError
from .make import make

Row = dict[str, Any]

TRIES_PER_ROW, MIN_TRIES = 20, 1000  # ours: limit on the instances to look at


@dataclass(frozen=True)
class Instance:
    """The instance that a row was made from.

    env_id, env_kwargs: as in `make`.
    index, split: as in `ReasoningEnv.reset`.
    task_id: hash of the instance's question; None: any question will do.
    """

    env_id: str
    env_kwargs: Mapping[str, Any]
    index: int
    split: str
    task_id: str | None = None

    @classmethod
    def of(cls, extra_info: Mapping[str, Any] | None) -> Instance:
        """The instance that a row's `extra_info` names, with env_kwargs as a mapping or as its JSON text.

        Raises ValueError for missing keys.
        """
        extra = dict(extra_info or {})
        names = ("env_id", "env_kwargs", "index", "split", "task_id")
        missing = [name for name in names if name not in extra]
        if missing:
            raise ValueError(
                f"a row's extra_info lacks {missing}: make the rows with fst_envs.instances.rows, or let verl make "
                "them with +fst_env=default (data.env.multi_turn=true for episodes)"
            )
        kwargs = extra["env_kwargs"]
        kwargs = json.loads(kwargs) if isinstance(kwargs, str) else dict(kwargs or {})
        return cls(extra["env_id"], kwargs, int(extra["index"]), extra["split"], extra["task_id"])

    def expect(self, task_id: str) -> None:
        """Raises EnvironmentFault if `task_id`, from the info of `reset`, is not the one that the row was made from."""
        if self.task_id is not None and task_id != self.task_id:
            raise EnvironmentFault(
                f"{self.env_id} {dict(self.env_kwargs)}: instance {self.index} of {self.split!r} is task {task_id}, "
                f"but the row was made from task {self.task_id}: the environment is another version, or it is not "
                "deterministic"
            )


def env_name(env_id: str) -> str:
    """An id without its module: "fst_envs:fst/StarGraph-v0" -> "fst/StarGraph-v0"."""
    return env_id.rpartition(":")[2]


def rows(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None,
    split: str,
    n: int,
    *,
    start: int = 0,
    exclude: Collection[str] = (),
    repeat: bool = False,
) -> list[Row]:
    """n rows of `split`, by ascending index.

    env_id, env_kwargs: as in `make`.
    start: the first index to look at; default 0.
    exclude: task ids that must not occur, such as those of another split.
    repeat: allow a question several times, for environments with few questions; default False (ours).
    Raises ContractError for an environment that returns a wrong shape; ValueError if 20 n + 1000 instances (ours), or
    all instances of the split, do not suffice.
    """
    kwargs = dict(env_kwargs or {})
    taken = set(exclude)
    found: list[Row] = []
    tries = TRIES_PER_ROW * n + MIN_TRIES
    index, end = start, start + tries
    env = make(env_id, **kwargs)
    try:
        if isinstance(env.unwrapped, ReasoningEnv):
            end = min(end, env.unwrapped.size)
        while index < end and len(found) < n:
            question, info = env.reset(options={"index": index, "split": split})
            if index == start:
                _refuse_wrong_shape(env)
            if info["task_id"] not in taken:
                if not repeat:
                    taken.add(info["task_id"])
                found.append(_row(env_id, kwargs, split, index, question, info))
            index += 1
    finally:
        env.close()
    if len(found) < n:
        raise ValueError(
            f"{env_id} {kwargs}: instances {start} to {index - 1} of split {split!r} hold only {len(found)} of the {n} "
            f"{'rows' if repeat else 'distinct questions'} asked for ({len(exclude)} questions excluded): ask for "
            "fewer, make the environment's questions more varied" + ("" if repeat else ", or allow repeat=True")
        )
    return found


def _refuse_wrong_shape(env: gym.Env[str, str]) -> None:
    """Plays one text, so that a `step` of a wrong shape is refused here and not by every worker; it is not scored."""
    try:
        env.step("")
    except ContractError:
        raise
    except Exception:
        pass  # a fault, or a text that cannot be read: that is for the episodes to find


def _row(env_id: str, kwargs: dict[str, Any], split: str, index: int, question: str, info: dict[str, Any]) -> Row:
    answer = info.get("answer")
    if answer is None:
        answer = ""
    return {
        "data_source": env_name(env_id),
        "prompt": [{"role": "user", "content": question}],
        "reward_model": {
            "style": "rule",
            "ground_truth": answer if isinstance(answer, str) else json.dumps(answer, sort_keys=True),
        },
        "extra_info": {
            **asdict(Instance(env_id, kwargs, index, split, info.get("task_id") or content_id(question))),
            **({"private_answer": True} if info.get("private_answer") else {}),
        },
    }


def task_ids(data: Sequence[Row]) -> set[str]:
    """The task ids of rows."""
    return {row["extra_info"]["task_id"] for row in data}


def load_splits(
    env_id: str, env_kwargs: Mapping[str, Any] | None, sizes: Mapping[str, int], *, repeat: bool = False
) -> dict[str, list[Row]]:
    """Rows of several splits that share no question.

    Splits other than "train" choose first, so that training rows do not use up a small task space.

    env_id, env_kwargs: as in `make`.
    sizes: split -> number of rows, such as {"train": 512, "val": 64}; the result has its keys in its order.
    repeat: allow "train", and only it, to hold a question several times; default False (ours).
    Raises ValueError as `rows` does.
    """
    made: dict[str, list[Row]] = {}
    used: set[str] = set()
    for split in sorted(sizes, key=lambda s: s == "train"):
        made[split] = rows(env_id, env_kwargs, split, sizes[split], exclude=used, repeat=repeat and split == "train")
        used |= task_ids(made[split])
    return {split: made[split] for split in sizes}


def dataset_digest(data: Sequence[Row]) -> str:
    """16 hex digits that identify rows by content and order."""
    text = json.dumps(list(data), sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
