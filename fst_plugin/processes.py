"""For RL stacks whose processes all run the trainer: the first one leads, the others follow, and all fail together.

Such processes meet in collective operations. One that fails alone leaves the others waiting; here every process gets
the error, with the number of the process that it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .secrets import described

LIMIT = 1000
"""Characters of another process's error in a message (ours)."""


class ProcessFailed(RuntimeError):
    """Raised on every process if one of several failed."""


class Processes:
    """The processes of one run, seen from one of them.

    number: of this process, from 0.
    count: how many there are.
    broadcast: takes an object and returns that of process 0.
    gather: takes a list and returns those of all processes as one, in their order.
    calls: name -> function of one argument that `everywhere` may run.
    """

    def __init__(
        self,
        number: int,
        count: int,
        broadcast: Callable[[Any], Any],
        gather: Callable[[list[Any]], list[Any]],
        calls: Mapping[str, Callable[[Any], Any]],
    ):
        self.number, self.count = number, count
        self._broadcast, self._gather, self._calls = broadcast, gather, calls

    def lead(self, run: Callable[[], Any]) -> Any:
        """`run` on process 0, where it may call `everywhere`; its result on every process.

        Raises ProcessFailed on the others if `run` fails on process 0.
        """
        if self.number > 0:
            return self._follow()
        try:
            found = run()
        except BaseException as error:
            self._broadcast(("failed", described(error, LIMIT)))
            raise
        return self._broadcast(("done", found))[1]

    def everywhere(self, name: str, given: Any) -> Any:
        """What the call of this name returns for `given`, run on every process; only for process 0, within `lead`."""
        self._broadcast((name, given))
        return self._calls[name](given)

    def _follow(self) -> Any:
        while True:
            name, given = self._broadcast(None)
            if name == "done":
                return given
            if name == "failed":
                raise ProcessFailed(f"process 0: {given}")
            with suppress(ProcessFailed):  # raised on process 0 too, which says what becomes of it
                self._calls[name](given)

    def together(self, run: Callable[[], list[Any]]) -> list[Any]:
        """`run` on every process; their results as one list. Raises ProcessFailed on all if it fails on one; if there
        is one process only, what it raised."""
        if self.count == 1:
            return run()
        found: list[Any] = []
        failed: Exception | None = None
        try:
            found = run()
        except Exception as error:
            failed = error
        said = None if failed is None else f"process {self.number}: {described(failed, LIMIT)}"
        every = self._gather([(found, said)])
        if why := [error for _, error in every if error]:
            raise ProcessFailed("; ".join(why)) from failed
        return [one for some, _ in every for one in some]

    def shared(self, items: list[Any], at_a_time: int, run: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """The results of all items, in order, on every process, which each do their share.

        at_a_time: items of all processes together.
        run: takes the share of one process, and returns the results of all, such as by `together`. Shares are of one
            size, as collective operations want them: the last one may repeat the first items.
        """
        done: list[Any] = []
        for first in range(0, len(items), at_a_time):
            batch = items[first : first + at_a_time]
            share = -(-len(batch) // self.count)
            mine = range(self.number * share, (self.number + 1) * share)
            done += run([batch[i % len(batch)] for i in mine])[: len(batch)]
        return done


__all__ = ["ProcessFailed", "Processes"]
