"""Which environments rows of data may name.

A row is data, and making an environment imports what its id and its arguments name. So a row's environment must be one
that the run's own config names, with the same arguments; if no config is at hand, one that imports nothing of others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import ENVIRONMENTS
from .instances import Instance

IMPORTING = "fst_envs.adapters."
"""Our environments from here import what their arguments name."""


def refuse_unnamed(row: Instance, environments: Mapping[str, Any] | None) -> None:
    """Raises ValueError if the row's environment may not be made; imports nothing.

    environments: `id` and `kwargs`, or `tasks` with these of each, as in verl's `data.env`; None: no config is at hand.
    """
    if environments is None:
        if _harmless(row.env_id):
            return
        fix = "name it in reward.custom_reward_function.reward_kwargs.environments={id: ..., kwargs: {...}}"
    else:
        named = environments.get("tasks") or [environments]
        if (row.env_id, _digest(row.env_kwargs)) in [(one.get("id"), _digest(one.get("kwargs"))) for one in named]:
            return
        fix = "name both in data.env.id and data.env.kwargs, or in data.env.tasks, or take the row out"
    raise ValueError(
        f"a row of the data names the environment {row.env_id!r} with the arguments {_plain(row.env_kwargs)}, which the"
        f" config does not, so it is not imported: {fix}"
    )


def _harmless(env_id: str) -> bool:
    module, _, name = env_id.rpartition(":")
    return not module or (module == "fst_envs" and not ENVIRONMENTS.get(name, IMPORTING).startswith(IMPORTING))


def _digest(kwargs: Any) -> str:
    return json.dumps(_plain(kwargs or {}), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    """Nested mappings and sequences of any library as dicts and lists."""
    if hasattr(value, "items"):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)):
        return [_plain(inner) for inner in value]
    return value


__all__ = ["refuse_unnamed"]
