"""One run a folder: two that wrote there would mix their records.

The operating system lets go of a lock when its process ends, however it ends: what a killed run left is taken over.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from . import sealed

WAIT_S = 10.0
"""How long a killed run's last processes may take to end (ours)."""


@dataclass(frozen=True)
class _Owner:
    host: str
    process: int


class FolderInUse(RuntimeError):
    """Another run writes to this folder."""


def hold(folder: Path, log: Callable[[str], None], wait_s: float = WAIT_S) -> FileLock | None:
    """Keeps `folder` for this process, which may hold it several times, for as long as what this returns is kept.

    The lock is `<folder>.lock`, next to the folder; `<folder>.owner.json` says whose it is.

    Raises FolderInUse, naming host and process of the run that has it. Returns None, with a line in the log, on a disk
    that knows no locks.
    """
    path = folder.absolute().with_name(f"{folder.name}.lock")
    owner = path.with_suffix(".owner.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False, is_singleton=True)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(f"fst: {folder} is in use ({_who(owner)}): waiting {wait_s:g} s for it")
            lock.acquire(timeout=wait_s)
    except Timeout:
        raise FolderInUse(
            f"{folder} is in use by another run ({_who(owner)}): wait for it or end it, or give this one another"
            " folder (verl: trainer.default_local_dir, TRL: output_dir)"
        ) from None
    except (NotImplementedError, OSError) as error:
        log(f"fst: warning: {path} cannot be locked ({error}): start no second run in this folder")
        return None
    sealed.write(owner, {"host": socket.gethostname(), "process": os.getpid()})
    return lock


def _who(path: Path) -> str:
    try:
        owner = sealed.read(path, _Owner)
        return f"process {owner.process} on {owner.host!r}"
    except (OSError, ValueError):
        return "process unknown"


__all__ = ["FolderInUse", "hold"]
