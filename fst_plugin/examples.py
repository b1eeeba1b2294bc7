"""Solved problems that a prompt shows: the second component of a prompt, next to its instructions.

In a prompt's text they are blocks after the instructions; a chat has them as turns before its own first message, as if
the problems had been asked and answered there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .rollouts import Message, Problem, Rollout, content_text

MOST = 4
"""Examples of one prompt (ours)."""

LONGEST = 2000
"""Characters of an example's answer; a longer one is none (ours)."""

_OPENING = "<example>\n<asked>\n"
_BLOCK = re.compile(r"\n?<example>\n<asked>\n(.*?)\n</asked>\n<answered>\n(.*)\n</answered>\n</example>", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A question as the user asked it, and an answer that solved it."""

    question: str
    answer: str

    @property
    def block(self) -> str:
        return f"\n<example>\n<asked>\n{self.question}\n</asked>\n<answered>\n{self.answer}\n</answered>\n</example>"


def split(text: str) -> tuple[str, tuple[Example, ...]]:
    """A prompt's instructions, and its examples in order: as many whole blocks as it ends in."""
    found: list[Example] = []
    while (begin := text.rfind(_OPENING)) >= 0:
        begin -= text[:begin].endswith("\n")
        block = _BLOCK.fullmatch(text, begin)
        if block is None:
            break
        found.insert(0, Example(*block.groups()))
        text = text[:begin]
    return text, tuple(found)


def joined(instructions: str, examples: Iterable[Example]) -> str:
    """Inverse of `split`."""
    return instructions + "".join(example.block for example in examples)


def of(problem: Problem, rollout: Rollout) -> Example | None:
    """A solved problem as an example; None if it is not one question, in text, with one answer."""
    asked = [message for message in problem.messages if message.get("role") != "system"]
    answer = rollout.response.strip()
    if len(asked) != 1 or not isinstance(asked[0].get("content"), str) or rollout.episode:
        return None
    if not 0 < len(answer) <= LONGEST:
        return None
    example = Example(asked[0]["content"], answer)
    return example if split(joined("", [example])) == ("", (example,)) else None


def shown(messages: Sequence[Message], examples: Iterable[Example]) -> list[Message]:
    """`messages` with the examples as turns before the first message that is not a system message. None of them is the
    chat's own question."""
    own = {content_text(message.get("content")) for message in messages}
    turns: list[Message] = []
    for example in examples:
        if example.question not in own:
            turns.append({"role": "user", "content": example.question})
            turns.append({"role": "assistant", "content": example.answer})
    first = next((i for i, message in enumerate(messages) if message.get("role") != "system"), len(messages))
    return [*messages[:first], *turns, *messages[first:]]


__all__ = ["MOST", "Example", "joined", "of", "shown", "split"]
