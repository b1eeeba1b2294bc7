"""What a run logged of every slow step, kept across its lives.

An RL stack's own log may start anew when a run is resumed; `fst/steps.jsonl` only grows. One line a logged step, as
verl's file logger writes them: {"step": ..., "data": {metric: number}}. It is read for figures, never to resume from:
damage is left out and counted, not refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

STEPS_FILE = "steps.jsonl"
VALIDATION = ("val-", "fst/kl_to_base", "timing_s/testing")
"""How the metrics begin that a validation logs by itself, as verl names them."""


@dataclass
class Steps:
    """What `read_steps` found.

    data: step -> metric -> number, of the life that counts; a step's later line wins, metric by metric.
    undone: how many trained steps a resume went back behind; they are not in `data`.
    damaged: lines that could not be read and are left out.
    """

    data: dict[int, dict[str, float]] = field(default_factory=dict)
    undone: int = 0
    damaged: int = 0


def append_step(folder: Path, step: int, figures: Mapping[str, Any]) -> None:
    """Adds one line to the run's `steps.jsonl`. figures: metric -> value; what is not a finite number is left out.

    Raises OSError if the folder cannot be written.
    """
    data = {name: float(value) for name, value in figures.items() if isinstance(value, Real) and math.isfinite(value)}
    line = json.dumps({"step": step, "data": data}, ensure_ascii=True).encode("ascii") + b"\n"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / STEPS_FILE, "a+b") as file:
        if file.tell() and _last_byte(file) != b"\n":  # a life that was killed while it wrote
            line = b"\n" + line
        file.write(line)


def read_steps(folder: Path) -> Steps:
    """Every step that the run logged. A step that is trained again after a later one begins a new life: what the old
    life logged beyond it is dropped, and counted. A validation of an old checkpoint drops nothing."""
    found, path, last = Steps(), folder / STEPS_FILE, 0
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        if not line:
            continue
        try:
            entry = json.loads(line)
            step, data = int(entry["step"]), {str(k): float(v) for k, v in entry["data"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            found.damaged += 1
            continue
        if is_trained(step, data):
            if step < last:
                found.undone += sum(is_trained(known, old) for known, old in found.data.items() if known > step)
                found.data = {known: old for known, old in found.data.items() if known <= step}
            last = step
        found.data.setdefault(step, {}).update(data)
    return found


def is_trained(step: int, data: Mapping[str, float]) -> bool:
    """Was the step itself logged, and not only a validation of the weights after it (as a resume begins with)?"""
    return step > 0 and not all(name.startswith(VALIDATION) for name in data)


def _last_byte(file: Any) -> bytes:
    file.seek(-1, 2)
    return bytes(file.read(1))


__all__ = ["STEPS_FILE", "Steps", "append_step", "is_trained", "read_steps"]
