"""What the method knows of the policy whose prompts it evolves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .rollouts import Message

MAX_TOKENS = 1024
"""Cap of a prompt if the adapter sets none, in the policy's tokens (ours)."""
WIDTH = 256
"""Rollouts that an engine runs at a time if the adapter does not know (ours)."""

Generate = Callable[[list[list[Message]]], list[str]]


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that act when they stand in a message: the tokens flagged special, and of the other added tokens those that
    the chat template frames a message with.

    Format tags that merely are one token, such as <think>, <answer> or <tool_call>, are text: a prompt may ask for
    them.
    """
    added = list(getattr(tokenizer, "added_tokens_decoder", {}).values())
    acting = {str(token) for token in added if token.special} | set(map(str, tokenizer.all_special_tokens))
    if getattr(tokenizer, "chat_template", None):
        try:
            framed = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
        except Exception:  # of any template; one that cannot render a user message fails where it is used
            framed = ""
        acting |= {str(token) for token in added if str(token).strip() and str(token) in framed}
    return tuple(sorted(acting))


def takes_system_messages(tokenizer: Any, used: bool = False) -> bool:
    """Does the chat template have a system role?

    It must render a system message's text, and the role must be more than an unknown word to it: the template names
    the role, or it is ChatML, where all roles are written alike, or the data's own rows make use of it.

    tokenizer: a Hugging Face tokenizer or processor.
    used: do rows of the data have system messages?
    """
    text = "7 moons"
    try:
        chat = [{"role": "system", "content": text}, {"role": "user", "content": "hello"}]
        rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except Exception:  # of any template: "System role not supported", "roles must alternate"
        return False
    template = str(getattr(tokenizer, "chat_template", None) or "")
    return text in rendered and (used or "system" in template or "<|im_start|>" in template)


def estimate_tokens(text: str) -> int:
    """Length in tokens if no tokenizer is at hand: a token per four bytes of UTF-8."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / 4)


@dataclass(frozen=True)
class Policy:
    """What the method knows of the policy whose prompts it evolves.

    max_tokens: cap of a prompt, in the policy's tokens.
    count_tokens: length of a text in them.
    special_tokens: control tokens of the chat template; no evolved prompt holds one.
    generate: the policy's answers to plain chats; None if it cannot be asked.
    fits: does a chat fit the prompt length of its rollouts?
    width: rollouts that its engine runs at a time.
    """

    max_tokens: int = MAX_TOKENS
    count_tokens: Callable[[str], int] = estimate_tokens
    special_tokens: tuple[str, ...] = ()
    generate: Generate | None = None
    fits: Callable[[Sequence[Message]], bool] = lambda chat: True
    width: int = WIDTH

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, max_tokens: int, **more: Any) -> Policy:
        """From a Hugging Face tokenizer; `more`: generate, fits, width."""

        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        return cls(max_tokens, count, control_tokens(tokenizer), **more)

    def refuse(self, text: str) -> str | None:
        """Why this text must never be sent as an evolved prompt; None if it may be."""
        if not text.strip():
            return "it is empty"
        length = self.count_tokens(text)
        if length > self.max_tokens:
            return f"it has {length} tokens, the cap is {self.max_tokens}"
        acting = [token for token in self.special_tokens if token.strip() and token in text]
        if acting:
            return f"it holds control tokens: {', '.join(acting)}"
        return None
