"""Context providers: the hook between a rollout and the prompt it runs under (`assign`).

A provider is built anew in every rollout process from plain data, so it must be cheap and hold no state. A user's own
is any class with the constructor and the method of `ContextProvider`, named by `fst.context.path`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from . import examples
from .config import ConfigError, ConfigProblem
from .prompts import text_digest
from .rollouts import Message

Placement = Literal["system", "append", "user"]


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
    append: as system, but the data's own system message stays, and the prompt follows it after a blank line.
    user: the data's system message is dropped and the prompt, a blank line after it, precedes the first user message.
    Examples at the end of the prompt (see `examples`) are turns before the chat's first question.
    Raises ValueError for another placement, or if "user" finds no user message with text to put it before.
    """
    text, solved = examples.split(text)
    if solved:
        messages = examples.shown(messages, solved)
    rest = [dict(m) for m in messages if m.get("role") != "system"]
    if placement == "system":
        return [{"role": "system", "content": text}, *rest]
    if placement == "append":
        return [{"role": "system", "content": _joined(messages, text)}, *rest]
    if placement != "user":
        raise ValueError(f"fst.context.placement={placement}: it is resolved once, before the first rollout")
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


def _joined(messages: Sequence[Message], text: str) -> Any:
    """Content of the chat's own system message with the text after it; content parts stay parts."""
    own = next((m["content"] for m in messages if m.get("role") == "system" and m.get("content")), "")
    if isinstance(own, str):
        return f"{own}\n\n{text}" if own.strip() else text
    return [*own, {"type": "text", "text": f"\n\n{text}"}]


def choose_placement(asked: str, system_messages: Collection[str], takes_system: bool) -> Placement:
    """Where prompts go, decided once for a run.

    asked: `fst.context.placement`.
    system_messages: every different system message of the data, as text; "" for rows without one.
    takes_system: does the chat template have a system role (see `policy.takes_system_messages`)?

    "auto" replaces the one system message that all rows share, joins rows' own if they differ, and precedes the first
    user message if the template has no system role. Raises ConfigError for what such a template cannot send.
    """
    different = set(system_messages)
    if asked != "auto":
        if asked != "user" and not takes_system:
            message = f"{asked}: the chat template has no system role; set it to user, or to auto"
            raise ConfigError([ConfigProblem("fst.context.placement", message)])
        return asked  # type: ignore[return-value]
    if takes_system:
        return "append" if len(different) > 1 else "system"
    if len(different) > 1:
        message = (
            f"the data has {len(different)} different system messages and the chat template has no system role: move"
            " them into the user messages, or set it to user, which drops them"
        )
        raise ConfigError([ConfigProblem("fst.context.placement", message)])
    return "user"


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
