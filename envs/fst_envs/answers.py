r"""Answers in a model's text: where they stand, and how two JSON values differ.

Invariant: the text is data and never executed.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

NO_ANSWER = "No answer was found: the final answer must stand between <answer> and </answer>."
HINT = "\n\nPut your final answer between <answer> and </answer>."


def last_tag(text: str) -> str | None:
    """The content of the last `<answer>...</answer>`, stripped; None if there is none."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return None if start < 0 else text[start + len("<answer>") : end].strip()


_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""The content of the last (innermost) `\boxed{...}` with balanced braces, stripped; `\{` and `\}` do not count."""
    opened: list[tuple[int, bool]] = []
    found: tuple[int, str] | None = None
    for match in _BRACES.finditer(text):
        token = match.group()
        if token[-1] == "{" and token != r"\{":
            opened.append((match.end(), token != "{"))
        elif token == "}" and opened:
            start, boxed = opened.pop()
            if boxed and (found is None or start > found[0]):
                found = start, text[start : match.start()].strip()
    return None if found is None else found[1]


def last_line(text: str) -> str | None:
    """The last line that is not blank, stripped; None if all are."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


EXTRACTORS: Mapping[str, tuple[Callable[[str], str | None], str]] = {
    "tag": (last_tag, "between <answer> and </answer>"),
    "boxed": (last_boxed, r"in \boxed{...}"),
    "line": (last_line, "on the last line"),
}
"""kind -> (function that finds the answer, words for where it must stand)."""

_FENCE = re.compile(r"^```(?:json)?|```$", re.MULTILINE)


def find_answer(text: str) -> str | None:
    r"""The content of the last <answer>...</answer>, else of the last \boxed{...}, stripped; None if neither exists."""
    tagged = last_tag(text)
    return last_boxed(text) if tagged is None else tagged


_WORDS = re.compile(r"[^\W\d_]+")
_NOT_FINITE = re.compile(r"[ij]?(nan|inf|infinity)[ij]?")
_EXPONENTS = re.compile(r"(?<![\w.])[\d_]*\.?[\d_]+e[+]?[\d_]+")


def holds_non_finite(text: str) -> bool:
    """Whether a text holds nan or inf as a word of its own, in any spelling ("-Infinity", "nanj", "n an", "∞"), or a
    number too large for a float ("1e999").

    Comparisons with such values come out in ways that scorers do not expect: `min(1.0, nan)` is 1.0.
    """
    spaced = unicodedata.normalize("NFKC", text).casefold()
    return any(_not_finite(plain) for plain in (spaced, "".join(spaced.split())))


def _not_finite(plain: str) -> bool:
    if "∞" in plain or any(_NOT_FINITE.fullmatch(word) for word in _WORDS.findall(plain)):
        return True
    return any(_overflows(number) for number in _EXPONENTS.findall(plain))


def _overflows(number: str) -> bool:
    try:
        return math.isinf(float(number))
    except ValueError:  # no number, such as "e_1"
        return False


def short(text: str, limit: int) -> str:
    """The `repr` of a text, cut to `limit` characters; it escapes control characters."""
    return repr(text if len(text) <= limit else text[:limit] + "...")


def read_json(text: str) -> Any:
    """The JSON value of a text, without its code fences. Raises ValueError; NaN and infinities are not JSON."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(_FENCE.sub("", text).strip(), parse_constant=refuse)
    except RecursionError as e:
        raise ValueError("it is nested too deep") from e


def first_difference(expected: Any, given: Any, path: str = "") -> str | None:
    """One sentence on the first place, in the expected value's order, where two JSON values differ; None if none do.

    Numbers are compared by value (1 is 1.0); truth values are not numbers. Raises ValueError for values nested too
    deep.
    """
    try:
        return _difference(expected, given, path)
    except RecursionError as e:
        raise ValueError("it is nested too deep") from e


def _difference(expected: Any, given: Any, path: str) -> str | None:
    if isinstance(expected, dict) and isinstance(given, dict):
        for key, value in expected.items():
            if key not in given:
                return _at(path, f"the key {short(key, 60)} is missing.")
            found = _difference(value, given[key], f"{path}.{key}" if path else key)
            if found:
                return found
        extra = next((key for key in given if key not in expected), None)
        return None if extra is None else _at(path, f"there must be no key {short(extra, 60)}.")
    if isinstance(expected, list) and isinstance(given, list):
        for i, (one, other) in enumerate(zip(expected, given, strict=False)):
            found = _difference(one, other, f"{path}[{i}]")
            if found:
                return found
        if len(expected) != len(given):
            return _at(path, f"expected {len(expected)} elements, got {len(given)}.")
        return None
    if _kind(expected) == _kind(given) and expected == given:
        return None
    return _at(path, f"expected {_show(expected)}, got {_show(given)}.")


def _at(path: str, said: str) -> str:
    return f"At {path}: {said}" if path else said[0].upper() + said[1:]


def _kind(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
