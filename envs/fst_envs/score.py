"""Scores one single-turn answer by playing it in a fresh environment.

`compute_score` has the signature of verl's custom reward function: point verl at this file, or call it from anywhere.
Invariants: every call builds its own environment, so no episode can see another; a fault of the environment is retried
on a fresh one (see `episode`), then raises, and is never scored as 0; an instance that is not the one the row was made
from raises too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .base import EnvironmentFault
from .episodes.episode import BlockingEpisode, run


def score(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None,
    index: int,
    split: str,
    response_text: str,
    *,
    task_id: str | None = None,
) -> dict[str, Any]:
    """Plays `response_text` on the named instance.

    task_id: what the instance's question must hash to; None: not checked.
    Returns {"score": float, "feedback": str, "feedback_made": bool, "task_id": str, "error": str | None,
    "faults": int}; `error` is set where the text could not be checked, `faults` counts faults that a retry mended.
    Raises what a wrong id, argument or instance raises, EnvironmentFault for another question than `task_id` and after
    the retries, ValueError for an environment that goes on after one answer.
    """
    episode = BlockingEpisode(env_id, env_kwargs)
    try:
        _, info = run(episode.reset(index, split))
        if task_id is not None and info["task_id"] != task_id:
            raise EnvironmentFault(
                f"{env_id} {dict(env_kwargs or {})}: instance {index} of {split!r} is task {info['task_id']}, but the "
                f"row was made from task {task_id}: another version of the environment, or not a deterministic one"
            )
        _, reward, terminated, truncated, said = run(episode.step(response_text))
        if not (terminated or truncated):
            raise ValueError(
                f"{env_id} goes on after one answer: it is not single-turn, play it with an agent loop"
                " (data.env.multi_turn=true)"
            )
        return {
            "score": reward,
            "feedback": said["feedback"],
            "feedback_made": said["feedback_made"],
            "task_id": info["task_id"],
            "error": said["error"],
            "faults": episode.faults,
        }
    finally:
        run(episode.close())


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
) -> dict[str, Any]:
    """verl's reward function for rows of `instances.rows`.

    Returns {"score": float, "feedback": str, "acc": float, "faults": float}: acc is the score, faults counts those that
    a retry mended; verl's validation reports means of both.
    extra_info: needs env_id, env_kwargs (a mapping or its JSON), index, split and task_id, as the rows have them.
    """
    extra = dict(extra_info or {})
    missing = [key for key in ("env_id", "env_kwargs", "index", "split", "task_id") if key not in extra]
    if missing:
        raise ValueError(
            f"a row of {data_source!r} lacks extra_info {missing}: make the rows with fst_envs.instances.rows"
        )
    kwargs = extra["env_kwargs"]
    if isinstance(kwargs, str):
        kwargs = json.loads(kwargs)
    result = score(extra["env_id"], kwargs, int(extra["index"]), extra["split"], solution_str, task_id=extra["task_id"])
    reward, faults = result["score"], float(result["faults"])
    return {"score": reward, "feedback": result["feedback"], "acc": reward, "faults": faults}
