"""Calls to a server that may be slow, rate-limited, broken or gone: side by side, within limits, and never after them.

A batch has one deadline. What runs then is cancelled, what waits is not begun, and a retry whose wait the provider puts
past the limits is not waited for: the call fails with the provider's own words.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ..config import ReflectionConfig

T = TypeVar("T")

HUNG_AFTER = 3
"""Time-outs in a row after which a server counts as hung (ours)."""


THREAD = "fst-reflection"
"""Name of the thread that calls run on."""


class NotAsked(RuntimeError):
    """A call that was given up before it got an answer, for what happened to others."""


class Batch:
    """Runs calls.

    settings: `timeout_s` is the longest wait for one answer, and the longest that a provider may ask for before a
        retry; `retries` and `concurrency` as their names say.
    retryable: is this error of a call worth another attempt?
    hung_after: time-outs in a row that end the batch.
    timeouts: how many attempts timed out.
    hung: has the server been given up?
    """

    def __init__(
        self,
        settings: ReflectionConfig,
        *,
        retryable: Callable[[Exception], bool],
        hung_after: int = HUNG_AFTER,
    ):
        self.timeout_s, self.retries, self.concurrency = settings.timeout_s, settings.retries, settings.concurrency
        self.retryable, self.hung_after = retryable, hung_after
        self.timeouts, self.hung = 0, False
        self._in_a_row = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._errors: dict[int, Exception] = {}

    async def run(self, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T | Exception]:
        """The answer of each call, or the error that it ended with, in order."""
        patience = -(-len(calls) // self.concurrency) * (self.retries + 1) * self.timeout_s
        self._end = asyncio.get_running_loop().time() + patience
        self._free = asyncio.Semaphore(self.concurrency)
        self._tasks = [asyncio.ensure_future(self._one(index, call)) for index, call in enumerate(calls)]
        try:
            await asyncio.wait(self._tasks, timeout=patience)
        finally:
            self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return [self._outcome(index, task, patience) for index, task in enumerate(self._tasks)]

    async def _one(self, index: int, call: Callable[[], Awaitable[T]]) -> T:
        async with self._free:
            for attempt in range(self.retries + 1):
                try:
                    answer = await asyncio.wait_for(call(), self.timeout_s)
                except Exception as error:
                    self._errors[index] = error = self._named(error)
                    wait = getattr(error, "retry_after", None)
                    wait = min(2.0**attempt, 60.0) if wait is None else wait
                    left = self._end - asyncio.get_running_loop().time()
                    if attempt == self.retries or not self._worth(error) or wait >= min(left, self.timeout_s):
                        raise error from None
                    await asyncio.sleep(wait)
                else:
                    self._in_a_row = 0
                    return answer
        raise AssertionError("unreachable")

    def _worth(self, error: Exception) -> bool:
        return not self.hung and (isinstance(error, TimeoutError) or self.retryable(error))

    def _named(self, error: Exception) -> Exception:
        """The error, with words if it is our own time-out. Counts time-outs, and gives up a server that hangs."""
        ours = isinstance(error, (asyncio.TimeoutError, TimeoutError))
        if not ours and "Timeout" not in type(error).__name__:
            self._in_a_row = 0
            return error
        self.timeouts += 1
        self._in_a_row += 1
        if self._in_a_row >= self.hung_after:
            self.hung = True
            self._cancel()
        return TimeoutError(f"no answer within {self.timeout_s:g} s (fst.reflection.timeout_s)") if ours else error

    def _cancel(self) -> None:
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _outcome(self, index: int, task: asyncio.Task[T], patience: float) -> T | Exception:
        if not task.cancelled():
            error = task.exception()
            return task.result() if error is None else self._errors[index]
        if index in self._errors:
            return self._errors[index]
        if self.hung:
            return NotAsked(
                f"given up after {self.hung_after} time-out(s) in a row: no answer within {self.timeout_s:g} s"
                " (fst.reflection.timeout_s)"
            )
        return TimeoutError(f"no answer within {patience:g} s, the time of the whole batch")


def run_apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine to its end on an event loop and a thread of its own, so that it disturbs no loop of the caller.
    The thread is a daemon: it cannot keep the process from ending."""
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(make()))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, name=THREAD, daemon=True).start()
    return outcome.result()


__all__ = ["HUNG_AFTER", "THREAD", "Batch", "NotAsked", "run_apart"]
