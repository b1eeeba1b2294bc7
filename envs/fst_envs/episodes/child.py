"""A helper process that answers JSON requests one at a time and can be killed.

Third-party code may hang, draw from the global RNG, depend on the hash seed or execute its input. Here it runs in a
child process with a fixed hash seed, one thread, bounded memory, an empty working directory and no environment
variables of the parent except the search paths. So neither its state nor the parent's secrets cross over. A child that
is not `private` keeps the parent's working directory and environment variables.

A child module calls `serve(handle)` as its main. The parent asks in three ways: `ask` once, `fetch` what no model's
text can break, `judge` a model's text, which may itself hang or kill the child.

Invariants: one request is under way at a time (threads queue); a child is never shared across a fork; after a timeout
the child is gone, and the next request starts a fresh one; `judge` blames a text only if the child works without it.
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

from ..base import EnvironmentFault

START_TIMEOUT = 120.0  # ours, seconds: imports of the child on a loaded machine
MEMORY_BYTES = 8 << 30  # ours

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "VIRTUAL_ENV")


class ChildTimeout(Exception):
    """The child did not answer in time and was killed."""


class ChildDied(Exception):
    """The child ended without an answer."""


class TextToBlame(Exception):
    """The text that was to be judged hangs or kills the child."""


class Child:
    """A process running `python -m module`; started by the first request, restarted when it is gone.

    module: the module that calls `serve`.
    private: hide the parent's working directory and environment variables from it; default True (ours).
    """

    def __init__(self, module: str, private: bool = True):
        self.module, self.private = module, private
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # pid that started the process: a fork must not write into the same pipe
        self._unread = b""

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Sends one request and returns its answer.

        timeout: seconds, not counting the start of the process.
        Raises ChildTimeout or ChildDied; either way the next call starts afresh.
        """
        with self._lock:
            process = self._running()
            return self._exchange(process, request, timeout)

    def fetch(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """As `ask`, for a request without a model's text: a dead child is asked again, once.

        Raises EnvironmentFault after a second death or a timeout.
        """
        try:
            return self._ask_again(request, timeout)
        except ChildTimeout as e:
            raise EnvironmentFault(f"{self.module} took longer than {timeout:g} s for {request}") from e
        except ChildDied as e:
            raise EnvironmentFault(f"{self.module} died twice over {request}: {e}") from e

    def judge(self, request: dict[str, Any], timeout: float, probe: dict[str, Any]) -> dict[str, Any]:
        """As `ask`, for a request with a model's text: a dead child is asked again, once.

        probe: a harmless request, sent after a second death to find out whether the text or the child is to blame.
        Raises TextToBlame if the text takes longer than `timeout`, or kills a child that then answers `probe`;
        EnvironmentFault if the child does not answer `probe` either.
        """
        try:
            return self._ask_again(request, timeout)
        except ChildTimeout as e:
            raise TextToBlame(f"{self.module} took longer than {timeout:g} s for a text") from e
        except ChildDied as e:
            self.fetch(probe, START_TIMEOUT)
            raise TextToBlame(f"{self.module} died of a text twice") from e

    def _ask_again(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        try:
            return self.ask(request, timeout)
        except ChildDied:
            return self.ask(request, timeout)

    def kill(self) -> None:
        """Ends the process. A request of another thread that is under way then raises ChildDied."""
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


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]], memory_bytes: int = MEMORY_BYTES) -> None:
    """The child's main: answers each line on stdin until it closes. The first, empty request says "I am up".

    handle: makes the answer to a request. What it prints goes nowhere: answers have a file descriptor of their own.
    memory_bytes: limit of the process's address space; default 8 GiB (ours).
    """
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as null:
        requests = os.fdopen(os.dup(0), "rb")
        for fd in (0, 1, 2):
            os.dup2(null.fileno(), fd)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (ImportError, ValueError, OSError):
        pass  # a platform without this limit, or one with a lower limit in force already
    for line in requests:
        request = json.loads(line)
        answer = handle(request) if request else {}
        answers.write(json.dumps(answer, default=str).encode() + b"\n")
        answers.flush()
