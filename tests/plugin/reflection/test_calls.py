"""The limits of a batch of calls hold."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fst_plugin.config import ReflectionConfig
from fst_plugin.reflection.calls import Batch, run_apart


class NoWaiting(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to what is due next, so that limits of time are exact on a busy machine too."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def in_no_time(make):
    loop = NoWaiting()
    try:
        return loop.run_until_complete(make())
    finally:
        loop.close()


class Busy(Exception):
    """retry_after: seconds that the provider asks for."""

    retry_after = 0.09


def test_nothing_begins_after_the_deadline():
    begun = []

    def call(number):
        async def busy():
            begun.append(number)
            await asyncio.sleep(0.07)
            raise Busy(f"busy {number}")

        return busy

    async def run():
        settings = ReflectionConfig(timeout_s=0.1, retries=2, concurrency=1)
        batch = Batch(settings, retryable=lambda error: isinstance(error, Busy), hung_after=1000)
        outcomes = await batch.run([call(number) for number in range(12)])
        at_the_end = list(begun)
        await asyncio.sleep(0.5)
        return outcomes, at_the_end

    outcomes, at_the_end = in_no_time(run)
    assert begun == at_the_end and begun[:3] == [0, 0, 0] and 11 not in begun
    assert isinstance(outcomes[0], Busy) and str(outcomes[0]) == "busy 0"
    assert isinstance(outcomes[11], TimeoutError) and "3.6 s, the time of the whole batch" in str(outcomes[11])


def test_answers_come_in_the_order_of_the_calls():
    async def answer(number):
        await asyncio.sleep(0.05 * (3 - number))
        return number

    async def run():
        batch = Batch(ReflectionConfig(), retryable=lambda error: False)
        return await batch.run([lambda number=number: answer(number) for number in range(3)])

    assert run_apart(run) == [0, 1, 2]


def test_an_answer_between_two_time_outs_shows_that_the_server_lives():
    async def late():
        await asyncio.sleep(60)

    async def good():
        return "here"

    async def run():
        batch = Batch(ReflectionConfig(timeout_s=0.05, retries=0, concurrency=1), retryable=lambda error: False)
        outcomes = await batch.run([late, late, good, late, late, good])
        return batch, outcomes

    batch, outcomes = in_no_time(run)
    assert outcomes[2] == outcomes[5] == "here" and batch.timeouts == 4 and not batch.hung


def test_run_apart_hands_back_values_and_errors_and_leaves_the_callers_loop_alone():
    async def good():
        return threading.current_thread().name

    async def bad():
        raise KeyError("x")

    async def caller():
        return run_apart(good)

    assert run_apart(good) == asyncio.run(caller()) == "fst-reflection"
    with pytest.raises(KeyError):
        run_apart(bad)
