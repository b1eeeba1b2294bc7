"""Rows of verl's batches as the method's problems."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from fst_plugin.rollouts import Problem, problem_id


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
    """One Problem a row, in order; rows with the same content have the same id."""
    chats = column(batch, "raw_prompt")
    assert chats is not None, "verl's datasets give every row its chat as raw_prompt"
    found = []
    for chat, answer in zip(chats, answers(batch), strict=True):
        messages = tuple(copy.deepcopy([dict(m) for m in chat]))
        found.append(Problem(problem_id(messages, answer), messages, answer))
    return found


def system_text(chat: Sequence[Any]) -> str:
    """Text of a chat's system message; "" where it has none."""
    return next((str(m.get("content", "")) for m in chat if m.get("role") == "system"), "")
