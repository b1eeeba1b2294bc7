"""Reflection by a language model, through DSPy: any model string that DSPy knows, or any server with its API.

DSPy brings the models, the providers and the keys; the question and the reading of the answer are those of every
reflection here. Answers are never cached (a cache keyed by model name would answer for weights that have moved), the
trainer's own DSPy settings are left alone, calls run side by side within the limits of `calls.Batch`. API keys come
from the environment, are read anew for every batch, and appear neither in this object nor in what it logs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from ..config import DEFAULTS, ReflectionConfig
from ..prompts import Prompt
from ..rollouts import Problem, Rollout
from ..secrets import redact
from .answers import NoPrompt, prompt_or_trouble
from .base import ReflectionFailed, ReflectionRequest, Trouble, ask
from .calls import HUNG_AFTER, THREAD, Batch, run_apart
from .capped import CappedEngine, capped_engine


class DSPyReflection:
    """Asks an LM for new prompts.

    settings: model, server, limits of a call; see `ReflectionConfig` for each and its default.
    api_key_env: name of the environment variable that holds the key, if it is not the provider's usual one.
    lm: a ready dspy.LM in place of model, server, temperature and length; it is used with its cache and retries off.
        One with an engine of its own needs an async one as well.
    trouble: what went wrong in the last batch.
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
        self.trouble = Trouble()
        self._lm = lm
        self._hung_in: int | None = None  # the cycle in which the server was given up

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        """See `Reflection.propose`. A server that hangs is asked no more in this cycle, and with one request at first
        in the next."""
        self.trouble = Trouble()
        cycle = requests[0].cycle if requests else 0
        if self._hung_in == cycle:
            self.trouble.note(
                "failures", f"{self.model} hung before in this phase: not asked again until the next", len(requests)
            )
            return [None] * len(requests)
        careful, self._hung_in = self._hung_in is not None, None
        try:
            outcomes = run_apart(lambda: self._ask(requests, careful))
        except Exception as error:  # the LM cannot even be built: no key, no such provider
            self.trouble.note("failures", error, len(requests))
            return [None] * len(requests)
        return [self._text(outcome) for outcome in outcomes]

    def describe(self) -> str:
        at = f" at {redact(self.settings.api_base)}" if self.settings.api_base else ""
        return f"{self.model}{at} through DSPy"

    def ping(self) -> None:
        """Asks for one small prompt, for real. Raises ReflectionFailed, naming the keys to look at, if the LM gives no
        answer, or none within its length."""
        records = ((Problem("ping", ({"role": "user", "content": "2 + 2"},)), Rollout(0.0, "5", "Wrong: it is 4.")),)
        self._hung_in = None
        self.propose([ReflectionRequest(Prompt("Answer."), records, 0, 0, 200)])
        why = self.trouble.last.get("failures") or self.trouble.last.get("cut")
        if why is None:
            return
        raise ReflectionFailed(
            f"{self.describe()} does not answer: {why}. Look at fst.reflection.model,"
            " fst.reflection.api_base, fst.reflection.max_tokens and the key in this process's environment, or let"
            " another reflect: fst.reflection.kind=policy or =offline"
        )

    # Asking

    async def _ask(self, requests: Sequence[ReflectionRequest], careful: bool) -> list[str | Exception]:
        import dspy

        logging.getLogger("dspy.clients.lm").addFilter(_not_ours)
        parts = [requests[:1], requests[1:]] if careful else [requests]
        with dspy.context(disable_history=True, trace=None):
            lm, engine = self._build_lm(dspy)
            outcomes: list[str | Exception] = []
            try:
                for part in parts:
                    if not part or self._hung_in is not None:
                        break
                    batch = Batch(
                        self.settings,
                        retryable=dspy.utils.exceptions.is_retryable_lm_error,
                        hung_after=1 if careful and not outcomes else HUNG_AFTER,
                    )
                    outcomes += await batch.run([self._call(dspy, lm, request) for request in part])
                    self.trouble.count["timeouts"] += batch.timeouts
                    self._hung_in = part[0].cycle if batch.hung else None
            finally:
                await (engine or lm).aclose()
        return [*outcomes, *[outcomes[-1]] * (len(requests) - len(outcomes))]

    def _build_lm(self, dspy: Any) -> tuple[Any, CappedEngine | None]:
        """The LM, and its engine if that one is ours to close."""
        if self._lm is not None:
            return self._lm.copy(cache=False, num_retries=0), None
        limits: dict[str, Any] = {"temperature": self.settings.temperature, "max_tokens": self.settings.max_tokens}
        limits |= {"num_retries": 0, "cache": False}
        server: dict[str, Any] = {"timeout": self.settings.timeout_s}
        if self.settings.api_base:
            server["api_base"] = self.settings.api_base
        if self.api_key_env:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise ValueError(f"the environment variable {self.api_key_env} (api_key_env) is not set")
            server["api_key"] = key
        elif self.settings.api_base and "OPENAI_API_KEY" not in os.environ:
            server["api_key"] = "none"  # a server of one's own asks for no key, its client library does
        lm = dspy.LM(self.model, **limits, **server)
        engine = capped_engine(lm)
        if engine is None:
            return lm, None
        never_called = dspy.lm15.LMRouter()  # dspy.LM wants a sync engine as well
        return dspy.LM(self.model, engine=never_called, async_engine=engine, **limits), engine

    def _call(self, dspy: Any, lm: Any, request: ReflectionRequest) -> Callable[[], Any]:
        lm15, limits = dspy.lm15, lm.kwargs
        question = lm15.Request(
            model=lm.model,
            messages=(lm15.Message.user(ask(request)[0]["content"]),),
            config=lm15.Config(
                temperature=limits.get("temperature"),
                max_tokens=limits.get("max_tokens") or limits.get("max_completion_tokens"),
            ),
        )

        async def call() -> str:
            try:
                response = await lm.acall(question)
            except dspy.utils.exceptions.LMError as error:
                if isinstance(error.__cause__, NoPrompt):
                    raise error.__cause__ from None
                raise
            text = "".join(part.text for part in response.message.parts if isinstance(part, lm15.TextPart))
            if response.finish_reason == "length":
                raise NoPrompt("the answer was cut off at its length: raise fst.reflection.max_tokens", "cut")
            return text

        return call

    # Reading

    def _text(self, outcome: str | Exception) -> str | None:
        """The prompt in an answer; "" if it holds none; None if there is no answer."""
        if isinstance(outcome, str):
            return prompt_or_trouble(outcome, self.trouble)
        if isinstance(outcome, NoPrompt):
            self.trouble.note(outcome.kind, str(outcome))
            return ""
        self.trouble.note("failures", outcome)
        return None


def _not_ours(record: logging.LogRecord) -> bool:
    """DSPy warns of every answer that is cut; a phase says it once."""
    return record.threadName != THREAD


__all__ = ["DSPyReflection"]
