"""The logged steps of a run: verl's file logger (JSONL of {"step", "data"}) over the run's own `fst/steps.jsonl`.

verl's file logger starts anew on a resume; what the fast weights kept of the lives before is laid under it. Values that
are not finite numbers are in no figure; they are counted, and named.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..record.steps import STEPS_FILE, Steps, read_steps
from .run import RunError, Step

NAMED = 3
"""Metrics that are named where values of more were left out (ours)."""


def read_logs(logs: Sequence[Path], live: Path | None = None) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The steps of several logs, each once, a later log winning; and what was left out, as lines for a person.

    live: the run's live `fst` folder.

    Raises RunError if a log cannot be used, or if there are no steps.
    """
    own = read_steps(live) if live is not None else Steps()
    found, not_finite = own.data, Counter[str]()
    for log in logs:
        for step, data in _lines(log):
            values = {name: _number(value) for name, value in data.items()}
            not_finite.update(name for name, value in values.items() if value is not None and not math.isfinite(value))
            found.setdefault(step, {}).update(
                {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
            )
    if not found:
        raise RunError(f"{', '.join(map(str, logs))}: the log is empty; wait for the run's first validation or step")
    return tuple(Step(step, found[step]) for step in sorted(found)), tuple(_left_out(not_finite, own))


def last_step(log: Path) -> int:
    """The last step in a log that may be being written; 0 if there is none yet."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0


def _lines(log: Path) -> list[tuple[int, dict[str, Any]]]:
    found = []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            found.append((_step(entry["step"]), dict(entry["data"])))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            if number == len(lines):  # the run is being written, or was killed
                continue
            raise RunError(
                f"{log}, line {number} is not a {{step, data}} of verl's file logger ({error}): restore it or move it"
                " away"
            ) from error
    return found


def _step(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        raise ValueError(f"step {value!r} is not a whole number from 0")
    return int(value)


def _number(value: Any) -> float | None:
    """A logged value as a number: NaN for null, which is how verl writes NaN; None for what is not a number."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _left_out(not_finite: Counter[str], own: Steps) -> list[str]:
    lines = []
    if not_finite:
        named = ", ".join(f"{name} ({count})" for name, count in not_finite.most_common(NAMED))
        more = f", and {len(not_finite) - NAMED} more metrics" if len(not_finite) > NAMED else ""
        lines.append(f"logged values that are not finite numbers, in no figure: {not_finite.total()}, of {named}{more}")
    if own.undone:
        lines.append(f"steps that a resume went back behind, in no figure: {own.undone}")
    if own.damaged:
        lines.append(f"damaged lines of {STEPS_FILE}, left out: {own.damaged}")
    return lines


__all__ = ["last_step", "read_logs"]
