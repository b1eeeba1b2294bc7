"""Text that came from a model or an environment is data: it must not act.

`clean` makes a proposed prompt safe to send: nothing that only the model would see, nothing that a chat template or
tokenizer would read as a control token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTROL_TOKENS = re.compile(
    r"<\|[^|<>\n]{0,64}\|>"  # ChatML, Llama 3, Phi
    r"|<｜[^｜<>\n]{0,64}｜>"  # DeepSeek
    r"|</?s>|\[/?INST\]|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"  # Llama 2, Mistral
    r"|</?(?:start|end)_of_(?:turn|image)>|<(?:bos|eos|pad|unk|mask)>",  # Gemma and common vocabularies
    re.IGNORECASE,
)
_MAX_PASSES = 20
_JOINING = (  # scripts whose letters are told to join or not: Arabic, Syriac, Indic, Burmese, Khmer, Mongolian, ...
    r"\u0620-\u109f\u1780-\u17b3\u17b6-\u17ff\u1820-\u18aa\u1a00-\u1cff\ua800-\uabff\ufb50-\ufdff\U00010a00-\U00011fff"
)
_PICTURE = r"\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_HIDDEN = re.compile(
    rf"(?P<needed>(?<=[{_JOINING}])[\u200c\u200d](?=[{_JOINING}])"
    rf"|(?:(?<=[{_PICTURE}])|(?<=[{_PICTURE}]\ufe0f))\u200d(?=[{_PICTURE}])"
    rf"|(?<=[{_PICTURE}0-9#*])[\ufe0e\ufe0f]"
    r"|(?<=[\u1820-\u18aa])[\u180b-\u180d])"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff"
    r"\u200b-\u200f\u2060-\u206f\u00ad\u034f\ufeff"  # zero width, operators
    r"\u061c\u202a-\u202e"  # direction
    r"\u115f\u1160\u3164\uffa0\u17b4\u17b5\u180b-\u180f"  # fillers
    r"\ufe00-\ufe0f\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"  # selectors, tags
)

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[^\sa-z])|(?<=[。！？])")


def clean(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` as it may be sent as a prompt.

    Hidden characters are dropped (`without_hidden`); control tokens of the common chat formats, and every one of
    `special_tokens` (the policy tokenizer's own), become a space; outer white space goes, and of several empty lines
    one stays. A clean text comes back as it is. Raises ValueError if nothing is left. Takes time linear in the text.
    """
    text, _ = without_hidden(text)
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
    text = re.sub(r"(?<![ \t])[ \t]+\n", "\n", text)  # from a run's first blank on only: linear
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if not text:
        raise ValueError("the proposed prompt is empty once control characters and control tokens are taken out")
    return text


def without_hidden(text: str) -> tuple[str, int]:
    """`text` without the characters that a model reads and a person does not see, and how many those were.

    Dropped: control characters other than line feed and tab, lone surrogates, private use, direction marks, zero-width
    and other invisible characters, fillers, tags and variation selectors. Kept where a script needs them: (non-)joiners
    between two letters of a script that joins letters, joiners between two emoji, one text or emoji selector after a
    symbol or a digit, selectors after a Mongolian letter. (So a flag made of tags becomes a plain black flag.) Every
    line ends in a line feed.
    """
    dropped = 0

    def decide(match: re.Match[str]) -> str:
        nonlocal dropped
        if match["needed"]:
            return match["needed"]
        dropped += 1
        return ""

    return _HIDDEN.sub(decide, text.replace("\r\n", "\n").replace("\r", "\n")), dropped


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, one line each, in order, white space normalised; splits at line ends and full stops."""
    parts = (part for line in text.splitlines() for part in _SENTENCE_END.split(line))
    return [sentence for part in parts if (sentence := " ".join(part.split()))]


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of `text`: its beginning and its end, with a mark where something is left out."""
    return text if len(text) <= limit else shorten_ends(text, text, limit, f"{len(text) - limit} characters")


def shorten_ends(beginning: str, end: str, limit: int, left_out: str) -> str:
    """As `shorten`, of a text that is known by its beginning and its end only.

    left_out: says in the mark what is missing between them, such as "120 characters".
    """
    mark = f" [... {left_out} left out ...] "
    head = max(0, (limit - len(mark)) * 2 // 3)
    tail = max(0, limit - len(mark) - head)
    return beginning[:head] + mark + (end[-tail:] if tail else "")


__all__ = ["clean", "shorten", "shorten_ends", "split_sentences", "without_hidden"]
