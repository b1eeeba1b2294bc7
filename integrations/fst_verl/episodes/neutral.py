"""Text of an environment on its way into a chat: it may say anything, and none of it acts.

A tokenizer turns the text of its special tokens into these tokens wherever it meets them, inside a message too: an
observation could end its own turn and speak as the assistant. `EscapeControlTokens` keeps what was said readable and
takes away what it would do.
"""

from __future__ import annotations

import unicodedata
from typing import Any

_MAX_PASSES = 5  # ours: one pass is enough unless tokens are nested on purpose


class EscapeControlTokens:
    """Makes texts harmless for one tokenizer: `EscapeControlTokens(tokenizer)(text)`.

    Control characters other than line feed and tab, and lone surrogates, are dropped; other line ends become line
    feeds; in the text of a special token a space goes between its first character and the rest. Any other text comes
    back as it is, an empty one too. Never raises on a str.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {str(token) for token in added.values() if token.special} | set(tokenizer.all_special_tokens)
        self.special = sorted((token for token in special if token.strip()), key=lambda t: (-len(t), t))
        ids = {number for number, token in added.items() if token.special} | set(tokenizer.all_special_ids)
        self.special_ids = ids - {tokenizer.unk_token_id}

    def __call__(self, text: str) -> str:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
        for _ in range(_MAX_PASSES):
            found = [token for token in self.special if token in text]
            if not found:
                break
            for token in found:
                text = text.replace(token, f"{token[0]} {token[1:]}" if len(token) > 1 else "")
        if self._acts(text):  # the tokenizer reads more than the exact spelling as a special token
            for first in {token[0] for token in self.special}:
                text = text.replace(first, "")
        return text

    def _acts(self, text: str) -> bool:
        return not self.special_ids.isdisjoint(self.tokenizer.encode(text, add_special_tokens=False))
