"""What the fast phase asks of the world: run these (prompt, problem) cells, say how each went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .prompts import Prompt

Message = Mapping[str, Any]  # a chat message: {"role": ..., "content": ...}


def problem_id(messages: Sequence[Message], answer: Any = None) -> str:
    """16 hex digits that name a problem by content: its messages (without the system message) and its answer."""
    body = [m for m in messages if m.get("role") != "system"]
    text = json.dumps([body, answer], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Problem:
    """One training problem of the anchor set.

    id: see `problem_id`.
    messages: the chat as the data has it.
    answer: the reference answer, where there is one; only shown to a reflection when the config allows it.
    """

    id: str
    messages: tuple[Message, ...]
    answer: Any = None


@dataclass(frozen=True)
class Cell:
    """One (prompt, problem) pair to roll out once."""

    prompt: Prompt
    problem: Problem


@dataclass(frozen=True)
class Rollout:
    """How one cell went.

    score: the reward, as training would have seen it.
    response: the model's text; of an episode, the whole conversation after the first message.
    feedback: what the environment or the reward function said of it; "" where nothing was said.
    error: set when the rollout itself failed (engine, environment): its score then means nothing.
    """

    score: float
    response: str = ""
    feedback: str = ""
    error: str | None = None


Evaluate = Callable[[Sequence[Cell]], list[Rollout]]
"""Runs all cells as one batch with the current weights at the training temperature; one Rollout per cell, in order."""
