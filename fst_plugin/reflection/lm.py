"""Reflection by a language model, through DSPy: any model string that DSPy knows, or any server with its API.

DSPy's own instruction proposer writes the text; we bring the records, the limits and the call policy: answers are never
cached (a cache keyed by model name would answer for weights that have moved), settings are scoped to the call (the
trainer may use DSPy itself), calls run side by side up to `concurrency`, a call that hangs is given up. API keys come
from the environment, are read anew for every batch, and appear neither in this object nor in what it logs.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..config import DEFAULTS, ReflectionConfig
from ..secrets import described, redact
from .base import ReflectionRequest, render_record

_log = logging.getLogger(__name__)
_COMPONENT = "system_prompt"


class DSPyReflection:
    """Asks an LM for new prompts.

    settings: model, server, bounds of a call; see `ReflectionConfig` for each and its default.
    api_key_env: name of the environment variable that holds the key, if it is not the provider's usual one.
    lm: a ready dspy.LM in place of model, server, temperature and length; it is used with its cache off.
    """

    def __init__(
        self,
        settings: ReflectionConfig = DEFAULTS.reflection,
        *,
        api_key_env: str | None = None,
        lm: Any = None,
    ):
        if not settings.model and lm is None:
            raise ValueError("a DSPy reflection needs a model string such as openai/<model>")
        self.settings = settings
        self.model = settings.model or str(getattr(lm, "model", "a DSPy LM"))
        self.api_key_env = api_key_env
        self.last_error: str | None = None
        self._lm = lm

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        import dspy

        lm = self._build_lm(dspy)
        calls = [self._call(dspy, lm, request) for request in requests]
        rounds = -(-len(calls) // self.settings.concurrency)
        attempts = self.settings.retries + 1
        patience = (
            2 * rounds * attempts * self.settings.timeout_s
        )  # 2: a draft that is too long is shortened by a second call
        texts: list[str | None] = []
        for outcome in run_bounded(calls, self.settings.concurrency, patience):
            if isinstance(outcome, str):
                texts.append(outcome)
                continue
            self.last_error = described(outcome)
            _log.warning("reflection by %s failed: %s", self.model, self.last_error)
            texts.append(None)
        return texts

    def describe(self) -> str:
        at = f" at {redact(self.settings.api_base)}" if self.settings.api_base else ""
        return f"{self.model}{at} through DSPy"

    def _build_lm(self, dspy: Any) -> Any:
        if self._lm is not None:
            return self._lm.copy(cache=False)
        settings: dict[str, Any] = {
            "timeout": self.settings.timeout_s,
            "num_retries": self.settings.retries,
            "cache": False,
        }
        if self.settings.api_base:
            settings["api_base"] = self.settings.api_base
        if self.api_key_env:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise ValueError(f"the environment variable {self.api_key_env} (api_key_env) is not set")
            settings["api_key"] = key
        elif self.settings.api_base and "OPENAI_API_KEY" not in os.environ:
            settings["api_key"] = "none"  # a server of one's own asks for no key, its client library does
        return dspy.LM(
            self.model, temperature=self.settings.temperature, max_tokens=self.settings.max_tokens, **settings
        )

    def _call(self, dspy: Any, lm: Any, request: ReflectionRequest) -> Callable[[], str]:
        from dspy.teleprompt.gepa import InstructionProposer

        state = random.getstate()  # building a proposer draws from the global generator, which is the trainer's
        try:
            proposer = InstructionProposer(max_chars=request.max_chars)
        finally:
            random.setstate(state)
        records = [render_record(*record) for record in request.records]

        def call() -> str:
            with dspy.context(lm=lm, disable_history=True, trace=None):
                found = proposer({_COMPONENT: request.parent.text}, {_COMPONENT: records}, [_COMPONENT])
            return found[_COMPONENT]

        return call


def run_bounded(calls: Sequence[Callable[[], str]], workers: int, patience_s: float) -> list[str | Exception]:
    """Runs `calls` on at most `workers` threads; per call its text or the exception it ended with, in order.

    What is unfinished after `patience_s` seconds is a TimeoutError. Its thread is a daemon, so that it cannot keep the
    process from ending, and its late answer goes nowhere.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, str | Exception]] = queue.SimpleQueue()
    for index in range(len(calls)):
        todo.put(index)

    def work() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, calls[index]()))
            except Exception as error:
                done.put((index, error))

    for number in range(min(workers, len(calls))):
        threading.Thread(target=work, name=f"reflection-{number}", daemon=True).start()
    late = TimeoutError(f"no answer within {patience_s:g} s")
    outcomes: list[str | Exception] = [late] * len(calls)
    end = time.monotonic() + patience_s
    for _ in calls:
        try:
            index, outcome = done.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        outcomes[index] = outcome
    return outcomes


__all__ = ["DSPyReflection", "run_bounded"]
