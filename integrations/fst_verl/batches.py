"""Rows of verl's batches as the method's problems."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fst_plugin.rollouts import Problem, Rollout, problem_id


def column(batch: Any, name: str) -> list[Any] | None:
    """A column of a TensorDict as a list of plain objects, one a row; None where the batch has none."""
    if name not in batch.keys():
        return None
    stack = batch.get(name)
    if hasattr(stack, "stack_dim"):  # one wrapped object a row
        return [item.data for item in stack]
    if hasattr(stack, "unbind"):  # a plain tensor
        return list(stack)
    return [stack.data] * len(batch)  # one object for all rows


def answers(batch: Any) -> list[Any]:
    models = column(batch, "reward_model") or [None] * len(batch)
    return [m.get("ground_truth") if isinstance(m, dict) else None for m in models]


def problems(batch: Any) -> list[Problem]:
    """One Problem a row, in order; rows with the same content have the same id. An answer is private where the row's
    extra_info says `private_answer`."""
    infos = column(batch, "extra_info") or [None] * len(batch)
    chats = column(batch, "raw_prompt")
    assert chats is not None, "verl's datasets give every row its chat as raw_prompt"
    found = []
    for chat, answer, info in zip(chats, answers(batch), infos, strict=True):
        messages = tuple(copy.deepcopy([dict(m) for m in chat]))
        private = bool(info.get("private_answer")) if isinstance(info, dict) else False
        found.append(Problem(problem_id(messages, answer), messages, answer, private))
    return found


def rollout(score: float, text: str, extra: Mapping[str, Any], reference: str | None = None) -> Rollout:
    """One finished trajectory as a Rollout. extra: its `extra_fields`. reference: answer that made feedback may quote,
    where neither reward function nor environment gave any."""
    if error := (extra.get("fst") or {}).get("error"):
        return Rollout(0.0, error=error)
    if not math.isfinite(score):
        return Rollout(0.0, error=f"the reward is {score}, not a finite number")
    feedback = (extra.get("reward_extra_info") or {}).get("feedback")
    if feedback is None:
        feedback = f"This answer got a reward of {score:g}."
        if reference:
            feedback += f" The reference answer is: {reference}"
    return Rollout(score, text, str(feedback))


def last_outputs(keys: Sequence[str]) -> dict[tuple[str, str], str]:
    """(uid, session) -> key of the last output of that session; keys read {uid}_{session}_{index}."""
    final: dict[tuple[str, str], tuple[int, str]] = {}
    for key in keys:
        uid, session, index = key.rsplit("_", 2)
        if (uid, session) not in final or int(index) > final[uid, session][0]:
            final[uid, session] = (int(index), key)
    return {name: key for name, (_, key) in final.items()}


def system_text(chat: Sequence[Any]) -> str:
    """Text of a chat's system message; "" where it has none."""
    return next((str(m.get("content", "")) for m in chat if m.get("role") == "system"), "")
