"""A server's answer is read up to a limit, and given up before it is parsed: a hostile server can send gigabytes.

This holds where DSPy asks the server itself, through its own client: each such client has a transport of its own, so
nothing of the process is changed. Where DSPy goes through LiteLLM (providers that its client does not know, a gateway
named by OPENAI_API_BASE and the like, a user's ready LM) there is no such door: LiteLLM's clients are the process's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from .answers import LARGEST_ANSWER, NoPrompt

LARGEST_BODY = 4 * LARGEST_ANSWER
"""Bytes of an answer, of every field in it, that are read (ours): its largest text in UTF-8."""


class CappedEngine:
    """An async engine for dspy.LM that reads no more of an answer than LARGEST_BODY.

    config: keys, addresses and time-outs, a dspy.lm15.RouterConfig.
    target: what DSPy resolved the model string to.
    """

    def __init__(self, config: Any, target: Any):
        from dspy.lm15 import AsyncLMRouter

        self._router, self._target = AsyncLMRouter(config), target

    async def complete(self, request: Any) -> Any:
        """One attempt. Raises NoPrompt of the kind "large", besides what DSPy's client raises."""
        client = await asyncio.to_thread(self._router.lm, f"{self._target.provider}:{self._target.model}")
        if not isinstance(client.transport, _Capped):
            client.transport = _Capped(client.transport)
        return await client.complete(replace(request, model=self._target.model))

    async def aclose(self) -> None:
        await self._router.aclose()


def capped_engine(lm: Any) -> CappedEngine | None:
    """An engine that reads answers up to the limit, in place of the one that `lm`, a dspy.LM, would use; None if that
    one is LiteLLM. It is to be closed after use."""
    from dspy.clients.backend_selection import select_backend
    from dspy.lm15 import RouterConfig, Timeouts, registered_providers

    found = select_backend(lm)
    if not found.native:
        return None
    own, target = found.clients, found.resolution
    seconds = own["timeout"]
    config = RouterConfig(
        api_keys={target.provider: own["api_key"]} if "api_key" in own else None,
        base_urls={target.provider: own["api_base"]} if "api_base" in own else None,
        timeouts=Timeouts(read=seconds, write=seconds, pool=seconds),
        providers=tuple(provider.definition for provider in registered_providers()),
    )
    return CappedEngine(config, target)


class _Capped:
    """A transport whose answers end at LARGEST_BODY."""

    def __init__(self, inner: Any):
        self._inner = inner

    @asynccontextmanager
    async def stream(self, request: Any) -> AsyncIterator[_Answer]:
        async with self._inner.stream(request) as response:
            yield _Answer(response)


class _Answer:
    """A response of DSPy's client, read up to LARGEST_BODY."""

    def __init__(self, response: Any):
        self._response = response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._response:
            size += len(chunk)
            if size > LARGEST_BODY:
                raise NoPrompt(f"an answer of more than {LARGEST_BODY} bytes is not read", "large")
            yield chunk

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self])


__all__ = ["LARGEST_BODY", "CappedEngine", "capped_engine"]
