"""The next T training batches, fetched ahead: first the anchor set of a fast phase, then the slow batches, in order."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fst_plugin.record import sealed
from fst_plugin.record.atomic import replacing
from fst_plugin.rollouts import Problem

from . import batches, plain_rows


class LookAhead:
    """A queue in front of verl's dataloader. What is fetched is handed out once, in order, and survives a checkpoint.

    fetch: hands out the dataloader's next chunk (a TensorDict of at least one row). What was handed out stays at hand
    until `forget`, so that its problems can be rolled out once more. Rows must be such that a checkpoint can store
    them: see `plain_rows`; the first chunk is checked when it is fetched.
    """

    def __init__(self, fetch: Callable[[], Any]):
        self._source = fetch
        self._chunks: deque[Any] = deque()
        self._recent: list[Any] = []
        self._checked = False

    def _fetch(self) -> Any:
        chunk = batches.identified(self._source())
        if not self._checked:
            plain_rows.from_chunks([chunk])  # what no checkpoint could store is refused before anything is paid for
            self._checked = True
        return chunk

    def next(self) -> Any:
        """The next chunk to train on: what was fetched ahead first, then the dataloader's own."""
        chunk = self._chunks.popleft() if self._chunks else self._fetch()
        self._recent.append(chunk.copy())  # verl adds columns to the one that it gets
        return chunk

    def forget(self) -> None:
        """A new cycle begins."""
        self._recent = []

    def fill(self, problems: int) -> None:
        """Fetches ahead until at least this many problems are pending."""
        while sum(map(len, self._chunks)) < problems:
            self._chunks.append(self._fetch())

    def chunks(self) -> list[Any]:
        """What can be rolled out: what is pending, and what was handed out in this cycle."""
        return [*self._chunks, *self._recent]

    def pending(self) -> list[Problem]:
        return [problem for chunk in self._chunks for problem in batches.problems(chunk)]

    def recent(self) -> list[Problem]:
        return [problem for chunk in self._recent for problem in batches.problems(chunk)]

    def save(self, path: Path) -> None:
        """Atomic. Rows are stored as plain values and tensors. Raises ValueError if one holds anything else."""
        import torch

        chunks = {"pending": list(self._chunks), "recent": self._recent}
        with replacing(path) as file:
            torch.save({name: plain_rows.from_chunks(some) for name, some in chunks.items()}, file)

    def load(self, path: Path, expected: tuple[str, ...]) -> None:
        """Inverse of `save`; runs no code of the file. expected: ids of the problems that are pending, in order.

        Raises ValueError if the file is damaged, or holds other problems.
        """
        import torch

        raw = io.BytesIO(path.read_bytes())
        try:
            stored = torch.load(raw, weights_only=True, map_location="cpu")
            pending, recent = (plain_rows.to_chunks(stored[name]) for name in ("pending", "recent"))
        except Exception as error:  # whatever torch, numpy or PIL make of bytes that are not ours
            reason = str(error).partition("\n")[0][:120]
            raise sealed.damaged(path, f"{type(error).__name__}: {reason}") from error
        found = tuple(one for chunk in pending for one in batches.problem_ids(chunk))
        if found != expected:
            raise ValueError(
                f"{path} holds {len(found)} pending problems that are not the {len(expected)} of its state.json:"
                " the checkpoint was mixed from two runs; resume from another one"
            )
        self._chunks, self._recent = deque(pending), recent
