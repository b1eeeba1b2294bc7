"""`Host`: where the calls of one environment run, a thread of this process or a child process.

Calls of an environment block, and may hang. A host makes them in a thread of its own and hands out futures, so the
caller's event loop stays free and the caller can stop waiting. With `isolate` the environment lives in a child process,
which can be killed; a thread can't be, so a call that hangs in one is left behind.

Invariants: all calls of one environment come from one thread, since libraries may be bound to the thread they started
in; a child process plays for one host at a time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import sys
import threading
from dataclasses import dataclass
from typing import Any

from ..base import EnvironmentFault
from .child import Child
from .player import RAISED, Player

TIMEOUTS = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)  # three types before Python 3.11
IDLE_CHILDREN = 8  # ours: processes kept for the next isolated episodes


@dataclass(frozen=True)
class Call:
    """A call under way.

    timeout: seconds to wait for it; None if the child process keeps the time.
    """

    op: str
    future: concurrent.futures.Future[Any]
    timeout: float | None

    def late(self, e: BaseException) -> BaseException:
        """What to raise after the timeout `e`: that itself if the environment raised it, else EnvironmentFault."""
        if self.future.done():
            return e
        return EnvironmentFault(f"{self.op} took longer than {self.timeout:g} s; its thread was left behind")


class Host:
    """One environment and the thread that makes all calls of it.

    isolate: play in a child process.
    """

    def __init__(self, isolate: bool):
        self.isolate = isolate
        self.player: Player | _RemotePlayer = _RemotePlayer() if isolate else Player()
        self._calls: queue.SimpleQueue[tuple[Call, tuple[Any, ...]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="fst-episode", daemon=True).start()

    def call(self, op: str, args: tuple[Any, ...], timeout: float) -> Call:
        """Starts "reset", "step" or "close" of a `Player` after the calls before it; waits for nothing."""
        if isinstance(self.player, _RemotePlayer):
            self.player.timeout = timeout
        call = Call(op, concurrent.futures.Future(), None if self.isolate else timeout)
        self._calls.put((call, args))
        return call

    def end(self) -> None:
        """Ends the thread after the calls before."""
        self._calls.put(None)

    def abandon(self) -> None:
        """Closes the environment once the call under way ends, if it ever does; waits for nothing."""
        if isinstance(self.player, _RemotePlayer):
            self.player.kill()
        else:
            self.call("close", (), 0.0)
        self.end()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, args = item
            call.future.set_running_or_notify_cancel()
            try:
                call.future.set_result(getattr(self.player, call.op)(*args))
            except BaseException as e:
                call.future.set_exception(e)
            del item, call, args


class _RemotePlayer:
    """A `Player` in a child process; processes are used again by later episodes."""

    def __init__(self) -> None:
        self.timeout = 0.0  # set before each call
        self._child: Child | None = None
        self._inherited: tuple[str, ...] = ()

    def reset(self, *args: Any) -> Any:
        self._inherited = _inherited()
        with _idle_lock:
            fit = next((entry for entry in _idle if entry[0] == self._inherited), None)
            if fit is not None:
                _idle.remove(fit)
        self._child = fit[1] if fit is not None else Child("fst_envs.episodes.player", private=False)
        return self._ask("reset", args)

    def step(self, text: str) -> Any:
        return self._ask("step", (text,))

    def close(self) -> None:
        child = self._child
        if child is not None:
            self._ask("close", ())
            self._child = None
            with _idle_lock:
                _idle.append((self._inherited, child))
                over = _idle.pop(0)[1] if len(_idle) > IDLE_CHILDREN else None
            if over is not None:
                over.kill()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _ask(self, op: str, args: tuple[Any, ...]) -> Any:
        assert self._child is not None
        answer = self._child.ask({"op": op, "args": args}, self.timeout)
        if "message" in answer:
            raise RAISED.get(answer["raised"], EnvironmentFault)(answer["message"])
        return answer["result"]


def _inherited() -> tuple[str, ...]:
    """What a child takes over from this process when it starts, as far as imports depend on it."""
    return (os.getcwd(), *sys.path)


_idle: list[tuple[tuple[str, ...], Child]] = []
_idle_lock = threading.Lock()
