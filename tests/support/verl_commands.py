"""Arguments of verl whose files exist."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

USER = {"role": "user", "content": "What is 1 plus 1?"}


def data_file(path, rows=2, system=(), prompt_key="prompt"):
    """A parquet file in verl's schema. system: system messages, dealt to the rows in turn; none: rows without one."""
    chats = [[{"role": "system", "content": system[i % len(system)]}, USER] if system else [USER] for i in range(rows)]
    rewards = [{"ground_truth": "2", "style": "rule"}] * rows
    columns = {prompt_key: chats, "data_source": ["sums"] * rows, "reward_model": rewards}
    parquet.write_table(pa.table(columns), path)
    return Path(path)


def usable(folder):
    """Arguments that `fst check` has nothing to say about. folder: where their files are made."""
    (folder / "model").mkdir(exist_ok=True)
    return [
        "+fst=default",
        f"data.train_files={data_file(folder / 'train.parquet')}",
        f"data.val_files={data_file(folder / 'val.parquet')}",
        f"actor_rollout_ref.model.path={folder / 'model'}",
        "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.rollout.n=8",
    ]
