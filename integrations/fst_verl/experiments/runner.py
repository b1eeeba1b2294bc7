"""Runs of verl as plain data, and the running of them: some at a time, each of them once.

A finished run has a marker in its folder, written last and atomically, that holds the run's identity. It is not
repeated, and another run in its place is an error. A run that was cut off begins anew; what it left is set aside.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fst_plugin.record.atomic import set_aside, write_json

from ..command_line import MAIN, Command
from ..cpu import platform as cpu
from .launch import check_jobs, launch

DONE_FILE = "done.json"


@dataclass(frozen=True)
class VerlRun:
    """One run.

    folder: of its log, metrics, checkpoints and nothing else.
    arm, seed: which method, and which repetition of it.
    arguments: of the program.
    identity: what makes it this run, in JSON's own types; its arguments, and another program than verl's own, if empty.
    marker: the file in `folder` that says it is finished: its identity, and "seconds", the wall time it took.
    program: what python runs.
    """

    folder: Path
    arm: str
    seed: int
    arguments: tuple[str, ...]
    identity: Mapping[str, Any] = field(default_factory=dict)
    marker: str = DONE_FILE
    program: tuple[str, ...] = MAIN

    def __post_init__(self) -> None:
        if not self.identity:
            program = {} if self.program == MAIN else {"program": list(self.program)}
            object.__setattr__(self, "identity", {"arguments": list(self.arguments), **program})

    @classmethod
    def of(cls, command: Command, folder: Path, arm: str, seed: int) -> VerlRun:
        """The run of a user's command."""
        return cls(folder, arm, seed, command.arguments, program=command.program)

    @property
    def command(self) -> Command:
        return replace(Command.parse(self.arguments), program=self.program)

    @property
    def name(self) -> str:
        return f"{self.arm}_{self.seed}"

    @property
    def spec(self) -> str:
        """The run as `fst compare` and `analysis.read` take it."""
        return f"{self.name}={self.folder}"

    def finished(self) -> bool:
        return finished(self.folder / self.marker, self.identity)


def finished(marker: Path, identity: Mapping[str, Any]) -> bool:
    """Is this run finished? Raises RuntimeError if the marker is another run's."""
    if not marker.exists():
        return False
    stored = json.loads(marker.read_text(encoding="utf-8"))
    if any(stored.get(key) != value for key, value in identity.items()):
        raise RuntimeError(f"{marker} is of a run with other settings: move the folder away, or give another --out")
    return True


def run(one: VerlRun, on_step: Callable[[int], None] = lambda step: None) -> None:
    """Runs verl once and marks the run as finished. Raises RuntimeError, with the log's end, if verl fails."""
    if one.folder.exists():
        set_aside(one.folder)
    began = time.monotonic()
    launch(one.arguments, one.folder, on_step, one.program)
    write_json(one.folder / one.marker, {**one.identity, "seconds": time.monotonic() - began})


def run_all(runs: Sequence[VerlRun], jobs: int, run_one: Callable[[VerlRun], None] = run) -> None:
    """Runs what is not finished yet, `jobs` at a time.

    Once `run_one` raises, no other run begins, and what it raised is raised when those under way have ended. Raises
    RuntimeError, before anything is started, if this many at a time cannot be, or a folder holds another run.
    """
    waiting = [one for one in runs if not one.finished()]
    check_jobs(jobs, cpu.asked_for() or all(any("fst_cpu=" in a for a in one.arguments) for one in waiting))
    stopped = threading.Event()

    def guarded(one: VerlRun) -> None:
        if not stopped.is_set():
            try:
                run_one(one)
            except BaseException:
                stopped.set()
                raise

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in [pool.submit(guarded, one) for one in waiting]:
                done.result()
        finally:
            stopped.set()


__all__ = ["DONE_FILE", "VerlRun", "finished", "run", "run_all"]
