"""Writes rows of an environment to a file in verl's schema.

The columns are those of verl's own preprocessing scripts: data_source, prompt, ability, reward_model, extra_info.
`extra_info.env_kwargs` is JSON text, since a parquet column can't hold objects of any shape; `Instance.of` reads both.

Invariant: a file is whole or absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from gymnasium.error import DependencyNotInstalled

from .instances import Row

ENDINGS = (".parquet", ".jsonl")
ABILITY = "reasoning"  # ours; verl's column for the kind of task


def file_row(row: Row) -> Row:
    """A row of `instances.rows` as a file holds it."""
    extra = {**row["extra_info"], "env_kwargs": json.dumps(row["extra_info"]["env_kwargs"], sort_keys=True)}
    columns = {key: row[key] for key in ("data_source", "prompt")}
    return {**columns, "ability": ABILITY, "reward_model": row["reward_model"], "extra_info": extra}


def write_rows(data: Sequence[Row], file: str | Path) -> None:
    """Writes rows of `instances.rows` to a .parquet or .jsonl file.

    Raises ValueError for another ending, DependencyNotInstalled for parquet without pyarrow.
    """
    file = Path(file)
    if file.suffix not in ENDINGS:
        raise ValueError(f"{file}: use a name that ends in {' or '.join(ENDINGS)}")
    made = [file_row(row) for row in data]
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if file.suffix == ".jsonl":
            partial.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        else:
            try:
                import pyarrow
                import pyarrow.parquet
            except ImportError as e:
                raise DependencyNotInstalled(
                    "parquet needs pyarrow: pip install 'fst-plugin[data]', or use .jsonl"
                ) from e
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(made), partial)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
