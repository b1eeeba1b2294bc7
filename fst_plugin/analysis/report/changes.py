"""What was done to a text, as pieces, in bounded time: what begins and ends alike is set aside first, and what is left
is compared only up to MAX_PAIRS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

MAX_PAIRS = 250_000
"""Pairs of lines, or of words, that are compared; of more, the one side is shown as replaced by the other (ours)."""
CONTEXT = 3
"""Unchanged lines that are shown on either side of a change (ours)."""

Piece = tuple[str, str]


def difference(old: str, new: str) -> list[Piece]:
    """What was done to a text, as pieces in order: ("same" | "added" | "removed", piece). The pieces of the first and
    second kind make the new text, those of the first and third the old one. Lines first, then words within lines."""
    pieces: list[Piece] = []
    for kind, before, after in _blocks(re.findall(r"\n|[^\n]+", old), re.findall(r"\n|[^\n]+", new)):
        if kind == "replace" and _alike(before, after):
            words = _blocks(re.findall(r"\S+\s*|\s+", before), re.findall(r"\S+\s*|\s+", after))
            pieces += [piece for block in words for piece in _pieces(*block)]
        else:
            pieces += _pieces(kind, before, after)
    return _joined(pieces)


def shortened(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with long unchanged stretches left out: a piece of kind "gap" says how many lines."""
    found: list[Piece] = []
    for i, (kind, piece) in enumerate(pieces):
        lines = piece.splitlines(keepends=True)
        head, tail = (CONTEXT if i else 0), (CONTEXT if i < len(pieces) - 1 else 0)
        if kind != "same" or len(lines) <= head + tail + 1:
            found.append((kind, piece))
            continue
        found.append(("same", "".join(lines[:head])))
        found.append(("gap", f"{len(lines) - head - tail} unchanged lines"))
        found.append(("same", "".join(lines[len(lines) - tail :])))
    return [piece for piece in found if piece[1]]


def _blocks(a: Sequence[str], b: Sequence[str]) -> list[tuple[str, str, str]]:
    """("equal" | "replace" | ..., of a, of b): difflib's operations, in time bounded by MAX_PAIRS."""
    short = min(len(a), len(b))
    head = next((i for i in range(short) if a[i] != b[i]), short)
    tail = next((i for i in range(short - head) if a[-1 - i] != b[-1 - i]), short - head)
    end = "".join(a[len(a) - tail :])
    a, b, start = a[head : len(a) - tail], b[head : len(b) - tail], "".join(a[:head])
    middle = [("replace", "".join(a), "".join(b))]
    if len(a) * len(b) <= MAX_PAIRS:
        operations = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
        middle = [(kind, "".join(a[i:j]), "".join(b[k:m])) for kind, i, j, k, m in operations]
    return [("equal", start, start), *middle, ("equal", end, end)]


def _alike(old: str, new: str) -> bool:
    """Do they share half of their words, counted? Else words in common are chance."""
    a, b = old.split(), new.split()
    return SequenceMatcher(None, a, b).quick_ratio() >= 0.5


def _pieces(kind: str, before: str, after: str) -> list[Piece]:
    return [("same", after)] if kind == "equal" else [("removed", before), ("added", after)]


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Without empty pieces; neighbours of one kind become one."""
    whole: list[Piece] = []
    for kind, piece in pieces:
        if whole and piece and whole[-1][0] == kind:
            whole[-1] = (kind, whole[-1][1] + piece)
        elif piece:
            whole.append((kind, piece))
    return whole


__all__ = ["difference", "shortened"]
