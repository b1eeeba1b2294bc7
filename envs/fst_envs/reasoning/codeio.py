"""Builds items of reasoning-gym's `codeio`, which executes the library's bundled snippets to make them.

Snippets change their process (decimal contexts, numpy's error state), loop without end, draw from unseeded generators
and read the clock. So each runs in a fork of its own, with a budget of executed lines. (A limit in seconds would accept
an item in one run and refuse it in the next.)

Invariants: an item is the same whenever it is built, since two runs must agree; a snippet leaves no trace.
"""

from __future__ import annotations

import json
import os
import random
import re
import selectors
import signal
import sys
import time
from types import FrameType
from typing import Any

import numpy as np

LINES = 300_000  # ours: its own lines that a snippet may execute, about a tenth of a second
SECONDS = 20.0  # ours: wall clock, only for calls that do not return to the interpreter

_UNREPEATABLE = re.compile(
    r"\b(?:now|today|utcnow|time|localtime|gmtime|ctime|seed|default_rng|RandomState)\(\)"
    r"|\b(?:secrets|uuid|urandom|tempfile|SystemRandom|getpid|environ)\b"
)


class Unbuildable(Exception):
    """No item can be built from this seed."""


class _OutOfBudget(BaseException):
    """Not an Exception, so that snippets do not catch it."""


def build(dataset: Any, seed: int, index: int) -> dict[str, Any]:
    """The item {"question", "answer"} of a `codeio` dataset. Raises Unbuildable."""
    first, second = _run_apart(dataset, seed, index), _run_apart(dataset, seed, index)
    if first != second:
        raise Unbuildable("its snippet gives a different result each time")
    if _UNREPEATABLE.search(first["question"]):
        raise Unbuildable("its snippet draws from unseeded generators or reads the clock")
    return first


def _run_apart(dataset: Any, seed: int, index: int) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(_run(dataset, seed, index))
        finally:
            os._exit(0)
    os.close(writing)
    try:
        written = _read(reading, time.monotonic() + SECONDS)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not written:
        raise Unbuildable("its snippet failed or ran too long")
    item: dict[str, Any] = json.loads(written)
    return item


def _read(fd: int, deadline: float) -> bytes:
    """All that is written to `fd`; nothing if its writer does not end before the deadline."""
    written = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                return written
            written += chunk
    return b""


def _run(dataset: Any, seed: int, index: int) -> bytes:
    lines = 0

    def count(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != "<string>":  # a library's code: neither slowed nor counted
            return None
        if event == "line":
            lines += 1
            if lines > LINES:
                raise _OutOfBudget
        return count

    random.seed(seed + index)
    np.random.seed((seed + index) % 2**32)
    sys.settrace(count)
    try:
        item = dataset[index]
    except (Exception, _OutOfBudget, SystemExit):
        return b""
    finally:
        sys.settrace(None)
    if item["metadata"]["input_data"] == {} and item["metadata"]["output_data"] == {}:
        return b""  # the library's item for a snippet that raises
    return json.dumps({"question": item["question"], "answer": item["answer"]}).encode("utf-8", "surrogatepass")
