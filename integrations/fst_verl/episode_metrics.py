"""Metrics of a step's episodes, from what the agent loop left in the trajectories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .episode_loop import STOPS


def episode_metrics(keys: Sequence[str], extras: Sequence[Mapping[str, Any]], groups_asked: int) -> dict[str, float]:
    """Figures of one training batch; empty where none of it was played as an episode.

    keys: of the trajectories, "{uid}_{session}_{index}", without padding. extras: their extra_fields.
    groups_asked: size of the batch in problems.
    Returns turns (mean), stop/<reason> (share), reward_turn_<i> (mean over the episodes that had such a turn, from 1),
    faults_survived (sum), groups_missing: groups that are not in the batch since they failed as a whole.
    """
    episodes = [extra for extra in extras if "stop_reason" in extra]
    if not episodes:
        return {}
    stops = Counter(extra["stop_reason"] for extra in episodes)
    figures = {f"stop/{reason}": stops[reason] / len(episodes) for reason in STOPS}
    figures["turns"] = sum(len(extra["turn_scores"]) for extra in episodes) / len(episodes)
    figures["faults_survived"] = float(sum(extra["faults"] for extra in episodes))
    figures["groups_missing"] = float(groups_asked - len({key.rsplit("_", 2)[0] for key in keys}))
    for turn in range(max(len(extra["turn_scores"]) for extra in episodes)):
        rewards = [extra["turn_scores"][turn] for extra in episodes if len(extra["turn_scores"]) > turn]
        figures[f"reward_turn_{turn + 1}"] = sum(rewards) / len(rewards)
    return figures
