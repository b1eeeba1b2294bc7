"""Reflection ahead of time: the answers to the next phase's first requests, asked for while the trainer still works."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from .base import Reflection, ReflectionRequest


class Drafted:
    """A reflection with, perhaps, a batch of answers under way.

    `start` returns at once; the batch runs on one daemon thread, within the inner reflection's own bounds on calls,
    time and retries. `propose` with the very same requests takes its answers, waiting for them where need be; other
    requests go to the inner reflection. used: how often a draft was of use.
    """

    def __init__(self, inner: Reflection):
        self._inner = inner
        self._requests: tuple[ReflectionRequest, ...] | None = None
        self._answers: list[str | None] | Exception | None = None
        self._thread: threading.Thread | None = None
        self.used = 0

    def start(self, requests: Sequence[ReflectionRequest]) -> None:
        if self._thread is not None:
            return
        self._requests = tuple(requests)

        def work() -> None:
            try:
                self._answers = list(self._inner.propose(requests))
            except Exception as error:
                self._answers = error

        self._thread = threading.Thread(target=work, name="reflection-draft", daemon=True)
        self._thread.start()

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        if self._thread is None or tuple(requests) != self._requests:
            return self._inner.propose(requests)
        self._thread.join()
        answers, self._thread = self._answers, None
        if isinstance(answers, Exception):
            raise answers
        assert answers is not None
        self.used += 1
        return answers

    def describe(self) -> str:
        return self._inner.describe()


__all__ = ["Drafted"]
