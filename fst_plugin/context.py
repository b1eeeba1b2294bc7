"""Context providers: the hook between a rollout and the prompt it runs under (`assign`).

A provider is built anew in every rollout process from plain data, so it must be cheap and hold no state. A user's own
is any class with the constructor and the method of `ContextProvider`, named by `fst.context.path`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .prompts import text_digest
from .rollouts import Message

Placement = Literal["system", "user"]


@dataclass(frozen=True)
class Request:
    """One rollout that asks for its prompt.

    problem_id: see `rollouts.problem_id`.
    split: "train", "anchor" (fast phase) or "val".
    session: index in the problem's group, 0..n-1.
    step: the trainer's global step.
    messages: the chat as the data has it.
    """

    problem_id: str
    session: int
    step: int
    split: str
    messages: Sequence[Message]


@dataclass(frozen=True)
class Assignment:
    """The messages to send, and whose they are: digest of the prompt ("" for none) and its rank (-1 for none)."""

    messages: list[Message]
    digest: str = ""
    rank: int = -1


class ContextProvider(Protocol):
    """Built as `Provider(prompts, placement, **kwargs)`: `prompts` are the population's texts, best first."""

    def assign(self, request: Request) -> Assignment: ...


def place(messages: Sequence[Message], text: str, placement: Placement = "system") -> list[Message]:
    """`messages` with the prompt in place.

    system: the prompt is the system message, in place of the data's own, if any.
    user: the data's system message is dropped and the prompt, a blank line after it, precedes the first user message.
    Raises ValueError if placement "user" finds no user message with text to put it before.
    """
    rest = [dict(m) for m in messages if m.get("role") != "system"]
    if placement == "system":
        return [{"role": "system", "content": text}, *rest]
    for message in rest:
        if message.get("role") != "user":
            continue
        content = message["content"]
        if isinstance(content, str):
            message["content"] = f"{text}\n\n{content}"
        else:  # content parts of a multi-modal chat
            message["content"] = [{"type": "text", "text": f"{text}\n\n"}, *content]
        return [*rest]
    raise ValueError("fst.context.placement=user needs a user message in every problem; this one has none")


class Off:
    """No fast weights: the very same messages."""

    def __init__(self, prompts: Sequence[str] = (), placement: Placement = "system"):
        pass

    def assign(self, request: Request) -> Assignment:
        return Assignment(list(request.messages))


class Fixed:
    """One prompt for every rollout, whatever the population does."""

    def __init__(self, prompts: Sequence[str] = (), placement: Placement = "system", *, text: str):
        self.text, self.placement = text, placement

    def assign(self, request: Request) -> Assignment:
        return Assignment(place(request.messages, self.text, self.placement), text_digest(self.text), 0)


class PopulationContext:
    """Session i of a group runs under prompt i mod K: G/K rollouts each if K divides G (paper Algorithm 1, step 3).

    Training and anchor rollouts spread over the prompts they are given; so does validation, which is given one.
    """

    def __init__(self, prompts: Sequence[str], placement: Placement = "system"):
        if not prompts:
            raise ValueError("the population context needs at least one prompt")
        self.prompts, self.placement = tuple(prompts), placement

    def assign(self, request: Request) -> Assignment:
        rank = request.session % len(self.prompts)
        text = self.prompts[rank]
        return Assignment(place(request.messages, text, self.placement), text_digest(text), rank)


SHIPPED: dict[str, Any] = {"population": PopulationContext, "fixed": Fixed, "off": Off}
