"""How figures are written: never "-0", and never 0 for what is not 0."""

from __future__ import annotations


def written(value: float, digits: int, sign: str = "") -> str:
    """`value` with so many digits after the point, and commas between thousands. What would round to 0 has its first
    digit instead, up to two places further on. sign: "+" to show it of positive figures too."""
    for places in range(digits, digits + 3):
        rounded = round(value, places) + 0.0  # + 0.0: no "-0"
        if rounded:
            return f"{rounded:{sign},.{places}f}"
    return f"{0.0:{sign},.{digits}f}"


__all__ = ["written"]
