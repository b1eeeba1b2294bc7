"""A fast phase that survives being killed: every answer it paid for is on disk before it is used.

Two things in a fast phase cost: rollouts and reflections. A journal stands around both, `evaluate` and `reflection`,
and appends each call's answer, with a digest of the call, to a file. After a restart the optimizer runs from the
beginning with the same inputs; the journal answers the same calls from the file, in order, so the phase runs up to
where it died without paying anything twice, and goes on from there. That needs an optimizer that is deterministic given
the answers.

Invariants: a call is answered from the record or recorded, never both. A record answers only the call that it was made
for: another digest at its place is an error, not a guess. A journal belongs to one identity (weights, population,
anchors, settings); another one's is never read. `evolution.json` is written last and atomically: a folder that has it
holds a finished phase.

    folder/identity.json    what the phase rests on
    folder/calls.jsonl      one line per call: {"kind", "digest", "answer"}
    folder/evolution.json   the outcome
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..optimizer import Evolution
from ..prompts import Population, text_digest
from ..reflection.base import Reflection, ReflectionRequest
from ..rollouts import Cell, Evaluate, Rollout
from ..secrets import described
from .atomic import sync_folder, write_json

_log = logging.getLogger(__name__)

IDENTITY_FILE = "identity.json"
CALLS_FILE = "calls.jsonl"
EVOLUTION_FILE = "evolution.json"


class JournalMismatch(RuntimeError):
    """The record on disk belongs to another phase than the one that asks for it."""


class Journal:
    """The record of one fast phase.

    folder: made if it is missing.
    identity: names everything the phase's outcome rests on.
    rollouts, reflections: how many were asked for.
    replayed, recorded: how many calls were answered from the record, and how many were added to it.

    Raises JournalMismatch, naming what differs, if the folder holds the record of another identity, and ValueError if
    its record is damaged other than by a torn last line (that one is dropped: its call was never answered).
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, str]):
        self.folder = Path(folder)
        self.rollouts = 0
        self.reflections = 0
        self.replayed = 0
        self.recorded = 0
        self._bind(dict(identity))
        self._calls = self.folder / CALLS_FILE
        self._old = self._read()

    def evaluate(self, evaluate: Evaluate) -> Evaluate:
        """`evaluate`, recorded."""

        def recorded(cells: Sequence[Cell]) -> list[Rollout]:
            self.rollouts += len(cells)
            digest = _digest([[c.prompt.digest, c.problem.id] for c in cells])
            answer = self._answer("evaluate", digest, lambda: [_rollout_to_json(r) for r in evaluate(cells)])
            return [Rollout(**r) for r in answer]

        return recorded

    def reflection(self, reflection: Reflection) -> Reflection:
        """`reflection`, recorded."""
        return _RecordedReflection(self, reflection)

    def finish(self, evolution: Evolution) -> None:
        """Marks the phase as finished, with this outcome."""
        write_json(
            self.folder / EVOLUTION_FILE,
            {
                "population": evolution.population.to_json(),
                "metrics": {k: float(v) for k, v in evolution.metrics.items()},
                "warnings": list(evolution.warnings),
            },
        )

    def finished(self) -> Evolution | None:
        """The outcome, if the phase had finished. Raises ValueError if the file was edited."""
        return read_evolution(self.folder)

    def _bind(self, identity: dict[str, str]) -> None:
        path = self.folder / IDENTITY_FILE
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            names = sorted(k for k in {*stored, *identity} if stored.get(k) != identity.get(k))
            if names:
                differs = "; ".join(f"{k} was {stored.get(k)!r}, is {identity.get(k)!r}" for k in names)
                raise JournalMismatch(f"{self.folder} is the record of another fast phase: {differs}")
        elif (self.folder / CALLS_FILE).exists() or (self.folder / EVOLUTION_FILE).exists():
            raise JournalMismatch(
                f"{self.folder} holds a record without {IDENTITY_FILE}: cannot tell which phase it belongs to"
            )
        else:
            write_json(path, identity)

    def _read(self) -> list[dict[str, Any]]:
        """The recorded calls. Cuts a torn last line off the file, so that the next line begins on its own."""
        if self._calls.exists():
            raw = self._calls.read_bytes()
            whole = raw.rfind(b"\n") + 1
            if whole < len(raw):
                with open(self._calls, "r+b") as file:
                    file.truncate(whole)
                    os.fsync(file.fileno())
        return read_calls(self.folder)

    def _answer(self, kind: str, digest: str, pay: Callable[[], Any]) -> Any:
        if self.replayed < len(self._old):
            call = self._old[self.replayed]
            if (call["kind"], call["digest"]) != (kind, digest):
                raise JournalMismatch(
                    f"{self._calls}, line {self.replayed + 1} answers {call['kind']} {call['digest']}, but the phase"
                    f" now asks {kind} {digest}: the optimizer is not"
                    f" deterministic; delete {self.folder} to start it anew"
                )
            self.replayed += 1
            return call["answer"]
        answer = pay()
        line = json.dumps({"kind": kind, "digest": digest, "answer": answer}, ensure_ascii=True)
        new = not self._calls.exists()
        with open(self._calls, "ab") as file:
            file.write(line.encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.folder)
        self.recorded += 1
        return answer


def read_evolution(folder: Path) -> Evolution | None:
    """The outcome of the phase recorded in `folder`, None if it has not finished.

    Raises ValueError, KeyError or TypeError if the file was edited.
    """
    path = folder / EVOLUTION_FILE
    if not path.exists():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return Evolution(Population.from_json(data["population"]), data["metrics"], tuple(data["warnings"]))


def read_calls(folder: Path) -> list[dict[str, Any]]:
    """The calls recorded in `folder`, in order; a torn last line was never answered and is left out.

    Raises ValueError, naming the line, if the record is damaged otherwise.
    """
    path, calls = folder / CALLS_FILE, []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else (), 1):
        try:
            call = json.loads(line)
            calls.append({"kind": call["kind"], "digest": call["digest"], "answer": call["answer"]})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is damaged ({error}): delete {folder}") from error
    return calls


class _RecordedReflection:
    def __init__(self, journal: Journal, inner: Reflection):
        self._journal = journal
        self._inner = inner

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        """As the inner one; if that raises, None for every request, so that a failure is repeated like an answer."""

        def pay() -> list[str | None]:
            try:
                return list(self._inner.propose(requests))
            except Exception as error:
                _log.warning("reflection failed: %s", described(error))
                return [None] * len(requests)

        self._journal.reflections += len(requests)
        return self._journal._answer("reflect", _digest([_request_to_json(r) for r in requests]), pay)

    def describe(self) -> str:
        return self._inner.describe()


def _digest(value: Any) -> str:
    return text_digest(json.dumps(value, ensure_ascii=True))


def _request_to_json(request: ReflectionRequest) -> list[Any]:
    records = [[problem.id, _rollout_to_json(rollout)] for problem, rollout in request.records]
    return [request.parent.digest, records, request.slot, request.seed, request.max_chars]


def _rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    return {
        "score": float(rollout.score),
        "response": rollout.response,
        "feedback": rollout.feedback,
        "error": rollout.error and described(rollout.error),
        "tokens": rollout.tokens,
    }


__all__ = ["Journal", "JournalMismatch", "read_calls", "read_evolution"]
