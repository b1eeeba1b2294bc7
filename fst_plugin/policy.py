"""What the method knows of the policy whose prompts it evolves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .rollouts import Message

MAX_TOKENS = 1024
"""Cap of a prompt if the adapter sets none, in the policy's tokens (ours)."""
WIDTH = 256
"""Rollouts that an engine runs at a time if the adapter does not know (ours)."""

_OPENED = re.compile(r"(<[\w:.-]{0,30}(?:think|thought|reason)[\w:.-]{0,30}>|\[THINK\]|◁think▷)\s*\Z", re.IGNORECASE)
_THINKING_TAG = re.compile(r"</([\w:.-]{0,30}(?:think|thought|reason)[\w:.-]{0,30})>", re.IGNORECASE)

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


def thinking_marks(tokenizer: Any) -> tuple[tuple[str, str], ...]:
    """Opening and closing tags of thinking that the chat template speaks of: a model's own convention."""
    template = getattr(tokenizer, "chat_template", None)
    names = _THINKING_TAG.findall(template) if isinstance(template, str) else []
    return tuple((f"<{name}>", f"</{name}>") for name in sorted(set(names)))


def opened_thinking(tokenizer: Any, template: Mapping[str, Any]) -> str:
    """The opening mark of thinking with which the chat template itself begins an answer; "" if it does not.

    template: further arguments of the chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        return ""
    chat = [{"role": "user", "content": ""}]
    try:
        asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **template)
    except Exception:  # of any template; one that cannot render a user message fails where it is used
        return ""
    found = _OPENED.search(asked)
    return found[1] if found else ""


def chat_tokens(tokenizer: Any, chat: Sequence[Message], template: Mapping[str, Any]) -> int:
    """Length of a plain chat as it is sent, in tokens. template: further arguments of the chat template."""
    messages = [dict(message) for message in chat]
    sent = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **template)
    return len(tokenizer(sent, add_special_tokens=False)["input_ids"])


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
    thinking: opening and closing marks of its thinking that its chat template speaks of.
    opened: the opening one, if its chat template begins every answer with it.
    """

    max_tokens: int = MAX_TOKENS
    count_tokens: Callable[[str], int] = estimate_tokens
    special_tokens: tuple[str, ...] = ()
    generate: Generate | None = None
    fits: Callable[[Sequence[Message]], bool] = lambda chat: True
    width: int = WIDTH
    thinking: tuple[tuple[str, str], ...] = ()
    opened: str = ""

    @classmethod
    def of_tokenizer(
        cls, tokenizer: Any, max_tokens: int, window: int, *, template: Mapping[str, Any] | None = None, **more: Any
    ) -> Policy:
        """From a Hugging Face tokenizer.

        window: longest chat of a rollout, in tokens.
        template: further arguments of its chat template.
        more: generate, width.
        """
        arguments = template or {}

        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        def fits(chat: Sequence[Message]) -> bool:
            return chat_tokens(tokenizer, chat, arguments) <= window

        marks, opened = thinking_marks(tokenizer), opened_thinking(tokenizer, arguments)
        return cls(max_tokens, count, control_tokens(tokenizer), fits=fits, thinking=marks, opened=opened, **more)

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
