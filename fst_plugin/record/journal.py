"""A fast phase that survives being killed: every answer it paid for is on disk before it is used.

Two things in a fast phase cost: rollouts and reflections. A journal stands around both, `evaluate` and `reflection`,
and appends each call's answer, with a digest of the call, to a file. After a restart the optimizer runs from the
beginning with the same inputs; the journal answers the same calls from the file, in order, so the phase runs up to
where it died without paying anything twice, and goes on from there. That needs an optimizer that is deterministic given
the answers.

Invariants: a call is answered from the record or recorded, never both; an answer that cannot be recorded is not given.
A record answers only the call that it was made for: another digest at its place is an error, not a guess. A journal
belongs to one identity (weights, population, anchors, settings); another one's is never read. `evolution.json` is
written last and atomically: a folder that has it holds a finished phase, which needs no calls any more.

    folder/identity.json     what the phase rests on, sealed
    folder/calls.jsonl.gz    its calls, while it runs (calls.py)
    folder/evolution.json    the outcome, sealed, with the digests of what cycles.py writes
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..optimizer import Evolution
from ..prompts import Population, text_digest
from ..reflection.base import RECORD_CHARS, Reflection, ReflectionRequest, Trouble
from ..reflection.text import shorten
from ..rollouts import Cell, Evaluate, Rollout
from ..secrets import described
from . import sealed
from .atomic import replacing, set_aside
from .calls import CALLS_FILE, Call, CallsFile

IDENTITY_FILE = "identity.json"
EVOLUTION_FILE = "evolution.json"


class JournalError(RuntimeError):
    """The record of a phase cannot do its part: whoever gets this from a call must not go on."""


class JournalMismatch(JournalError):
    """The record on disk belongs to another phase than the one that asks for it."""


@dataclass(frozen=True)
class Outcome:
    """What a finished phase came to.

    rollouts, reflections: how many it asked for.
    rewards: the lowest and the highest of its rollouts; empty if there were none.
    parts: name -> digest of the cycle's other files.
    """

    population: Population
    metrics: Mapping[str, float]
    warnings: tuple[str, ...]
    rollouts: int
    reflections: int
    rewards: tuple[float, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    def evolution(self) -> Evolution:
        return Evolution(self.population, dict(self.metrics), self.warnings)


class Journal:
    """The record of one fast phase.

    folder: made if it is missing.
    identity: names everything the phase's outcome rests on.
    rollouts, reflections: how many were asked for.
    batches: of rollouts, that were answered.
    replayed, recorded: how many calls were answered from the record, and how many were added to it.
    mishaps: figures of what was lost, by name: `record_bytes_cut`, of a call that a kill left unfinished (it was never
        answered), and `records_set_aside`; empty if nothing was.

    Raises JournalMismatch, naming what differs, if the folder holds the record of another identity, and UnusableFile if
    its record is damaged otherwise.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, str]):
        self.folder = Path(folder)
        self.rollouts = 0
        self.batches = 0
        self.reflections = 0
        self.replayed = 0
        self.recorded = 0
        self._bind(dict(identity))
        self._outcome = read_outcome(self.folder)
        if self._outcome is not None:
            self._forget_calls()
        self._calls = CallsFile(self.folder)
        self._old = self._calls.read()
        self.mishaps = {"record_bytes_cut": float(self._calls.cut)} if self._calls.cut else {}
        self._lost: JournalError | None = None
        self._writing = threading.Lock()
        self._rewards: list[float] = []

    def evaluate(self, evaluate: Evaluate) -> Evaluate:
        """`evaluate`, recorded. Texts come back shortened to what a reflection is shown, and so they are kept."""

        def recorded(cells: Sequence[Cell]) -> list[Rollout]:
            self.rollouts += len(cells)
            digest = _digest([[c.prompt.digest, c.problem.id] for c in cells])

            def pay() -> Call:
                return Call("evaluate", digest, [_shortened(r) for r in evaluate(cells)])

            answer: list[Rollout] = self._answered("evaluate", digest, pay).answer  # type: ignore[assignment]
            self.batches += 1
            self._rewards += [r.score for r in answer if r.error is None and math.isfinite(r.score)]
            return answer

        return recorded

    def reflection(self, reflection: Reflection) -> Reflection:
        """`reflection`, recorded."""
        return _RecordedReflection(self, reflection)

    def copy_calls(self, path: Path) -> None:
        """The calls so far into another file, as `begin_journal` takes them; may be used while the phase runs."""
        with self._writing, replacing(path) as file:
            file.write(self._calls.path.read_bytes() if self._calls.path.exists() else b"")

    def rewards(self) -> list[float]:
        """Of the rollouts answered that did not fail; of a finished phase, the lowest and the highest."""
        return list(self._outcome.rewards) if self._outcome else self._rewards

    def finish(self, evolution: Evolution, parts: Mapping[str, str] | None = None) -> None:
        """Marks the phase as finished, with this outcome; its calls are not needed any more. parts: see `Outcome`."""
        sealed.write(
            self.folder / EVOLUTION_FILE,
            {
                "population": evolution.population.to_json(),
                "metrics": {k: float(v) for k, v in evolution.metrics.items()},
                "warnings": list(evolution.warnings),
                "rollouts": self.rollouts,
                "reflections": self.reflections,
                "rewards": [min(self._rewards), max(self._rewards)] if self._rewards else [],
                "parts": dict(parts or {}),
            },
        )
        self._forget_calls()

    def finished(self) -> Evolution | None:
        """The outcome, if the phase had finished."""
        return self._outcome.evolution() if self._outcome else None

    def _forget_calls(self) -> None:
        (self.folder / CALLS_FILE).unlink(missing_ok=True)

    def _bind(self, identity: dict[str, str]) -> None:
        path = self.folder / IDENTITY_FILE
        if path.exists():
            stored = sealed.read(path, dict[str, str])
            names = sorted(k for k in {*stored, *identity} if stored.get(k) != identity.get(k))
            if names:
                differs = "; ".join(f"{k} was {stored.get(k)!r}, is {identity.get(k)!r}" for k in names)
                raise JournalMismatch(f"{self.folder} is the record of another fast phase: {differs}")
        elif (self.folder / CALLS_FILE).exists() or (self.folder / EVOLUTION_FILE).exists():
            raise JournalMismatch(
                f"{self.folder} holds a record without {IDENTITY_FILE}: cannot tell which phase it belongs to"
            )
        else:
            sealed.write(path, identity)

    def _answered(self, kind: Literal["evaluate", "reflect"], digest: str, pay: Callable[[], Call]) -> Call:
        if self._lost:
            raise self._lost
        if self.replayed < self._calls.whole:
            call = next(self._old)
            if (call.kind, call.digest) != (kind, digest):
                raise JournalMismatch(
                    f"{self._calls.path}, call {self.replayed + 1} answers {call.kind} {call.digest}, but the phase"
                    f" now asks {kind} {digest}: the optimizer is not"
                    f" deterministic; delete {self.folder} to start it anew"
                )
            self.replayed += 1
            return call
        call = pay()
        try:
            with self._writing:
                self._calls.append(call)
        except OSError as error:
            self._lost = JournalError(
                f"{self._calls.path} cannot be written ({error}): free space on the disk, or set the run's folder to"
                " another one (verl: trainer.default_local_dir, TRL: output_dir); a new start goes on from the last"
                " call recorded"
            )
            raise self._lost from error
        self.recorded += 1
        return call


