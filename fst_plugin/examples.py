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

_END = "</answered>\n</example>"
_BLOCK = re.compile(r"\n?<example>\n<asked>\n(.*?)\n</asked>\n<answered>\n(.*?)\n</answered>\n</example>", re.DOTALL)
_BLOCKS = re.compile(rf"(?:{_BLOCK.pattern})+\Z", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A question as the user asked it, and an answer that solved it."""

    question: str
    answer: str

    @property
    def block(self) -> str:
        return f"\n<example>\n<asked>\n{self.question}\n</asked>\n<answered>\n{self.answer}\n</answered>\n</example>"


def split(text: str) -> tuple[str, tuple[Example, ...]]:
    """A prompt's instructions, and its examples in order."""
    found = _BLOCKS.search(text) if text.endswith(_END) else None
    if found is None:
        return text, ()
    return text[: found.start()], tuple(Example(*pair) for pair in _BLOCK.findall(found[0]))


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
