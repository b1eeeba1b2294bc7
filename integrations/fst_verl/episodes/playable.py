"""Which environments the rows of a run may name: those of its config.

A row is data, and making an environment imports what its id and its arguments name. So an episode is played only if
`data.env` asks for episodes, and names the same environment with the same arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fst_envs.instances import Instance

from . import EPISODE_LOOP


def plain(env: Any) -> dict[str, Any]:
    """`data.env` as plain data; empty if there is none."""
    from omegaconf import OmegaConf

    found: Any = OmegaConf.to_container(env, resolve=True) if OmegaConf.is_config(env) else env
    return dict(found or {})


def playable(env: Mapping[str, Any]) -> Callable[[Mapping[str, Any] | None], Instance]:
    """A function from a row's `extra_info` to its instance; it imports nothing.

    env: `data.env` as plain data.
    The function raises ValueError for a row without an instance, for one that `data.env` does not name, and for any row
    if `data.env.multi_turn` is not set.
    """
    named = env.get("tasks") or [env]
    known = [(task.get("id"), _digest(task.get("kwargs"))) for task in named]

    def instance_of(extra_info: Mapping[str, Any] | None) -> Instance:
        if not env.get("multi_turn"):
            raise ValueError(
                f"a row of the data names the agent loop {EPISODE_LOOP}, and this run plays no episodes: take"
                " agent_name out of the data, or set +fst_env=default data.env.id=... data.env.multi_turn=true"
            )
        row = Instance.of(extra_info)
        if (row.env_id, _digest(row.env_kwargs)) not in known:
            raise ValueError(
                f"a row of the data names the environment {row.env_id!r} with the arguments {dict(row.env_kwargs)},"
                " which the config does not, so it is not imported: name both in data.env.id and data.env.kwargs, or in"
                " data.env.tasks, or take the row out"
            )
        return row

    return instance_of


def _digest(kwargs: Mapping[str, Any] | None) -> str:
    return json.dumps(kwargs or {}, sort_keys=True, default=str)
