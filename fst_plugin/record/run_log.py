"""The log of a run for an RL stack that keeps none: a line {"step", "data"} of JSON for whatever is logged, as
`analysis.read` reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import set_aside

METRICS_FILE = "metrics.jsonl"


def begin(folder: Path, fresh: bool) -> Path | None:
    """Before a run writes its log into `folder`. fresh: the run does not go on from an earlier one, whose log is moved
    aside; returns where to. Else a line that a kill has cut off is dropped."""
    file = folder / METRICS_FILE
    if not file.exists():
        return None
    if fresh:
        return set_aside(file)
    written = file.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if whole != written:
        with open(file, "r+b") as cut:
            cut.truncate(len(whole))
    return None


def append(folder: Path, step: int, data: Mapping[str, Any]) -> None:
    """Adds a line with what in `data` is a finite number."""
    numbers = {name: value for name, value in data.items() if _is_number(value)}
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / METRICS_FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "data": numbers}) + "\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


__all__ = ["METRICS_FILE", "append", "begin"]
