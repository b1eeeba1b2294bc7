"""Validation under the evolved best prompt and under the seed prompt, side by side, in verl's own metrics.

Every validation problem is sent twice in one batch. The second copy, under the seed prompt, appears in verl's metrics
under data source `<source>/seed_prompt`; reward functions see the data source unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .assignment import CONTEXT_LOOP, inner_loops
from .batches import COLUMN, ROW, row_id

SEED_SUFFIX = "/seed_prompt"
BEST, SEED = "best", "seed"


class PairedLoader:
    """verl's validation loader with every batch sent once per arm.

    arms: the arms of this run. column_of(arm, inner, problem): the `fst` column of a row of that arm.
    config: verl's, for the agent loops of the rows; see `inner_loops`.
    """

    def __init__(
        self,
        loader: Any,
        arms: Sequence[str],
        column_of: Callable[[str, str, str], Mapping[str, Any]],
        config: Any,
    ):
        self.loader, self.arms, self.column_of, self.config = loader, tuple(arms), column_of, config
        self._sent: list[tuple[dict[str, Any], list[str]]] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._sent = []
        for batch in self.loader:
            size = len(batch["raw_prompt"])
            inner = inner_loops(batch.get("agent_name"), batch.get("extra_info"), size, self.config)
            arms = [arm for arm in self.arms for _ in range(size)]
            out = {name: _repeat(values, len(self.arms)) for name, values in batch.items()}
            out["agent_name"] = _objects([CONTEXT_LOOP] * len(arms))
            columns = {name: batch[name] for name in ROW if name in batch}
            ids = [row_id(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
            rows = zip(arms, inner * len(self.arms), ids * len(self.arms), strict=True)
            out[COLUMN] = _objects([self.column_of(*row) for row in rows])
            self._sent.append((out, arms))
            yield out

    def arm_of(self) -> dict[str, str]:
        """uid -> arm of the last validation; verl gave the batches their uids after they were handed out."""
        return {uid: arm for batch, arms in self._sent for uid, arm in zip(batch["uid"], arms, strict=True)}


def relabel(
    arm_of: Mapping[str, str],
    sources: Sequence[str],
    uids: Sequence[str],
    expected: Mapping[tuple[str, str], int] | None,
) -> tuple[list[str], dict[tuple[str, str], int] | None]:
    """Data sources of samples, and verl's expected counts by (source, uid), with the seed arm told apart."""

    def label(source: str, uid: str) -> str:
        return f"{source}{SEED_SUFFIX}" if arm_of.get(uid) == SEED else source

    counts = None if expected is None else {(label(s, u), u): n for (s, u), n in expected.items()}
    return [label(s, u) for s, u in zip(sources, uids, strict=True)], counts


def _objects(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _repeat(values: Any, times: int) -> Any:
    if isinstance(values, np.ndarray):
        return np.concatenate([values] * times)
    import torch

    return torch.cat([values] * times) if isinstance(values, torch.Tensor) else list(values) * times
