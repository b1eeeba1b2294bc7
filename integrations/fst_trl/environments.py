"""An environment id as what a GRPOTrainer takes: data and a reward function; for several turns, a tool as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fst_envs.episodes.tool import AnswerTool
from fst_envs.export import file_row
from fst_envs.instances import load_splits
from fst_envs.score import compute_score

from . import rows
from .compat import Dataset


def from_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    train_size: int = 512,
    val_size: int = 64,
    multi_turn: bool = False,
) -> dict[str, Any]:
    """Arguments for a trainer: `FSTGRPOTrainer(model, args=args, **from_env("fst_envs:fst/HouseRules-v0"))`.

    env_id, env_kwargs: as in `fst_envs.make`.
    train_size, val_size: rows of the datasets; 512 and 64 (ours).
    multi_turn: episodes of several answers, each a call of the tool `answer`; the chat template must know tools.
    Returns train_dataset, eval_dataset (if val_size > 0) and reward_funcs; with multi_turn environment_factory too.
    Raises ValueError if the environment does not have this many distinct questions.
    """
    made = load_splits(env_id, env_kwargs, {"train": train_size, **({"val": val_size} if val_size else {})})
    found = {f"{'train' if split == 'train' else 'eval'}_dataset": dataset_of(data) for split, data in made.items()}
    if multi_turn:
        return {**found, "reward_funcs": episode_reward, "environment_factory": AnswerTool}
    return {**found, "reward_funcs": reward_of({"id": env_id, "kwargs": dict(env_kwargs or {})})}


def dataset_of(data: Sequence[dict[str, Any]]) -> Any:
    """Rows of `fst_envs`, such as those of `fst_envs.task_schedule.load`, as a trainer's dataset."""

    def columns(row: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: row[name] for name in ("data_source", "prompt", "extra_info")}
        return {**own, "ground_truth": row["reward_model"]["ground_truth"]}

    return Dataset.from_list([columns(file_row(row)) for row in data])


def reward_of(environments: Mapping[str, Any]) -> Callable[..., list[float]]:
    """A reward function for single answers: the environment's reward; its feedback goes into TRL's column "feedback".

    environments: those that rows may name, see `fst_envs.named.refuse_unnamed`.
    """

    def environment_reward(completions: Any, extra_info: Any, log_extra: Any, **_: Any) -> list[float]:
        answers = zip(completions, extra_info, strict=True)
        results = [compute_score("", rows.text(said), None, info, environments) for said, info in answers]
        log_extra("feedback", [result["feedback"] for result in results])
        return [result["score"] for result in results]

    return environment_reward


def episode_reward(environments: Sequence[AnswerTool], log_extra: Any, **_: Any) -> list[float | None]:
    """The reward of whole episodes; None, which TRL leaves out of the loss, for one that the environment broke."""
    log_extra("feedback", [environment.feedback for environment in environments])
    return [None if environment.broken else environment.reward for environment in environments]
