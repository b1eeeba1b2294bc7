"""An environment id as verl's dataset: no parquet file. Set up by `+fst_env=default data.env.id=...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from .episodes import EPISODE_LOOP
from .episodes.neutral import EscapeControlTokens
from .schedules import schedule_problems


class EnvDataset(Dataset):
    """The `train` or `val` split of `data.env.id`, one row per instance, in verl's row schema.

    verl builds it twice, with `data_files` = data.train_files and data.val_files: here the name of the split.
    The two splits share no problem. `data.env.system_prompt`, if set, stands before every problem. With
    `data.env.multi_turn` the rows are played as episodes by the agent loop `fst_episode`, which brings the reward
    along. With `data.env.tasks` the rows of several environments stand in the order of a schedule (see
    `fst_envs.task_schedule`), and verl must not shuffle them. Questions are sent as they are, save that nothing in them
    acts as a control token of `tokenizer`. Raises ValueError if the split is not one of the two, an
    episode's settings are not valid, or a schedule cannot be kept.
    """

    def __init__(self, data_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        from omegaconf import OmegaConf

        split = data_files if isinstance(data_files, str) else list(data_files)[0]
        if split not in ("train", "val"):
            raise ValueError(
                f"data.train_files=train and data.val_files=val name an environment's splits; got {split!r}"
            )
        env = OmegaConf.to_container(config.env, resolve=True) if not isinstance(config.env, dict) else config.env
        assert isinstance(env, dict)
        if env.get("tasks") and (wrong := schedule_problems(env, config)):
            raise ValueError("\n".join(f"{key}: {message}" for key, message in wrong))
        if env.get("multi_turn"):
            _check_episode(env)
        rows = _scheduled(env, config)[split] if env.get("tasks") else _single(env)[split]
        self.rows = rows[:max_samples] if max_samples > 0 else rows
        self.loop = {"agent_name": EPISODE_LOOP} if env.get("multi_turn") else {}
        self.neutral = EscapeControlTokens(tokenizer) if tokenizer is not None else str
        self.system = [{"role": "system", "content": env["system_prompt"]}] if env.get("system_prompt") else []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        import torch

        row: Mapping[str, Any] = self.rows[item]
        return {
            **self.loop,
            "data_source": row["data_source"],
            "raw_prompt": [
                *map(dict, self.system),
                *({**m, "content": self.neutral(m["content"])} for m in row["prompt"]),
            ],
            "reward_model": dict(row["reward_model"]),
            "extra_info": dict(row["extra_info"]),
            "index": row["extra_info"]["index"],
            "tools_kwargs": {},
            "interaction_kwargs": {},
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),  # verl's batches must not be without tensors
        }


def _single(env: Mapping[Any, Any]) -> dict[str, list[dict[str, Any]]]:
    from fst_envs.instances import load_splits

    sizes = {"train": env["train_size"], "val": env["val_size"]}
    return load_splits(env["id"], dict(env.get("kwargs") or {}), sizes)


def _scheduled(env: Mapping[Any, Any], config: Any) -> dict[str, list[dict[str, Any]]]:
    from fst_envs import task_schedule as tasks

    return tasks.load(tasks.stages(env["tasks"], config.train_batch_size, env["train_size"]), env["val_size"])


def _check_episode(env: Mapping[Any, Any]) -> None:
    """Raises ValueError, in the driver and once, for what would fail every single episode later."""
    from fst_envs.episodes.episode import Episode

    for task in env.get("tasks") or [env]:
        try:
            Episode(task["id"], task.get("kwargs"), **(env.get("episode") or {}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"data.env.episode: {error}") from None
    limit = env.get("max_turn_tokens")
    if limit is not None and int(limit) < 1:
        raise ValueError(f"data.env.max_turn_tokens={limit}: a turn needs at least 1 token; null is no limit")
