"""The next T training batches, fetched ahead: first the anchor set of a fast phase, then the slow batches, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fst_plugin.record.atomic import sync_folder
from fst_plugin.rollouts import Problem

from . import batches


class LookAhead:
    """A queue in front of verl's dataloader. What is fetched is handed out once, in order, and survives a checkpoint.

    fetch: hands out the dataloader's next chunk (a TensorDict of at least one row). What was handed out stays at hand
    until `forget`, so that its problems can be rolled out once more.
    """

    def __init__(self, fetch: Callable[[], Any]):
        self._fetch = lambda: batches.identified(fetch())
        self._chunks: deque[Any] = deque()
        self._recent: list[Any] = []

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
        """Atomic. The format is torch's own, as in verl's `data.pt`: rows may hold tensors and images."""
        import torch

        temporary = path.with_suffix(".tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save({"pending": list(self._chunks), "recent": self._recent}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)

    def load(self, path: Path, expected: tuple[str, ...]) -> None:
        """Raises ValueError if the file does not hold the problems that the state says are pending."""
        import torch

        stored = torch.load(path, weights_only=False)
        self._chunks, self._recent = deque(stored["pending"]), list(stored["recent"])
        found = tuple(p.id for p in self.pending())
        if found != expected:
            raise ValueError(
                f"{path} holds {len(found)} pending problems that are not the {len(expected)} of its state.json:"
                " the checkpoint was mixed from two runs; resume from another one"
            )
