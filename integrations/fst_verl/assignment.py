"""`assign` as plain functions: what a row carries, and which messages one of its sessions sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fst_plugin import context
from fst_plugin.imports import load
from fst_plugin.rollouts import problem_id

COLUMN = "fst"
"""Name of the column that the trainer adds to every row; rows of a run without fast weights have none."""


def row_column(
    inner: str, prompts: Sequence[str], provider: Mapping[str, Any], *, split: str, step: int, offset: int = 0
) -> dict[str, Any]:
    """The `fst` column of one row: plain data, so that it travels to any worker and survives a checkpoint.

    inner: agent loop to delegate to. prompts: texts, best first. provider: `fst.context` as a dict.
    offset: added to the session index; not 0 where a group is smaller than the population.
    """
    return {
        "inner": inner,
        "prompts": list(prompts),
        "provider": dict(provider),
        "split": split,
        "step": step,
        "offset": offset,
    }


def provider_of(column: Mapping[str, Any]) -> context.ContextProvider:
    """Builds the context provider that a row names."""
    spec = column["provider"]
    cls = load(spec["path"], "fst.context.path") if spec["path"] else context.SHIPPED[spec["name"]]
    return cls(column["prompts"], spec["placement"], **spec["kwargs"])


def problem_of(row: Mapping[str, Any]) -> str:
    """Id of a row's problem, the same as `rows.problems` gives it."""
    return problem_id(list(row["raw_prompt"]), (row.get("reward_model") or {}).get("ground_truth"))


def assign(column: Mapping[str, Any], row: Mapping[str, Any]) -> context.Assignment:
    """Messages and prompt digest of one session of a row."""
    messages = list(row["raw_prompt"])
    request = context.Request(
        problem_id=problem_of(row),
        session=int(row.get("session_id", 0)) + column["offset"],
        step=column["step"],
        split=column["split"],
        messages=messages,
    )
    return provider_of(column).assign(request)


def training_sampling(sampling_params: Mapping[str, Any], rollout: Any) -> dict[str, Any]:
    """Sampling parameters of training rollouts; verl gives rows of its "val" partition the validation's."""
    return {**sampling_params, "temperature": rollout.temperature, "top_p": rollout.top_p, "top_k": rollout.top_k}
