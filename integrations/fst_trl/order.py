"""The order in which TRL serves its problems, known ahead: a generation batch is a function of its number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Ahead:
    """TRL's own sampler with its epochs drawn early, in their order, so that coming batches can be looked at.

    inner: the trainer's RepeatSampler.
    groups: problems of one generation batch.
    size: G, how often a problem stands in it.
    repeats: how often the sampler serves each generation batch.

    An undisturbed run is served what `inner` alone would serve. So is one that was resumed in a later epoch, where
    `inner` alone would begin with the first epoch's order again.
    """

    def __init__(self, inner: Any, groups: int, size: int, repeats: int):
        self.inner, self.groups, self.size, self.repeats = inner, groups, size, repeats
        self.per_epoch = len(inner) // (groups * size * repeats)
        self.next_epoch = 0  # set by a resumed run
        self._drawn: list[list[int]] = []

    def _epoch(self, number: int) -> list[int]:
        while len(self._drawn) <= number:
            self._drawn.append(list(self.inner))
        return self._drawn[number]

    def __iter__(self) -> Iterator[int]:
        self.next_epoch += 1
        return iter(self._epoch(self.next_epoch - 1))

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, number: int) -> list[int]:
        """Dataset indices, one a problem, of generation batch `number` of the run (from 0)."""
        epoch, place = divmod(number, self.per_epoch)
        begin = place * self.groups * self.size * self.repeats
        return self._epoch(epoch)[begin : begin + self.groups * self.size : self.size]

    def reached(self, updates: int, accumulate: int) -> tuple[int, int]:
        """(epoch, generation batch) of the next micro-batch after this many optimizer steps. As in transformers' own
        resume, the last step of an epoch may have fewer micro-batches than the `accumulate` of the others."""
        epoch, rest = divmod(updates, -(-self.per_epoch * self.repeats // accumulate))
        return epoch, epoch * self.per_epoch + rest * accumulate // self.repeats
