"""From a language model's answer to the prompt that it was asked for, if it clearly holds one.

A prompt is taken from, in this order: the last `<prompt>` block; an answer that is a JSON object; a fence; what follows
a line such as "Here is the improved prompt:". Nothing else was clearly meant as a prompt: apologies, comments and bare
text are not. Thinking is what stands before the answer; whatever stands within the prompt is its text, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .base import Trouble

THINKING = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, GLM, MiniMax
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # Gemma
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),  # Seed
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
)
"""Marks around a model's thinking, by convention."""

LARGEST_ANSWER = 1_000_000
"""Characters above which an answer is not read (ours)."""
_MAX_THOUGHTS = 50
_FINAL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final[^<\n]*<\|message\|>")  # gpt-oss
_CHANNEL = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>")
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call)\|>")
_BARE_CHANNELS = re.compile(r"\s*analysis.*assistantfinal", re.DOTALL)  # gpt-oss, decoded without special tokens
_TAG = re.compile(r"<(/?)prompt>", re.IGNORECASE)
_MENTIONS = {"", "and", "or", "...", "…"}  # "between <prompt> and </prompt>" speaks of the tags, it does not use them
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^\n`]*?)[ \t]*$", re.MULTILINE)
_PROSE = {"", "text", "txt", "plaintext", "markdown", "md", "prompt", "xml"}
_ANNOUNCED = re.compile(
    r"\A[#* ]*(?:(?:sure|certainly|of course|okay|ok|absolutely)\b[^\n]{0,40}?)?"
    r"(?:here(?:'s|’s| is| are)|below (?:is|are)|(?:my |the )?(?:new|improved|revised|better|updated|final)\b)"
    r"[^\n]{0,100}?\b(?:prompt|instructions?)\b[^\n]{0,60}:[*_ \t]*\n",
    re.IGNORECASE,
)
_PROMPT_KEYS = ("prompt", "new_prompt", "system_prompt", "instructions", "instruction", "new_instruction", "text")
_BACKSLASH = re.compile(r"\\(\\|u[0-9a-fA-F]{4}|[a-zA-Z]+|.)", re.DOTALL)
_ESCAPES = frozenset('"\\/bfnrt')
_LATEX_LIKE_ESCAPES = frozenset(  # begin as JSON's tab and line feed do; \b, \f and \r before a letter are LaTeX always
    "tan tanh tau text textbf textit textrm texttt tfrac therefore theta tilde times to top triangle triangleq"
    " nabla natural ne nearrow neg neq newline nexists ngeq ni nleq nmid not notin nsubseteq nu".split()
)


class NoPrompt(ValueError):
    """An answer holds no prompt. kind: "unusable"; "cut", if it breaks off before its prompt ends; or "large"."""

    def __init__(self, message: str, kind: str = "unusable"):
        super().__init__(message)
        self.kind = kind


def extract_prompt(answer: str) -> str | None:
    """The new prompt in an answer; None if it does not clearly hold one."""
    try:
        return read_prompt(answer)
    except NoPrompt:
        return None


def prompt_or_trouble(answer: str, trouble: Trouble, thinking: Sequence[tuple[str, str]] = ()) -> str:
    """The new prompt in an answer; "" if it does not clearly hold one, which is noted in `trouble`."""
    try:
        return read_prompt(answer, thinking)
    except NoPrompt as why:
        trouble.note(why.kind, str(why))
        return ""


def read_prompt(answer: str, thinking: Sequence[tuple[str, str]] = ()) -> str:
    """The new prompt in an answer. Raises NoPrompt, saying why, if it does not clearly hold one.

    thinking: opening and closing marks of the model's own thinking, besides the usual ones.
    """
    if len(answer) > LARGEST_ANSWER:
        raise NoPrompt(f"an answer of {len(answer)} characters is not read, only up to {LARGEST_ANSWER}", "large")
    answer = _final_channel(answer).strip()
    text = _from_json(answer)
    if text is None:
        answer = _after_thinking(answer, [*THINKING, *thinking])
        text = _tagged(answer)
    if text is None:
        text = _from_json(answer) or _fenced_or_announced(answer)
    if not text.strip():
        raise NoPrompt("the prompt in the answer is empty")
    return text.strip()


# Thinking


def _final_channel(answer: str) -> str:
    finals = list(_FINAL.finditer(answer))
    if finals:
        return _END_OF_MESSAGE.split(answer[finals[-1].end() :])[0]
    if _CHANNEL.match(answer):
        raise NoPrompt("the answer ends before its final channel", "cut")
    bare = _BARE_CHANNELS.match(answer)
    return answer[bare.end() :] if bare else answer


def _after_thinking(answer: str, marks: Sequence[tuple[str, str]]) -> str:
    """What follows the leading blocks of thinking, and closing marks that nothing opened, as after a chat template
    that opens the thinking itself."""
    for _ in range(_MAX_THOUGHTS):
        answer = answer.lstrip()
        rest = _after_leading_block(answer, marks)
        if rest is None:
            rest = _after_lone_close(answer, marks)
        if rest is None:
            return answer
        answer = rest
    raise NoPrompt(f"the answer has more than {_MAX_THOUGHTS} blocks of thinking")


def _after_leading_block(answer: str, marks: Sequence[tuple[str, str]]) -> str | None:
    for opening, closing in marks:
        if answer[: len(opening)].lower() == opening.lower():
            end = _find(closing, answer)
            if end < 0:
                raise NoPrompt("the answer ends within its thinking", "cut")
            return answer[end + len(closing) :]
    return None


def _after_lone_close(answer: str, marks: Sequence[tuple[str, str]]) -> str | None:
    if _FENCE.match(answer):
        return None
    for opening, closing in marks:
        at, opened = _find(closing, answer), _find(opening, answer)
        if at >= 0 and not 0 <= opened < at and not _within_prompt(at, answer):
            return answer[at + len(closing) :]
    return None


def _within_prompt(at: int, answer: str) -> bool:
    try:
        return any(start <= at < end for start, end in _blocks(answer))
    except NoPrompt:
        return False


def _find(mark: str, text: str) -> int:
    found = re.search(re.escape(mark), text, re.IGNORECASE)
    return found.start() if found else -1


# Tags


def _tagged(answer: str) -> str | None:
    """The text of the last `<prompt>` block; None if the answer has no such block."""
    texts = [text for start, end in _blocks(answer) if (text := answer[start:end].strip()) not in _MENTIONS]
    return _unfenced(texts[-1]) if texts else None


def _blocks(text: str) -> list[tuple[int, int]]:
    """Start and end of what stands between outermost tags. Raises NoPrompt if a block is not closed."""
    pairs: list[tuple[int, int, int]] = []  # start, end, how many tags stand open around it
    opened: list[re.Match[str]] = []
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened.append(tag)
        elif opened:
            pairs.append((opened.pop().end(), tag.start(), len(opened)))
    if not opened:
        return [(start, end) for start, end, around in pairs if not around]
    if not text[: opened[0].start()].strip():
        if text.rstrip().lower().endswith("</prompt>"):  # a prompt that speaks of the opening tag
            return [(opened[0].end(), text.lower().rindex("</prompt>"))]
        pairs = []
    later = [(a, b) for a, b, around in pairs if around == len(opened) and a > opened[-1].end()]
    if not later:
        raise NoPrompt("the answer breaks off within its prompt: <prompt> is not closed", "cut")
    return later  # the opening tag was only mentioned


def _unfenced(text: str) -> str:
    """Without a fence around the whole of it."""
    try:
        fences = list(_fences(text)) if _FENCE.match(text) else []
    except NoPrompt:
        return text
    whole = len(fences) == 1 and fences[0].language in _PROSE and fences[0].source == text
    return fences[0].text.strip() if whole else text


# Fences, announcements


def _fenced_or_announced(answer: str) -> str:
    announced = _ANNOUNCED.match(answer)
    body = answer[announced.end() :].strip() if announced else ""
    if body and not _FENCE.match(body):
        return _from_json(body) or body
    fences = list(_fences(answer))
    if len(fences) != 1:
        raise NoPrompt("the answer has no <prompt>" + (f", but {len(fences)} fences" if fences else ""))
    if fences[0].language == "json" and (found := _from_json(fences[0].text.strip())) is not None:
        return found
    if fences[0].language not in _PROSE:
        raise NoPrompt(f"the answer's only fence holds {fences[0].language}, not a prompt")
    return fences[0].text


class _Fence(NamedTuple):
    language: str
    text: str
    source: str


def _fences(text: str) -> Iterator[_Fence]:
    """Outermost fences; within one, a mark with a language opens another. Raises NoPrompt if one is not closed."""
    opened: list[re.Match[str]] = []
    for line in _FENCE.finditer(text):
        mark, language, inner = line[1], line[2], opened[-1][1] if opened else ""
        if opened and not language and mark[0] == inner[0] and len(mark) >= len(inner):
            first = opened.pop()
            if not opened:
                inside = text[first.end() + 1 : line.start()]
                yield _Fence(first[2].lower(), inside, text[first.start() : line.end()])
        elif not opened or (language and mark[0] == inner[0]):
            opened.append(line)
    if opened:
        raise NoPrompt("the answer breaks off within a fence", "cut")


# JSON


def _from_json(answer: str) -> str | None:
    """The prompt in an answer that is a JSON object; None if it is none. Raises NoPrompt if its values are not text."""
    if not (answer.startswith("{") and answer.endswith("}")):
        return None
    try:
        found = json.loads(_BACKSLASH.sub(_kept, answer), strict=False)
    except (ValueError, RecursionError):
        return None
    text = _text_of(found)
    if text is None:
        raise NoPrompt("the answer is a JSON object without one text that could be the prompt")
    return text


def _kept(escape: re.Match[str]) -> str:
    """A JSON escape as it is; a LaTeX command, whose backslash JSON would eat, with its backslash doubled."""
    found = escape[1]
    is_json = found in _ESCAPES or re.fullmatch("u[0-9a-fA-F]{4}", found)
    if is_json or (found[0] in "nt" and found not in _LATEX_LIKE_ESCAPES):
        return escape[0]
    return "\\" + escape[0]


def _text_of(value: Any) -> str | None:
    """The one text that a JSON value clearly holds: itself, lines, or that under a key that says so."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, dict):
        named = [key for key in _PROMPT_KEYS if key in value]
        if named or len(value) == 1:
            return _text_of(value[named[0] if named else next(iter(value))])
    return None


__all__ = ["THINKING", "NoPrompt", "extract_prompt", "prompt_or_trouble", "read_prompt"]
