"""One fast phase that is driven from outside: `ask` which rollouts it wants, `tell` it how they went.

An optimizer is written as one function that calls `evaluate` whenever it wants rollouts (`PromptOptimizer.evolve`).
Here it runs in a thread of its own, which waits at each such call until it is answered, so that whoever drives it
decides when: at once, before the slow steps (`finish`), or one batch beside each slow step. Meanwhile the thread may go
on with what needs no engine, such as asking a reflection LM.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .optimizer import Evolution
from .rollouts import Cell, Evaluate, Rollout

_here = threading.local()


class Stopped(RuntimeError):
    """Raised within a phase that nobody wants to go on."""


class Evolving:
    """A phase, under way from the first `ask` on.

    evolve: the phase, given an `evaluate`.
    ended: has it come to its end?
    """

    def __init__(self, evolve: Callable[[Evaluate], Evolution]):
        self._asked: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._evolve = evolve
        self._waiting, self.ended = False, False
        self._outcome: Evolution | BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fst-evolve", daemon=True)

    # ------------------------------------------------------------------------------------------------- who drives it

    def ask(self, **services: Callable[[Any], Any]) -> list[Cell] | None:
        """Waits for the phase's next batch of cells, which may be empty; None: it has ended. Until `tell`, the phase
        stands still.

        services: what else the phase may want meanwhile, by name, and who answers it (see `wanted`).
        """
        if self._waiting and not self.ended:
            raise RuntimeError("tell comes before the next ask")
        if self._thread.ident is None:
            self._thread.start()
        while not self.ended:
            kind, what = self._asked.get()
            if kind == "evaluate":
                self._waiting = True
                return list(what)
            if kind == "ended":
                self.ended = True
            else:
                self._serve(services[kind], what)
        return None

    def tell(self, rollouts: Sequence[Rollout]) -> None:
        """How the cells of the last `ask` went: one Rollout each, in order."""
        self._waiting = False
        self._told.put(list(rollouts))

    def finish(self, evaluate: Evaluate, **services: Callable[[Any], Any]) -> Evolution:
        """Drives the phase to its end. Raises what it raises."""
        while (cells := self.ask(**services)) is not None:
            self.tell(evaluate(cells) if cells else [])
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    @property
    def failure(self) -> BaseException | None:
        """What a phase that has ended was ended by, if it failed."""
        return self._outcome if self.ended and isinstance(self._outcome, BaseException) else None

    @property
    def alive(self) -> bool:
        """Is the phase's thread running?"""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Lets go of the phase, and waits until it has noticed: at its next call."""
        if self.alive:
            self._told.put(Stopped("this phase is not wanted any more"))
            self._thread.join()
        self.ended = True

    def _serve(self, service: Callable[[Any], Any], what: Any) -> None:
        try:
            answer = service(what)
        except Exception as error:  # the phase's to deal with, as if it had asked the engine itself
            answer = error
        self._told.put(answer)

    # --------------------------------------------------------------------------------------------- within its thread

    def _run(self) -> None:
        _here.phase = self
        try:
            self._outcome = self._evolve(lambda cells: self.call("evaluate", cells))
        except BaseException as error:
            self._outcome = error
        self._asked.put(("ended", None))

    def call(self, kind: str, what: Any) -> Any:
        """For the phase's own thread: hands a wish to whoever drives it, and waits for the answer."""
        self._asked.put((kind, what))
        answer = self._told.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def wanted(kind: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`call`, but from the thread of an `Evolving` it becomes a wish of that name, answered at the next `ask`: for what
    only the driving thread may do, such as using an engine."""

    def asked(what: Any) -> Any:
        phase: Evolving | None = getattr(_here, "phase", None)
        return call(what) if phase is None else phase.call(kind, what)

    return asked


__all__ = ["Evolving", "Stopped", "wanted"]
