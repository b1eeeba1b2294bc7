"""What the method knows of the policy whose prompts it evolves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .rollouts import Message

Generate = Callable[[list[list[Message]]], list[str]]


@dataclass(frozen=True)
class Policy:
    """What the method knows of the policy whose prompts it evolves.

    seed_prompt: text of the first prompt. max_tokens: cap of a prompt, in the policy's tokens. count_tokens: length of
    a text in them. special_tokens: control tokens of the chat template. generate: the policy's answers to plain chats.
    fits: does a chat fit the prompt length of its rollouts? width: rollouts that its engine runs at a time.
    """

    seed_prompt: str
    max_tokens: int
    count_tokens: Callable[[str], int]
    special_tokens: tuple[str, ...] = ()
    generate: Generate | None = None
    fits: Callable[[Sequence[Message]], bool] = lambda chat: True
    width: int = 256

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, seed_prompt: str, max_tokens: int, **more: Any) -> Policy:
        """From a Hugging Face tokenizer; `more`: generate, fits, width."""

        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        added = [str(token) for token in tokenizer.get_added_vocab()]
        special = tuple(sorted({*map(str, tokenizer.all_special_tokens), *added}))
        return cls(seed_prompt, max_tokens, count, special, **more)

    def refuse(self, text: str) -> str | None:
        """Why this text must never be sent as an evolved prompt; None where it may be."""
        if not text.strip():
            return "it is empty"
        length = self.count_tokens(text)
        if length > self.max_tokens:
            return f"it has {length} tokens, the cap is {self.max_tokens}"
        acting = [token for token in self.special_tokens if token.strip() and token in text]
        if acting:
            return f"it holds control tokens: {', '.join(acting)}"
        return None
