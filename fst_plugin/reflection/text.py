"""Text that came from a model or an environment is data: it must not act.

`clean` makes a proposed prompt safe to send: no control characters, nothing that a chat template or tokenizer would
read as a control token.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_CONTROL_TOKENS = re.compile(
    r"<\|[^|<>\n]{0,64}\|>"  # ChatML, Llama 3, Phi
    r"|<｜[^｜<>\n]{0,64}｜>"  # DeepSeek
    r"|</?s>|\[/?INST\]|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"  # Llama 2, Mistral
    r"|</?(?:start|end)_of_(?:turn|image)>|<(?:bos|eos|pad|unk|mask)>",  # Gemma and common vocabularies
    re.IGNORECASE,
)
_MAX_PASSES = 20
_INVISIBLE = frozenset("\u200b\u2060\ufeff\u00ad")  # zero-width space, word joiner, byte order mark, soft hyphen
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[^\sa-z])|(?<=[。！？])")


def clean(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` as it may be sent as a prompt.

    Control characters (other than line feed and tab), lone surrogates, direction overrides and invisible characters
    are dropped; control tokens of the common chat formats, and every one of `special_tokens` (the policy tokenizer's
    own), become a space; outer white space goes, and of several empty lines one stays. A clean text comes back as it
    is. Raises ValueError if nothing is left.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c in "\n\t" or not _dropped(c))
    tokens = sorted({t for t in special_tokens if t.strip()}, key=lambda t: (-len(t), t))
    for _ in range(_MAX_PASSES):  # removing one token can put another together
        before = text
        text = _CONTROL_TOKENS.sub(" ", text)
        for token in tokens:
            text = text.replace(token, " " if len(token) > 1 else "")
        if text == before:
            break
    else:  # nested on purpose: take away what every such token begins with
        text = re.sub(r"[<\[]", "", text)
        for token in tokens:
            text = text.replace(token[0], "") if token in text else text
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if not text:
        raise ValueError("the proposed prompt is empty once control characters and control tokens are taken out")
    return text


def _dropped(char: str) -> bool:
    return char in _INVISIBLE or char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Co")


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, one line each, in order, white space normalised; splits at line ends and full stops."""
    parts = (part for line in text.splitlines() for part in _SENTENCE_END.split(line))
    return [sentence for part in parts if (sentence := " ".join(part.split()))]


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of `text`: its beginning and its end, with a mark where something is left out."""
    if len(text) <= limit:
        return text
    mark = f" [... {len(text) - limit} characters left out ...] "
    head = max(0, (limit - len(mark)) * 2 // 3)
    tail = max(0, limit - len(mark) - head)
    return text[:head] + mark + (text[-tail:] if tail else "")


__all__ = ["clean", "shorten", "split_sentences"]
