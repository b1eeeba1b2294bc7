"""A helper process that answers JSON requests one at a time and can be killed.

For third-party code that may hang, draw from the global RNG, depend on the hash seed or execute what it is given: it
runs in a child with a fixed hash seed, one thread, bounded memory, an empty working directory and none of the parent's
environment variables but the search paths, so neither its state nor the parent's secrets cross over. A child that is
not `private` keeps the parent's working directory and environment variables.

A child module calls `serve(handle)` as its main. Invariants: one request is under way at a time (threads queue); a
child is never shared over a fork; after a timeout the child is gone and the next request starts a fresh one.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

START_TIMEOUT = 120.0  # ours, seconds: imports of the child on a loaded machine
MEMORY_BYTES = 8 << 30  # ours: address space of a child

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


class ChildTimeout(Exception):
    """The child did not answer in time and was killed."""


class ChildDied(Exception):
    """The child ended without an answer."""


class Child:
    """A process running `python -m module`; started on the first `ask`, restarted when it is gone.

    private: keep the parent's working directory and environment variables from it; default True (ours).
    """

    def __init__(self, module: str, private: bool = True):
        self.module, self.private = module, private
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # pid that started the process: a fork must not write into the same pipe
        self._unread = b""

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Sends one request and returns its answer; `timeout` in seconds, not counting the start of the process.

        Raises ChildTimeout or ChildDied; either way the next call starts afresh.
        """
        with self._lock:
            process = self._running()
            return self._exchange(process, request, timeout)

    def kill(self) -> None:
        """Ends the process, also amid a request of another thread, which then raises ChildDied."""
        process = self._process
        if process is not None and self._owner == os.getpid():
            process.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        workdir = tempfile.TemporaryDirectory(prefix="fst-envs-")
        paths = [os.path.abspath(p) for p in sys.path]  # "" is the parent's working directory
        env = {k: v for k, v in os.environ.items() if k in _PASSED_ON or not self.private}
        env |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8"}
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TMPDIR": workdir.name}
        if self.private:
            env["HOME"] = workdir.name
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=workdir.name if self.private else None,
            env=env,
        )
        self._process, self._owner, self._unread = process, os.getpid(), b""
        weakref.finalize(self, _end, process, os.getpid())
        weakref.finalize(process, workdir.cleanup)
        try:
            self._exchange(process, {}, START_TIMEOUT)
        except (ChildTimeout, ChildDied) as e:
            raise ChildDied(f"`python -m {self.module}` did not start within {START_TIMEOUT:g} s") from e
        return process

    def _exchange(self, process: subprocess.Popen[bytes], request: dict[str, Any], timeout: float) -> dict[str, Any]:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process.stdout.fileno(), time.monotonic() + timeout)
        except BaseException as e:
            _end(process, self._owner)
            self._process = None
            if isinstance(e, BrokenPipeError):
                raise ChildDied(f"{self.module} has ended") from e
            raise
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _line(self, fd: int, deadline: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ChildTimeout(f"{self.module} gave no answer in time")
                chunk = os.read(fd, 1 << 16)
                if not chunk:
                    raise ChildDied(f"{self.module} ended without an answer")
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner != os.getpid():
        return  # a fork of the owner: not ours to end
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe:
                pipe.close()
        except OSError:
            pass  # unsent bytes of a broken pipe


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's main: answers each line on stdin until it closes. The first, empty request says "I am up".

    What `handle` prints goes nowhere: the answers have a file descriptor of their own.
    """
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as null:
        requests = os.fdopen(os.dup(0), "rb")
        for fd in (0, 1, 2):
            os.dup2(null.fileno(), fd)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass  # a platform without this limit, or one with a lower limit in force already
    for line in requests:
        request = json.loads(line)
        answer = handle(request) if request else {}
        answers.write(json.dumps(answer, default=str).encode() + b"\n")
        answers.flush()
