"""Metrics of a step's episodes, from what the agent loop left in the trajectories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .. import transfer
from ..batches import column
from .agent_loop import STOPS


def episode_metrics(keys: Sequence[str], extras: Sequence[Mapping[str, Any]], groups_asked: int) -> dict[str, float]:
    """Figures of one training batch; empty if none of it was played as an episode.

    keys: of the trajectories, "{uid}_{session}_{index}", without padding.
    extras: their extra_fields.
    groups_asked: size of the batch in problems.

    Returns episode/turns (mean), episode/stop/<reason> (share), episode/reward_turn_<i> (mean over the episodes that
    had turn i, from 1), episode/faults_survived (sum), episode/unchecked (sum of the texts that the environment could
    not read, reward 0) and episode/groups_missing: groups that failed as a whole and were not replaced.
    """
    played = [extra for extra in extras if "stop_reason" in extra]
    if not played:
        return {}
    scores = [extra["turn_scores"] for extra in played]
    stops = Counter(extra["stop_reason"] for extra in played)
    figures = {f"stop/{reason}": stops[reason] / len(played) for reason in STOPS}
    figures["turns"] = sum(map(len, scores)) / len(played)
    figures["faults_survived"] = float(sum(extra["faults"] for extra in played))
    figures["unchecked"] = float(sum(extra["unchecked"] for extra in played))
    figures["groups_missing"] = float(groups_asked - len({key.rsplit("_", 2)[0] for key in keys}))
    for turn in range(max(map(len, scores))):
        rewards = [score[turn] for score in scores if len(score) > turn]
        figures[f"reward_turn_{turn + 1}"] = sum(rewards) / len(rewards)
    return {f"episode/{name}": value for name, value in figures.items()}


def of_batch(batch: Any, groups_asked: int) -> dict[str, float]:
    """`episode_metrics` of a batch as verl's trainers have it (keys, tags and a partition of the transfer queue)."""
    keys = transfer.keys_of(batch)
    if not keys:
        return {}
    data = transfer.read(keys, batch.partition_id, ["extra_fields"])
    return episode_metrics(keys, column(data, "extra_fields") or [], groups_asked)