def open_journal(folder: Path, identity: Mapping[str, str], log: Callable[[str], None]) -> Journal:
    """The record of the phase that `folder` is for. Whatever there is of another phase, or cannot be used, is set
    aside with a line in the log: it never keeps a run from starting.

    folder: `cycle_NNNN`; later cycles next to it are of a run that went further from here.
    """
    aside = 0
    for later in sorted(folder.parent.glob("cycle_*")):
        if later.name > folder.name:
            log(f"fst: {later.name} is of another run: moved to {set_aside(later).name}")
            aside += 1
    try:
        journal = Journal(folder, identity)
    except (JournalMismatch, sealed.UnusableFile) as problem:
        log(f"fst: discarding {folder.name}, moved to {set_aside(folder).name}: {problem}")
        aside += 1
        journal = Journal(folder, identity)
    if cut := journal.mishaps.get("record_bytes_cut"):
        log(
            f"fst: {folder.name}: {cut:.0f} bytes of a call were cut off its record: the run ended while it was written"
        )
    if aside:
        journal.mishaps["records_set_aside"] = float(aside)
    return journal


def begin_journal(folder: Path, identity: Mapping[str, str], calls: Path | None, log: Callable[[str], None]) -> Journal:
    """The record of a phase that goes on from a checkpoint, or from nothing: whatever `folder` holds is set aside.

    calls: the checkpoint's file of calls (see `Journal.copy_calls`).
    """
    if folder.exists():
        log(f"fst: {folder.name} is of a life that went further than the checkpoint: moved to {set_aside(folder).name}")
    Journal(folder, identity)
    if calls:
        with replacing(folder / CALLS_FILE) as file:
            file.write(calls.read_bytes())
    return Journal(folder, identity)


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome of the phase recorded in `folder`, None if it has not finished. Raises UnusableFile."""
    path = folder / EVOLUTION_FILE
    return sealed.read(path, Outcome) if path.exists() else None


class _RecordedReflection:
    """trouble: of the last batch."""

    def __init__(self, journal: Journal, inner: Reflection):
        self._journal = journal
        self._inner = inner
        self.trouble = Trouble()

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        """As the inner one; if that raises, None for every request, so that a failure is repeated like an answer."""
        digest = _digest([_request_to_json(r) for r in requests])

        def pay() -> Call:
            trouble = Trouble()
            answers: list[Rollout | str | None] = [None] * len(requests)
            try:
                answers = [_text_or_none(answer, trouble) for answer in self._inner.propose(requests)]
                trouble.add(getattr(self._inner, "trouble", Trouble()))
            except Exception as error:
                trouble.note("failures", error, len(requests))
            return Call("reflect", digest, answers, trouble.to_json())

        self._journal.reflections += len(requests)
        call = self._journal._answered("reflect", digest, pay)
        self.trouble = Trouble.from_json(call.trouble)
        return call.answer  # type: ignore[return-value]

    def describe(self) -> str:
        return self._inner.describe()


def _digest(value: Any) -> str:
    return text_digest(json.dumps(value, ensure_ascii=True))


def _request_to_json(request: ReflectionRequest) -> list[Any]:
    records = [[problem.id, asdict(rollout)] for problem, rollout in request.records]
    mate = [request.mate.digest] if request.mate else []
    return [request.parent.digest, records, request.slot, request.seed, request.max_chars, request.bar.value, *mate]


def _text_or_none(answer: Any, trouble: Trouble) -> str | None:
    if answer is None or isinstance(answer, str):
        return answer
    trouble.note("failures", f"it answered with {type(answer).__name__}, not with text")
    return None


def _shortened(rollout: Rollout) -> Rollout:
    response, feedback = shorten(rollout.response, RECORD_CHARS), shorten(rollout.feedback, RECORD_CHARS)
    error = rollout.error and described(rollout.error)
    return replace(rollout, score=float(rollout.score), response=response, feedback=feedback, error=error)


__all__ = [
    "EVOLUTION_FILE",
    "IDENTITY_FILE",
    "Journal",
    "JournalError",
    "JournalMismatch",
    "Outcome",
    "begin_journal",
    "open_journal",
    "read_outcome",
]
