"""The policy reflects on itself: new prompts from the model in training, through its own rollout engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..rollouts import Message
from .answers import prompt_or_trouble
from .base import ReflectionRequest, Trouble, ask


class PolicyReflection:
    """Asks the policy itself.

    generate: answers to chats, one each, in order, "" for one that failed; one call is one batch on the rollout engine.
        It may raise: then all requests of the batch have failed.
    fits: does a chat fit the engine's prompt length? Records are left out, last first, until it does, then a
        second prompt; a request that does not fit with one record has failed.
    thinking: opening and closing marks of the policy's own thinking, besides the usual ones.
    opened: the opening one, if the chat template begins every answer with it: then it is thinking until that is closed.
    trouble: what went wrong in the last batch.
    """

    def __init__(
        self,
        generate: Callable[[list[list[Message]]], list[str]],
        fits: Callable[[Sequence[Message]], bool] = lambda chat: True,
        thinking: Sequence[tuple[str, str]] = (),
        opened: str = "",
    ):
        self._generate, self._fits, self._thinking, self._opened = generate, fits, tuple(thinking), opened
        self.trouble = Trouble()

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        self.trouble = Trouble()
        chats = [self._ask(request) for request in requests]
        answers = iter(self._answers([chat for chat in chats if chat is not None]))
        return [self._text(None if chat is None else next(answers)) for chat in chats]

    def _ask(self, request: ReflectionRequest) -> list[Message] | None:
        for one in (request, replace(request, mate=None)):
            for shown in range(len(one.records), 0, -1):
                chat = ask(replace(one, records=one.records[:shown]))
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

    def _text(self, answer: str | None) -> str | None:
        if not answer:
            why = "it does not fit the policy's prompt length" if answer is None else "the policy gave no answer"
            self.trouble.note("failures", why)
            return None
        return prompt_or_trouble(self._opened + answer, self.trouble, self._thinking)

    def describe(self) -> str:
        return "the policy itself, through its rollout engine"


__all__ = ["PolicyReflection"]
