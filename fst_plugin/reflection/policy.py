"""The policy reflects on itself: new prompts from the model in training, through its own rollout engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..rollouts import Message
from .base import ReflectionRequest, render_record

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_TAGGED = re.compile(r"<prompt>(.*?)(?:</prompt>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[^\S\n]*(?:[\w-]+[^\S\n]*)?\n(.*?)(?:\n[^\S\n]*```|\Z)", re.DOTALL)

_ASK = """An assistant works under these instructions:
<prompt>
{parent}
</prompt>

This is how it went on some tasks:
{records}

Write better instructions for the assistant. Keep what works. State every rule and fact that the feedback gives away: \
the assistant will not see the feedback. Do not solve the tasks themselves. At most {max_chars} characters. Answer \
with the new instructions only, between <prompt> and </prompt>."""


class PolicyReflection:
    """Asks the policy itself.

    generate: answers to chats, one each, in order; one call is one batch on the rollout engine. It may raise: then all
        requests of the batch have failed.
    fits: does a chat fit the engine's prompt length? Records are left out, last first, until it does; a request that
        does not fit with one record has failed.
    """

    def __init__(
        self,
        generate: Callable[[list[list[Message]]], list[str]],
        fits: Callable[[Sequence[Message]], bool] = lambda chat: True,
    ):
        self._generate, self._fits = generate, fits

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        chats = [self._ask(request) for request in requests]
        answers = iter(self._answers([chat for chat in chats if chat is not None]))
        return [None if chat is None else extract_prompt(next(answers)) for chat in chats]

    def _ask(self, request: ReflectionRequest) -> list[Message] | None:
        for shown in range(len(request.records), 0, -1):
            chat = ask(replace(request, records=request.records[:shown]))
            if self._fits(chat):
                return chat
        return None

    def _answers(self, chats: list[list[Message]]) -> list[str]:
        if not chats:
            raise ValueError(
                "no reflection fits the policy's prompt length: raise data.max_prompt_length, or reflect with another"
                " model (fst.reflection.kind=lm)"
            )
        answers = self._generate(chats)
        if len(answers) != len(chats):
            raise ValueError(f"generate answered {len(answers)} of {len(chats)} chats")
        return [answer if isinstance(answer, str) else "" for answer in answers]

    def describe(self) -> str:
        return "the policy itself, through its rollout engine"


def ask(request: ReflectionRequest) -> list[Message]:
    """The chat that asks for one new prompt: one user message, so that every chat template can render it."""
    shown = "\n\n".join(
        f"Task {i}:\n{r['Inputs']}\nAnswer:\n{r['Generated Outputs']}\nFeedback:\n{r['Feedback']}"
        for i, r in enumerate((render_record(*record) for record in request.records), 1)
    )
    text = _ASK.format(parent=request.parent.text, records=shown, max_chars=request.max_chars)
    return [{"role": "user", "content": text}]


def extract_prompt(answer: str) -> str | None:
    """The new prompt in an answer: what stands between <prompt> tags, else in the last fence of three backticks, else
    all of it; without thinking. None if nothing is left."""
    answer = _THINKING.sub("", answer)
    for pattern in (_TAGGED, _FENCED):
        found = [text.strip() for text in pattern.findall(answer) if text.strip()]
        if found:
            return found[-1]
    return re.sub(r"</?prompt>", "", answer, flags=re.IGNORECASE).strip() or None


__all__ = ["PolicyReflection", "ask", "extract_prompt"]
