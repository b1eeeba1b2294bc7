"""What an adapter needs that is the same for every RL stack, besides `fast_weights`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from .config import APPENDED_SEED, TASK_AGNOSTIC_SEED, ConfigError, ConfigProblem, ContextConfig, FSTConfig
from .context import SHIPPED, ContextProvider, Off, Placement, choose_placement
from .imports import load
from .policy import takes_system_messages
from .prompts import Prompt, text_digest
from .record.slow_scores import REFLECTIONS, shown_places
from .rollouts import Message, content_text

SAMPLED_ROWS = 64
"""Rows, evenly spread, that stand for a dataset where not all of them are read (ours)."""
EXAMPLES = 3
"""Rows that the log names of each system message (ours)."""
MOST_SHOWN = 2000
"""Characters of the data's system messages in the log (ours)."""


def sampled_places(size: int) -> list[int]:
    """Where the `SAMPLED_ROWS` rows of a dataset of `size` rows are; all of them if it is smaller."""
    return sorted({i * size // SAMPLED_ROWS for i in range(SAMPLED_ROWS)}) if size > SAMPLED_ROWS else [*range(size)]


def system_text(chat: Sequence[Message]) -> str:
    """Text of a chat's system message; "" if it has none."""
    return next((content_text(m.get("content")) for m in chat if m.get("role") == "system"), "")


def system_messages(chats: Iterable[Sequence[Message]], log: Callable[[str], None]) -> dict[str, list[int]]:
    """Every different system message of a dataset, as text ("" where there is none), and the first rows that have it.

    chats: of all rows, in order.
    log: takes a line if they differ.
    """
    found: dict[str, list[int]] = {}
    for number, chat in enumerate(chats):
        rows = found.setdefault(system_text(chat), [])
        if len(rows) < EXAMPLES:
            rows.append(number)
    if len(found) > 1:
        shown = "; ".join(f"{text[:60]!r} in rows {', '.join(map(str, rows))}, ..." for text, rows in found.items())
        log(f"fst: the data has {len(found)} different system messages: {shown[:MOST_SHOWN]}")
    return found


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
    found = []
    if config.reflection.kind == "lm" and not config.reflection.path and find_spec("dspy") is None:
        found.append(ConfigProblem("fst.reflection.kind", "lm needs dspy, which is not installed: pip install dspy"))
    for key, path in paths.items():
        try:
            load(path, key)
        except ValueError as error:
            found.append(ConfigProblem(key, str(error)))
    return found


def begin_with(
    settings: FSTConfig, tokenizer: Any, system_messages: Collection[str], log: Callable[[str], None]
) -> tuple[FSTConfig, Prompt]:
    """The settings with `fst.context.placement` resolved, and the first prompt.

    tokenizer: the policy's, with its chat template.
    system_messages: every different system message of the data, as text; "" for rows without one.
    log: takes a line where placement was left to be resolved.
    Raises ConfigError for what such data and such a template do not allow.
    """
    takes_system = takes_system_messages(tokenizer, used=any(system_messages))
    placement = choose_placement(settings.context.placement, system_messages, takes_system)
    if placement != settings.context.placement:
        log(f"fst: fst.context.placement={settings.context.placement}: prompts go by {placement!r}")
    context = settings.context.model_copy(update={"placement": placement})
    return settings.model_copy(update={"context": context}), choose_seed(settings, system_messages, placement)


def choose_seed(config: FSTConfig, system_messages: Iterable[str], placement: Placement = "system") -> Prompt:
    """The first prompt: `fst.seed_prompt`, else the system message that all rows share, else a task-agnostic default.

    system_messages: those of the data's rows, "" for a row without one.
    placement: see `context.choose_placement`; appended prompts start from a line of their own.

    Raises ConfigError if the prompt would replace several different ones and `fst.seed_prompt` names none.
    """
    if config.seed_prompt is not None:
        return Prompt(config.seed_prompt)
    if placement == "append":
        return Prompt(APPENDED_SEED)
    texts = set(system_messages)
    if len(texts) > 1:
        message = f"the data has {len(texts)} different system messages: say which to start from, or keep them with"
        raise ConfigError([ConfigProblem("fst.seed_prompt", f"{message} fst.context.placement=append")])
    text = next(iter(texts), "")
    return Prompt(text, origin="data") if text else Prompt(TASK_AGNOSTIC_SEED)


def dataset_digest(rows: int, sampled: Iterable[str]) -> str:
    """Names the training data by its size and the ids of some of its problems, in order."""
    return text_digest("\n".join([str(rows), *sampled]))


def source_of(function: Any) -> str:
    """The code of a reward function, where Python has it, else its name: a journal is void once one was edited."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return getattr(function, "__qualname__", type(function).__name__)


__all__ = [
    "REFLECTIONS",
    "SAMPLED_ROWS",
    "begin_with",
    "choose_seed",
    "dataset_digest",
    "part_problems",
    "provider",
    "sampled_places",
    "shown_places",
    "source_of",
    "system_messages",
    "system_text",
]
