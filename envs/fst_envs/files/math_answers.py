r"""Mathematical and physical answers, graded by math-verify and pint in processes that can be killed.

The answer is in the last <answer>...</answer>, else in the last \boxed{...}, else on the last line that is not blank.
A hostile expression ("9^{9^{9^{9}}}") ends its process and scores 0, with feedback. A process that does not start, or a
gold answer that cannot be read, is a fault of the world.

Invariant: nothing that the model wrote is executed, here or in those processes.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import queue
import re
from dataclasses import dataclass
from typing import Any

from gymnasium.error import DependencyNotInstalled

from ..answers import find_answer, last_line, short
from ..base import EnvironmentFault
from ..episodes.child import Child, TextToBlame

logger = logging.getLogger(__name__)

TIMEOUT = 10.0  # ours, seconds: honest answers take well under a second
MAX_ANSWER = 1000  # ours, characters: the grammar's time grows steeply with length
PROCESSES = max(1, min(4, os.cpu_count() or 1))  # ours: started when needed, about 100 MB each

_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?<=\d)\.?"
    r"(?:\s*(?:[eE]\s*|(?:\\times|\\cdot|×|\*)\s*10\s*(?:\^|\*\*)\s*)\{?\s*([-+]?\d{1,3})\s*\}?)?"
)
_TEN_TO = re.compile(r"10\s*(?:\^|\*\*)\s*\{?\s*([-+]?\d{1,3})\s*\}?")
_OVER = re.compile(r"\s*/\s*(\d{1,15}(?:\.\d{1,15})?)")


@dataclass(frozen=True)
class Grade:
    """Whether an answer is correct, and feedback on what was wrong with it."""

    correct: bool
    feedback: str


def extract(text: str) -> str | None:
    r"""The answer in a text: tagged, else boxed, else the last line that is not blank; None for a blank text."""
    found = find_answer(text)
    return last_line(text) if found is None else found


def grade(text: str, gold: str) -> Grade:
    """Grades a model's text.

    gold: the gold answer, in LaTeX or plain digits.
    Raises EnvironmentFault for a gold answer that cannot be read or a broken process, DependencyNotInstalled without
    math-verify.
    """
    answer = extract(text)
    if not answer:
        return Grade(False, "No answer was found: put the final answer in \\boxed{...}.")
    said = f"The answer was read as {short(answer, 200)}; the correct one is {short(gold, 200)}."
    if len(answer) > MAX_ANSWER:
        return Grade(False, f"{said} An answer has at most {MAX_ANSWER} characters.")
    try:
        judged = _judge({"op": "same", "gold": gold, "answer": answer})
    except TextToBlame:
        return Grade(False, f"{said} It took too much time or memory to check.")
    if "error" in judged:
        raise EnvironmentFault(f"math-verify: {judged['error']}: {gold!r}")
    if judged.get("same"):
        return Grade(True, "Correct.")
    if "raised" in judged:
        logger.debug("math-verify could not check an answer: %s", judged["raised"])
        return Grade(False, f"{said} It could not be checked.")
    if judged.get("unreadable"):
        return Grade(False, f"{said} It could not be read as a formula.")
    wanted, given = judged["kinds"]
    form = f" A form mismatch: expected {wanted}, got {given}." if wanted != given else ""
    return Grade(False, said + form)


def read_quantity(text: str) -> tuple[float, str] | None:
    r"""The first number of a text, and its unit, which follows it: "3.0 \times 10^{8} m/s" -> (3e8, "m/s").

    Of an equation, only what follows the last "=" counts. None if there is no finite number.
    """
    text = text.rpartition("=")[2].replace("−", "-").replace("$", " ").replace("{,}", ",")
    found = next((match for match in _NUMBER.finditer(text) if match.group()), None)
    if found is None:
        return None
    power, over = _TEN_TO.match(text, found.start()), _OVER.match(text, found.end())
    if power is not None:
        value, end = float(f"1e{power.group(1)}"), power.end()
    else:
        digits = re.split(r"[eE\\×*\s]", found.group().strip(), maxsplit=1)[0].replace(",", "").rstrip(".")
        value, end = float(f"{digits}e{found.group(1) or 0}"), found.end()
        if over is not None and float(over.group(1)):
            value, end = value / float(over.group(1)), over.end()
    return (value, text[end:].strip(" \t\n.,;)]")) if math.isfinite(value) else None


def grade_quantity(text: str, gold: float, unit: str, tolerance: float) -> Grade:
    """Grades a number with a unit.

    A missing unit is taken to be the gold unit; another unit is converted.

    gold: the gold value.
    unit: the gold unit; "" if it has none.
    tolerance: relative to the gold value; absolute if that is 0.
    Raises as `grade` does.
    """
    answer = extract(text)
    if not answer:
        return Grade(False, "No answer was found: put the number and its unit in \\boxed{...}.")
    want = f"{gold:g} {unit}".strip()
    said = f"The answer was read as {short(answer, 200)}; the correct one is {want}."
    read = read_quantity(answer[:MAX_ANSWER])
    if read is None:
        return Grade(False, f"{said} There is no number in it.")
    value, own = read
    if own:
        try:
            converted = _judge({"op": "convert", "value": value, "unit": own, "gold_unit": unit})
        except TextToBlame:
            return Grade(False, f"{said} Its unit took too much time or memory to check.")
        if "error" in converted:
            raise EnvironmentFault(f"pint: {converted['error']}")
        if "value" not in converted:
            problem = "does not measure the same as" if converted.get("mismatch") else "cannot be read beside"
            return Grade(False, f"{said} A unit mismatch: {short(own, 60)} {problem} {short(unit, 60)}.")
        value = converted["value"]
    if abs(value - gold) <= tolerance * (abs(gold) or 1.0):
        return Grade(True, "Correct.")
    return Grade(False, f"{said} {_how_far(value, gold)} More than {tolerance:g} off counts as wrong.")


def _how_far(value: float, gold: float) -> str:
    if value == 0 or gold == 0:
        return f"In the correct unit it is {value:g}."
    ratio = value / gold
    if abs(ratio + 1) < 1e-2:
        return "The sign is wrong."
    power = round(math.log10(abs(ratio)))
    if power and abs(ratio / 10.0**power - 1) < 1e-2:
        return f"It is off by a factor of 10^{power}."
    return f"In the correct unit it is {value:g}, {ratio:.3g} times the correct value."


def require_library() -> None:
    """Raises DependencyNotInstalled without math-verify or pint."""
    for module in ("math_verify", "pint"):
        if importlib.util.find_spec(module) is None:
            raise DependencyNotInstalled(f"math answers need {module}: pip install 'fst-plugin[math]'")


_idle: queue.LifoQueue[Child] = queue.LifoQueue()  # last in, first out: a single user needs a single process
for _ in range(PROCESSES):
    _idle.put(Child("fst_envs.files.math_child"))


_PROBE = {"op": "convert", "value": 1.0, "unit": "m", "gold_unit": "m"}


def _judge(request: dict[str, Any]) -> dict[str, Any]:
    """`Child.judge` by a process of the pool. Raises DependencyNotInstalled if the process lacks a library."""
    child = _idle.get()
    try:
        return child.judge(request, TIMEOUT, _PROBE)
    except EnvironmentFault:
        require_library()
        raise
    finally:
        _idle.put(child)
