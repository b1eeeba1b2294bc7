"""Files that are either the old ones or the new ones, never halves.

The text is written to a temporary file in the target's own folder (a rename across file systems is not atomic), forced
to disk, and moved over the target in one step; then the folder is forced to disk too, so that the new name survives a
loss of power. A process killed at any point leaves the previous file whole.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write bytes to, which takes the place of `path` once the block has ended; makes missing folders.

    If the block raises, or the file can't be written (OSError, which names it), `path` is what it was before.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask applies, as to any other file
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:  # a full disk names no file by itself
            error.filename = str(target)
        raise
    sync_folder(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` (UTF-8, newlines as given) to `path`, making missing folders.

    Raises OSError if the folder can't be written; `path` is then what it was before.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "surrogatepass"))


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Writes `obj` as JSON that a person can read (indented, key order kept, lone surrogates escaped).

    Raises TypeError or ValueError if `obj` is not a JSON value (NaN and infinity are none); `path` is then untouched.
    """
    write_text(path, to_json(obj, indent=2) + "\n")


def to_json(obj: Any, indent: int | None = None, allow_nan: bool = False) -> str:
    """JSON as UTF-8 can hold it: characters as they are; lone surrogates, and what some readers take for the end of a
    line, escaped.

    allow_nan: NaN and infinity pass, as Python writes them.

    Raises TypeError or ValueError if `obj` is not a JSON value.
    """
    text = json.dumps(obj, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(obj, indent=indent, ensure_ascii=True, allow_nan=allow_nan)
    for char in "\x85\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


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


__all__ = ["replacing", "set_aside", "sync_folder", "to_json", "write_json", "write_text"]
