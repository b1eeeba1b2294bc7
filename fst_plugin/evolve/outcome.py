"""What an optimizer hands back, checked before anything rests on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..optimizer import Evolution

_EVOLUTION = TypeAdapter(Evolution)
_COUNTED = ("rollouts", "tokens", "reflection_calls", "reflection_failures")


def checked(found: Any, path: str | None) -> Evolution:
    """`found` in plain Python numbers and texts, as it can be stored and sent.

    path: the user's own optimizer (`fst.fast.path`), None for the shipped one.

    Raises ValueError, naming the field, if it is not an Evolution of the types that `Evolution` declares, or a number
    in it is NaN or infinite, or a count negative.
    """
    source = f"fst.fast.path={path}" if path else "the shipped optimizer"
    if not isinstance(found, Evolution):
        raise ValueError(f"{source}: evolve() returned {type(found).__name__}: it must return an fst_plugin.Evolution")
    try:
        evolution = _EVOLUTION.validate_python(asdict(found))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{source}: evolve() returned {_dotted(first['loc'])}: {first['msg']}") from None
    place = _not_finite(asdict(evolution), ())
    if place is not None and place != ("evidence", "error"):  # a single pair has no spread
        raise ValueError(f"{source}: evolve() returned {_dotted(place)}: not a finite number")
    for name in _COUNTED:
        if evolution.metrics.get(name, 0) < 0:
            raise ValueError(f"{source}: evolve() returned Evolution.metrics.{name}: a count is not negative")
    return evolution


def _dotted(place: tuple[Any, ...]) -> str:
    return ".".join(["Evolution", *map(str, place)])


def _not_finite(value: Any, place: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Where the first number that is not finite stands, None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    inside = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    return next((found for key, one in inside if (found := _not_finite(one, (*place, key))) is not None), None)


__all__ = ["checked"]
