"""What an adapter needs that is the same for every RL stack, besides `fast_weights`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .config import ConfigProblem, ContextConfig, FSTConfig
from .context import SHIPPED, ContextProvider, Off, Request
from .imports import load
from .prompts import Prompt
from .rollouts import Message, content_text

SAMPLED_ROWS = 64
"""Rows, evenly spread, that stand for a dataset where not all of them are read (ours)."""


def sampled_places(size: int) -> list[int]:
    """Where the `SAMPLED_ROWS` rows of a dataset of `size` rows are; all of them if it is smaller."""
    return sorted({i * size // SAMPLED_ROWS for i in range(SAMPLED_ROWS)}) if size > SAMPLED_ROWS else [*range(size)]


def system_text(chat: Sequence[Message]) -> str:
    """Text of a chat's system message; "" if it has none."""
    return next((content_text(m.get("content", "")) for m in chat if m.get("role") == "system"), "")


def provider(spec: ContextConfig, prompts: Sequence[str]) -> ContextProvider:
    """The context provider of `fst.context` over these texts, best first; with no texts, one that changes nothing.

    Raises ValueError if `fst.context.path` leads nowhere.
    """
    if not prompts:
        return Off()
    cls = load(spec.path, "fst.context.path") if spec.path else SHIPPED[spec.name]
    return cls(prompts, spec.placement, **spec.kwargs)


def part_problems(config: FSTConfig) -> list[ConfigProblem]:
    """The user's own parts, and the library of an LM reflection, that cannot be imported."""
    parts = {"context": config.context.path, "fast": config.fast.path, "reflection": config.reflection.path}
    paths = {f"fst.{part}.path": path for part, path in parts.items() if path}
    if config.reflection.kind == "lm" and not config.reflection.path:
        paths["fst.reflection.kind"] = "dspy.LM"
    found = []
    for key, path in paths.items():
        try:
            load(path, key)
        except ValueError as error:
            found.append(ConfigProblem(key, str(error)))
    return found


def fit_problems(
    config: FSTConfig,
    seed: Prompt,
    chats: Sequence[Sequence[Message]],
    *,
    cap: int,
    window: int,
    count_text: Callable[[str], int],
    count_chat: Callable[[Sequence[Message]], int],
) -> list[ConfigProblem]:
    """What keeps evolved prompts from being sent with these chats: a chat template that refuses them or leaves them
    out, or a prompt length that does not hold both.

    cap: longest prompt, in tokens.
    window: tokens that a chat may have.
    count_text, count_chat: tokens of a text, and of a chat as the policy sees it.
    """
    key = "fst.context.placement"
    fix = "set it to 'user'" if config.context.placement == "system" else "use a template that takes user messages"

    def length(chat: Sequence[Message], text: str) -> int:
        return count_chat(provider(config.context, [text]).assign(Request("", 0, 0, "anchor", chat)).messages)

    try:
        left_out = length(chats[0], seed.text) == length(chats[0], f"{seed.text} {seed.text}")
        longest = max(length(chat, seed.text) for chat in chats) - count_text(seed.text)
    except Exception as error:  # of any chat template
        return [ConfigProblem(key, f"the chat template refuses the prompt ({error}): {fix}")]
    if left_out and config.context.name == "population" and not config.context.path:
        return [ConfigProblem(key, f"the chat template leaves the prompt out: {fix}")]
    if longest + cap > window:
        what = f"a prompt of {cap} tokens and a problem of {longest} do not fit the {window} that the policy may read"
        return [ConfigProblem("fst.max_prompt_tokens", f"{what}: lower this cap, or raise the policy's prompt length")]
    return []


def source_of(function: Any) -> str:
    """The code of a reward function, where Python has it, else its name: a journal is void once one was edited."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return getattr(function, "__qualname__", type(function).__name__)


__all__ = [
    "SAMPLED_ROWS",
    "fit_problems",
    "part_problems",
    "provider",
    "sampled_places",
    "source_of",
    "system_text",
]
