"""Which environments the rows of a run may name: those of its config.

A row is data, and making an environment imports what its id and its arguments name. So an episode is played only if
`data.env` asks for episodes, and names the same environment with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fst_envs.instances import Instance
from fst_envs.named import refuse_unnamed

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

    def instance_of(extra_info: Mapping[str, Any] | None) -> Instance:
        if not env.get("multi_turn"):
            raise ValueError(
                f"a row of the data names the agent loop {EPISODE_LOOP}, and this run plays no episodes: take"
                " agent_name out of the data, or set +fst_env=default data.env.id=... data.env.multi_turn=true"
            )
        row = Instance.of(extra_info)
        refuse_unnamed(row, env)
        return row

    return instance_of
