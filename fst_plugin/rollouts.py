"""Data exchanged with the rollout engine: (prompt, problem) cells to run, and how each went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    answer: the reference answer, if any; only shown to a reflection when the config allows it.
    private: does the answer belong to this problem alone? Then no evolved prompt may carry it.
    """

    id: str
    messages: tuple[Message, ...]
    answer: Any = None
    private: bool = False


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
    feedback: what the environment or the reward function said of it; "" if nothing was said.
    error: set when the rollout itself failed (engine, environment): its score then means nothing.
    of: how many rollouts the score is the mean of (>= 1); the texts are then the worst one's.
    tokens: how many tokens the model generated; None if the adapter does not know.
    """

    score: float
    response: str = ""
    feedback: str = ""
    error: str | None = None
    of: int = 1
    tokens: int | None = None


def merged(rollouts: Sequence[Rollout]) -> Rollout:
    """Several rollouts of one prompt on one problem as one: their mean score, the worst one's texts. Failed ones count
    for nothing; if all failed, the first of them."""
    valid = [r for r in rollouts if r.error is None]
    if not valid:
        return rollouts[0]
    total = sum(r.of for r in valid)
    mean = sum(r.score * r.of for r in valid) / total
    return replace(min(valid, key=lambda r: r.score), score=mean, of=total)


@dataclass(frozen=True)
class Trace:
    """What a slow phase left behind of one problem: how each carried prompt did on it, paid for already.

    rollouts: prompt digest -> its rollouts on this problem, merged.
    """

    problem: Problem
    rollouts: Mapping[str, Rollout]


Evaluate = Callable[[Sequence[Cell]], list[Rollout]]
"""Runs all cells as one batch with the current weights at the training temperature; one Rollout per cell, in order."""
