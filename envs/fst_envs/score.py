"""Scores one single-turn answer by playing it in a fresh environment.

`compute_score` has the signature of verl's custom reward function: point verl at this file, or call it from anywhere.

Invariants: every call builds its own environment, so no episode can see another; a fault of the environment is retried
on a fresh one (see `episodes.episode`), then raised, and never scored as 0; an instance other than the one that the row
was made from raises too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .episodes.episode import BlockingEpisode, run
from .instances import Instance
from .named import refuse_unnamed


def score(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None,
    index: int,
    split: str,
    response_text: str,
    *,
    task_id: str | None = None,
) -> dict[str, Any]:
    """Plays one text on one instance.

    env_id, env_kwargs: as in `make`.
    index, split: name the instance.
    response_text: what the model wrote.
    task_id: as in `Instance`.
    Returns {"score": float, "feedback": str, "feedback_made": bool, "task_id": str, "error": str | None,
    "faults": int}: `error` is set if the text could not be checked; `faults` counts those that a retry recovered from.
    Raises what a wrong id, argument or instance raises; EnvironmentFault after the retries, or for another question
    than `task_id`; ValueError for an environment that goes on after one answer.
    """
    episode = BlockingEpisode(env_id, env_kwargs)
    try:
        _, info = run(episode.reset(index, split))
        Instance(env_id, env_kwargs or {}, index, split, task_id).expect(info["task_id"])
        _, reward, terminated, truncated, said = run(episode.step(response_text))
        if not (terminated or truncated):
            raise ValueError(
                f"{env_id} goes on after one answer: it is not single-turn; play it with an agent loop"
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
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    environments: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """verl's reward function for rows of `instances.rows`.

    solution_str: what the model wrote.
    extra_info: names the instance, see `Instance.of`.
    environments: those that rows may name, see `named.refuse_unnamed`; verl passes it on from
        `reward.custom_reward_function.reward_kwargs`.
    The other arguments are verl's and not used.
    Returns {"score": float, "feedback": str, "acc": float, "faults": float, "unchecked": float}, and "feedback_made":
    "yes" if the feedback was made here: acc is the score, faults counts those that a retry recovered from, unchecked is
    1 if the environment could not read the text; verl's validation reports means of these three.
    """
    named = Instance.of(extra_info)
    refuse_unnamed(named, environments)
    result = score(named.env_id, named.env_kwargs, named.index, named.split, solution_str, task_id=named.task_id)
    reward, unchecked = result["score"], float(bool(result["error"]))
    counted = {"faults": float(result["faults"]), "unchecked": unchecked}
    made = {"feedback_made": "yes"} if result["feedback_made"] else {}  # text: verl averages what is not
    return {"score": reward, "feedback": result["feedback"], "acc": reward, **counted, **made}
