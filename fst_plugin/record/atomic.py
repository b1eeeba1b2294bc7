"""Files that are either the old ones or the new ones, never halves.

The text is written to a temporary file in the target's own folder (a rename across file systems is not atomic), forced
to disk, and moved over the target in one step; then the folder is forced to disk too, so that the new name survives a
loss of power. A process killed at any point leaves the previous file whole.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` (UTF-8, newlines as given) to `path`, making missing folders.

    Raises OSError if the folder can't be written; `path` is then what it was before.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask applies, as to any other file
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Writes `obj` as JSON that a person can read (indented, key order kept, lone surrogates escaped).

    Raises TypeError or ValueError if `obj` is not a JSON value (NaN and infinity are none); `path` is then untouched.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(obj, indent=2, ensure_ascii=True, allow_nan=False)
    write_text(path, text + "\n")


def set_aside(folder: Path) -> Path:
    """Renames a folder to `old_<name>_<n>` next to it, so that nothing of it is lost; returns its new path."""
    number = 1
    while (target := folder.with_name(f"old_{folder.name}_{number}")).exists():
        number += 1
    folder.rename(target)
    sync_folder(folder.parent)
    return target


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Forces a folder's entries to disk; does nothing if the system can't open folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems refuse to sync folders; the rename itself has happened
    finally:
        os.close(handle)


__all__ = ["sync_folder", "write_json", "write_text"]
