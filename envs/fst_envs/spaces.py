"""A text space over all of Unicode that is cheap to build.

Prompts and model outputs hold any character. `gymnasium.spaces.Text` lists the characters it allows; with all of
Unicode it takes a second to build and tens of megabytes to pickle. `UnicodeText` accepts any `str` up to a length and
samples printable ASCII only.

Invariant: the space contains every sample of it.
"""

from __future__ import annotations

import string
from typing import Any

from gymnasium import spaces

MAX_LENGTH = 1 << 20  # ours, code points: far above any prompt or response
_SAMPLE_LENGTH = 32  # ours: samples only serve checks, so they are short


class UnicodeText(spaces.Text):
    """Any `str` of `min_length` to `max_length` code points.

    max_length: default 1,048,576 (ours).
    min_length: default 0 (ours): a terminal observation may be empty.
    seed: seeds `sample`.
    """

    def __init__(self, max_length: int = MAX_LENGTH, min_length: int = 0, seed: int | None = None):
        super().__init__(max_length, min_length=min_length, charset=string.printable, seed=seed)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short text of printable ASCII; `mask` and `probability` as in `gymnasium.spaces.Text.sample`."""
        if mask is None and probability is None:
            longest = min(self.max_length, max(self.min_length, _SAMPLE_LENGTH))
            mask = (int(self.np_random.integers(self.min_length, longest + 1)), None)
        return super().sample(mask, probability)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (other.min_length, other.max_length) == (self.min_length, self.max_length)

    __hash__ = None  # type: ignore[assignment]  # as every gymnasium space with __eq__

    def __repr__(self) -> str:
        return f"UnicodeText({self.min_length}, {self.max_length})"
