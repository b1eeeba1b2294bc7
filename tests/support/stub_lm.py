"""A server with OpenAI's chat API on localhost that answers as a test says, well or badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """text: of the assistant, or of the error if `status` says so. wait: seconds before it is sent. body: sent as it
    is, in place of one with the text."""

    text: str = ""
    finish: str = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    body: bytes | None = None


@dataclass
class Stub:
    """url: for `fst.reflection.api_base`. asked: the user message of every request. begun: when each came in."""

    url: str
    asked: list[str] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)


@contextmanager
def stub_lm(answer: Callable[[int, str], Reply]) -> Iterator[Stub]:
    """answer: of (number of the request, its user message)."""
    lock, closing = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = body["messages"][-1]["content"]
            text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
            with lock:
                number = len(stub.asked)
                stub.asked.append(text)
                stub.begun.append(time.monotonic())
            reply = answer(number, text)
            closing.wait(reply.wait)
            try:
                self._send(reply)
            except OSError:  # the client has gone
                self.close_connection = True

        def _send(self, reply: Reply) -> None:
            message = {"role": "assistant", "content": reply.text}
            choice = {"index": 0, "message": message, "finish_reason": reply.finish}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            good = {"id": "x", "object": "chat.completion", "model": "stub", "choices": [choice], "usage": usage}
            data = json.dumps(good if reply.status == 200 else {"error": {"message": reply.text}}).encode()
            data = data if reply.body is None else reply.body
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub = Stub(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
