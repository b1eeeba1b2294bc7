"""Data exchanged with the rollout engine: (prompt, problem) cells to run, and how each went."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .prompts import Prompt

Message = Mapping[str, Any]  # a chat message: {"role": ..., "content": ...}


def problem_id(messages: Sequence[Message], answer: Any = None, **more: Any) -> str:
    """16 hex digits that name a problem by content: its messages, its answer, and what else belongs to it, such as its
    tools. `more` without a value counts for nothing."""
    rest = {name: value for name, value in more.items() if value is not None}
    row = _with_text_keys([list(messages), answer, rest])
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=_by_value)
    return _digest(text.encode("utf-8", "surrogatepass"))


def _with_text_keys(thing: Any) -> Any:
    """Keys of several types have no order; as text they do."""
    if isinstance(thing, Mapping):
        return {str(key): _with_text_keys(value) for key, value in thing.items()}
    return [_with_text_keys(one) for one in thing] if isinstance(thing, (list, tuple)) else thing


def _by_value(thing: Any) -> Any:
    """JSON for what is not JSON (images, arrays, bytes), made from its value and never from where it lies in memory, so
    that the same row has the same id in every process."""
    if hasattr(thing, "tolist"):  # numpy, torch
        return thing.tolist()
    if hasattr(thing, "tobytes") and hasattr(thing, "size"):  # a PIL image
        return [str(getattr(thing, "mode", "")), list(thing.size), _digest(thing.tobytes())]
    return [type(thing).__name__, _digest(thing if isinstance(thing, (bytes, bytearray)) else pickle.dumps(thing))]


def _digest(data: bytes | bytearray) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def content_text(content: Any) -> str:
    """A message's content as text: the texts of its parts, and in place of an image or another object what it is, such
    as "[image 640×480]"."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return "" if content is None else f"[{type(content).__name__}]"
    return "\n".join(_part_text(part) for part in content)


def _part_text(part: Any) -> str:
    if not isinstance(part, Mapping):
        return content_text(part)
    if isinstance(part.get("text"), str):
        return part["text"]
    kind = str(part.get("type", "part"))
    size = getattr(part.get(kind), "size", None)
    known = isinstance(size, tuple) and len(size) == 2
    return f"[{kind} {size[0]}×{size[1]}]" if known and size else f"[{kind}]"


@dataclass(frozen=True)
class Problem:
    """One training problem of the anchor set.

    id: see `problem_id`.
    messages: the chat as the data has it.
    answer: the reference answer, if any; only shown to a reflection when the config allows it.
    private: does the answer belong to this problem alone? Then no evolved prompt may carry it.
    task: what it is a problem of, such as its data source; "" if the data does not say.
    """

    id: str
    messages: tuple[Message, ...]
    answer: Any = None
    private: bool = False
    task: str = ""


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
    feedback_made: the feedback was made from the reward, since neither of them said anything: it teaches nothing that
        the score does not, and is no rule for a prompt.
    error: set when the rollout itself failed (engine, environment): its score then means nothing.
    of: how many rollouts the score is the mean of (>= 1); the texts are then the worst one's.
    tokens: how many tokens the model generated; None if the adapter does not know.
    episode: the response is a whole conversation, not one answer.
    solution, solution_score: of several: the response with the highest score, if the texts are of a worse one and this
        was read, and its score; else "".
    unread: the adapter left the response where it was, since others are enough: no reflection is shown this one.
    """

    score: float
    response: str = ""
    feedback: str = ""
    error: str | None = None
    of: int = 1
    tokens: int | None = None
    feedback_made: bool = False
    unread: bool = False
    episode: bool = False
    solution: str = ""
    solution_score: float = 0.0

    @property
    def top(self) -> tuple[float, str]:
        """Score and text of the best response that is known."""
        return (self.solution_score, self.solution) if self.solution else (self.score, self.response)


def feedback_text(said: Any) -> str:
    """Feedback as text, whatever a reward function gave: nothing (None, NaN, blank) as "", bytes decoded, the items of
    a list one a line, a mapping as "key: value" lines, anything else as `str` has it."""
    if said is None or (isinstance(said, float) and math.isnan(said)):
        return ""
    if isinstance(said, (bytes, bytearray)):
        said = said.decode("utf-8", "replace")
    if isinstance(said, Mapping):
        said = [f"{key}: {feedback_text(value)}" for key, value in said.items()]
    if hasattr(said, "tolist"):
        return feedback_text(said.tolist())
    if isinstance(said, (list, tuple, set, frozenset)):
        said = "\n".join(text for item in said if (text := feedback_text(item)))
    return str(said).strip()


def scored(
    score: float,
    response: str | None,
    feedback: str = "",
    *,
    made: bool = False,
    reference: Any = None,
    tokens: int | None = None,
    episode: bool = False,
) -> Rollout:
    """A finished answer as a Rollout. Where nothing was said of it, feedback is made from its score.

    score: its reward; one that is not a finite number makes it a failed rollout.
    response: None: it was not read.
    made: was `feedback` made from the reward, by the environment?
    reference: the answer that feedback made here may quote; None or "": none.
    feedback, tokens, episode: as `Rollout` has them.
    """
    if not math.isfinite(score):
        return Rollout(0.0, error=f"the reward is {score}, not a finite number")
    if not feedback:
        feedback, made = f"The answer got a reward of {score:g}.", True
        if reference not in (None, ""):
            feedback += f" The reference answer is: {reference}"
    unread = response is None
    return Rollout(score, response or "", feedback, None, 1, tokens, made, unread, episode)


def merged(rollouts: Sequence[Rollout]) -> Rollout:
    """Several rollouts of one prompt on one problem as one: their mean score, the worst one's texts (of several, one
    with feedback of its own; of those whose response was read, if there is any). Failed ones count for nothing; if all
    failed, the first of them."""
    valid = [r for r in rollouts if r.error is None]
    if not valid:
        return rollouts[0]
    total = sum(r.of for r in valid)
    mean = sum(r.score * r.of for r in valid) / total
    score, text = max((r.top for r in valid if r.top[1] and not r.episode), key=lambda top: top[0], default=(mean, ""))
    if score <= mean:
        score, text = 0.0, ""
    return replace(valid[worst(valid)], score=mean, of=total, solution=text, solution_score=score)


def worst(rollouts: Sequence[Rollout]) -> int:
    """Place of the rollout whose texts stand for all of these, none of which has failed; see `merged`."""
    return min(range(len(rollouts)), key=lambda i: (rollouts[i].unread, rollouts[i].score, rollouts[i].feedback_made))


@dataclass(frozen=True)
class Trace:
    """What a slow phase left behind of one problem: how each carried prompt did on it, paid for already.

    rollouts: prompt digest -> its rollouts on this problem, merged.
    """

    problem: Problem
    rollouts: Mapping[str, Rollout]


Evaluate = Callable[[Sequence[Cell]], list[Rollout]]
"""Runs all cells as one batch with the current weights at the training temperature; one Rollout per cell, in order."""
