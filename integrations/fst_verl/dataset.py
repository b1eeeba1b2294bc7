"""An environment id as verl's dataset: no parquet file. Set up by `+fst_env=default data.env.id=...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset


class EnvDataset(Dataset):
    """The `train` or `val` split of `data.env.id`, one row per instance, in verl's row schema.

    verl builds it twice, with `data_files` = data.train_files and data.val_files: here the name of the split.
    The two splits share no problem. `data.env.system_prompt`, where set, stands before every problem. Raises
    ValueError where the split is not one of the two.
    """

    def __init__(self, data_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        from fst_envs.instances import load_splits
        from omegaconf import OmegaConf

        split = data_files if isinstance(data_files, str) else list(data_files)[0]
        if split not in ("train", "val"):
            raise ValueError(
                f"data.train_files=train and data.val_files=val name an environment's splits; got {split!r}"
            )
        env = OmegaConf.to_container(config.env, resolve=True) if not isinstance(config.env, dict) else config.env
        assert isinstance(env, dict)
        sizes = {"train": env["train_size"], "val": env["val_size"]}
        rows = load_splits(env["id"], dict(env.get("kwargs") or {}), sizes)[split]
        self.rows = rows[:max_samples] if max_samples > 0 else rows
        self.system = [{"role": "system", "content": env["system_prompt"]}] if env.get("system_prompt") else []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        import torch

        row: Mapping[str, Any] = self.rows[item]
        return {
            "data_source": row["data_source"],
            "raw_prompt": [*map(dict, self.system), *map(dict, row["prompt"])],
            "reward_model": dict(row["reward_model"]),
            "extra_info": dict(row["extra_info"]),
            "index": row["extra_info"]["index"],
            "tools_kwargs": {},
            "interaction_kwargs": {},
            "dummy_tensor": torch.tensor([0], dtype=torch.uint8),  # verl's batches must not be without tensors
        }
