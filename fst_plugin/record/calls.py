"""The calls that a fast phase has paid for, on disk in the order that they were made.

One line of JSON a call, each compressed by itself and appended, so that a kill in the middle of a write costs that one
call and gzip's checksum guards every other: `zcat calls.jsonl.gz` shows them.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ..rollouts import Rollout
from . import sealed
from .atomic import sync_folder, to_json

CALLS_FILE = "calls.jsonl.gz"
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
"""Of gzip (ours): its default takes nine times as long, the engine waits, and the file is deleted after the phase."""


@dataclass(frozen=True)
class Call:
    """One call and its answer.

    kind: what was asked for.
    digest: names the question.
    answer: a rollout a cell, or a proposed text (None: a failure) a request.
    trouble: kind of `Trouble` -> how often it came up in a reflection, and its last words.
    """

    kind: Literal["evaluate", "reflect"]
    digest: str
    answer: list[Rollout | str | None]
    trouble: dict[str, tuple[int, str]] = field(default_factory=dict)


class CallsFile:
    """The calls of one phase, in `folder`. What a kill left of a last call is cut off at once.

    whole: how many calls were found.
    cut: how many bytes were cut off.

    Raises UnusableFile if the file is damaged otherwise, OSError if it can't be written.
    """

    def __init__(self, folder: Path):
        self.path = folder / CALLS_FILE
        self.whole, self._end = 0, 0
        for _, end in _calls(self.path):
            self.whole, self._end = self.whole + 1, end
        size = self.path.stat().st_size if self.path.exists() else 0
        self.cut = size - self._end
        if self.cut:
            self._cut()

    def read(self) -> Iterator[Call]:
        """The calls found, one at a time."""
        for (call, _), _ in zip(_calls(self.path), range(self.whole), strict=False):
            yield call

    def append(self, call: Call) -> None:
        """On disk when it returns. Raises OSError if it cannot be written; nothing of the call is left then."""
        data = gzip.compress(f"{to_json(asdict(call), allow_nan=True)}\n".encode(), _LEVEL, mtime=0)
        new = not self.path.exists()
        try:
            with open(self.path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self.path.parent)
        except OSError:
            self._cut()
            raise
        self._end += len(data)

    def _cut(self) -> None:
        """Back to the last whole call, so that the next one begins on its own."""
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.truncate(self._end)
                os.fsync(file.fileno())


def read_calls(folder: Path) -> Iterator[Call]:
    """The calls recorded in `folder`, in order; a last one that is not whole yet is left out.

    Raises UnusableFile, naming the call, if the file is damaged otherwise.
    """
    return (call for call, _ in _calls(folder / CALLS_FILE))


def _calls(path: Path) -> Iterator[tuple[Call, int]]:
    """Every whole call, and where its bytes end."""
    raw = memoryview(path.read_bytes() if path.exists() else b"")
    end, number = 0, 0
    while end < len(raw):
        number += 1
        inflate = zlib.decompressobj(_GZIP)
        try:
            line = inflate.decompress(raw[end:])
        except zlib.error as error:
            raise sealed.damaged(path, f"call {number}: {error}") from None
        if not inflate.eof:
            return
        end = len(raw) - len(inflate.unused_data)
        yield sealed.parsed(path, line, Call, f"call {number}: ", allow_nan=True), end


__all__ = ["CALLS_FILE", "Call", "CallsFile", "read_calls"]
