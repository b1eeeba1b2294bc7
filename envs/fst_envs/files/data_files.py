"""Environments over the rows of a user's file: parquet, JSONL or JSON on disk, or a data set of a hub.

A source is a path, or "hf:OWNER/NAME[:CONFIG][@SPLIT]", which the `datasets` library reads (SPLIT is the data set's
own, default "train"). A user names one source per split, or one for all: then its rows are dealt out by the hash of
their question (`SHARES`).

Invariants: nothing in a file is executed; rows of one source with the same question are in one split.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from gymnasium.error import DependencyNotInstalled

from ..base import SPLITS, ReasoningEnv, content_id

Record = dict[str, Any]
Source = str | Mapping[str, str]

SHARES: Sequence[str] = ("val", "val", "test", "test", "anchor")
"""Splits of the first 5 of 16 buckets (ours); train has the other 11: 69% train, 12.5% val, 12.5% test, 6% anchor."""


def read_records(source: str) -> list[Record]:
    """The rows of a source, in its order. They are shared: do not change them.

    A file is read once per version. Raises FileNotFoundError; DependencyNotInstalled (parquet and hub need the extra
    "data"); ValueError for a file that is not .parquet, .jsonl or .json, or does not hold rows; for a hub, what
    `datasets` raises.
    """
    if source.startswith("hf:"):
        return _hub(source)
    path = Path(source)
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"file={source!r}: there is no such file (from {os.getcwd()!r})") from None
    return _disk(path.absolute(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _disk(path: Path, _mtime: int, _size: int) -> list[Record]:
    if path.suffix == ".parquet":
        return list(_library("pyarrow.parquet").read_table(path).to_pylist())
    if path.suffix not in (".jsonl", ".json"):
        raise ValueError(f"file={str(path)!r}: use .parquet, .jsonl or .json")
    text = path.read_text(encoding="utf-8")
    try:
        rows = json.loads(text) if path.suffix == ".json" else None
        rows = [json.loads(line) for line in text.split("\n") if line.strip()] if rows is None else rows
    except (ValueError, RecursionError) as e:
        raise ValueError(f"file={str(path)!r} is not valid {path.suffix}: {e}") from e
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"file={str(path)!r}: its rows must be JSON objects")
    return rows


@lru_cache(maxsize=8)
def _hub(source: str) -> list[Record]:
    name, _, split = source.removeprefix("hf:").partition("@")
    name, _, config = name.partition(":")
    return list(_library("datasets").load_dataset(name, config or None, split=split or "train").to_list())


def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        raise DependencyNotInstalled(f"reading this file needs {module}: pip install 'fst-plugin[data]'") from e


class FileEnv(ReasoningEnv):
    """Base of environments over files; a subclass names its columns and writes `ask` and `respond`.

    file: a source for all splits, or {"train": source, "val": source, ...}. A relative path starts at the working
        directory of the process: give an absolute one if workers run elsewhere.
    split: as in `ReasoningEnv`.

    Raises what `read_records` does, and ValueError for a row or a split that lacks what the environment needs.
    """

    needs: ClassVar[Sequence[str]] = ()
    """Columns that every row must have, not empty; the first is the question."""

    def __init__(self, file: Source, split: str = "train"):
        self.file = dict(file) if isinstance(file, Mapping) else file
        self._by_split: dict[str, list[Record]] = {}
        for name, source in self.file.items() if isinstance(self.file, dict) else [("", self.file)]:
            if name and name not in SPLITS:
                raise ValueError(f"file: unknown split {name!r}: use {', '.join(SPLITS)}")
            self._by_split |= _dealt(type(self), name, source)
        super().__init__(split=split, size=max([1, *map(len, self._by_split.values())]))
        self._of(split)

    @classmethod
    def instances(cls, row: Record) -> list[Record]:
        """The instances that a row of the file holds: itself. Raises ValueError if something it needs is missing."""
        missing = [name for name in cls.needs if row.get(name) in (None, "")]
        if missing:
            raise ValueError(f"it has nothing in {', '.join(missing)}; its columns are {', '.join(row)}")
        return [row]

    @classmethod
    def key(cls, instance: Record) -> str:
        """What an instance asks; instances with the same key are in one split."""
        return str(instance[cls.needs[0]])

    def _of(self, split: str) -> list[Record]:
        rows = self._by_split.get(split)
        if not rows:
            raise ValueError(
                f"file={self.file!r} has no rows for the split {split!r}: name a file for it, such as "
                "file={'train': ..., 'val': ...}"
            )
        return rows

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.size = len(self._of((options or {}).get("split", self.split)))  # every split has its own size
        return super().reset(seed=seed, options=options)

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        return self.ask(self._of(split)[index])

    def ask(self, row: Record) -> tuple[str, dict[str, Any]]:
        """Sets up an instance from its row, as `ReasoningEnv.load` does. The row is shared: do not change it."""
        raise NotImplementedError


def share(key: str) -> str:
    """The split of the instances with this key, if one source serves all splits."""
    bucket = int(content_id(key), 16) % 16
    return SHARES[bucket] if bucket < len(SHARES) else "train"


def _dealt(cls: type[FileEnv], named: str, source: str) -> dict[str, list[Record]]:
    """The instances of a source by split; all in `named`, unless it is "". Computed once per version of the source."""
    records = read_records(source)
    known = _deals.get((cls, named, source))
    if known is not None and known[0] is records:
        return known[1]
    by_split: dict[str, list[Record]] = {named: []} if named else {}
    for number, row in enumerate(records):
        try:
            for instance in cls.instances(row):
                by_split.setdefault(named or share(cls.key(instance)), []).append(instance)
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"file={source!r}, row {number}: {e}") from e
    _deals[cls, named, source] = records, by_split
    while len(_deals) > 16:
        del _deals[next(iter(_deals))]
    return by_split


_deals: dict[tuple[type[FileEnv], str, str], tuple[list[Record], dict[str, list[Record]]]] = {}
