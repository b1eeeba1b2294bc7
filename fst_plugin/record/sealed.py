"""Files of ours are whole and unchanged, or they are refused by name.

A sealed file is a JSON object that carries a format number and a digest of everything else in it. It may name other
files of its folder, its parts, with a digest each; so one sealed file answers for a whole folder. Whatever is read is
parsed into a type. Whatever is wrong with a file is an `UnusableFile`, which names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from .atomic import to_json, write_json, write_text

FORMAT = 2
"""Of every sealed file and its parts; another one is refused (ours)."""

T = TypeVar("T")


class UnusableFile(ValueError):
    """A file of ours cannot be used. The message names it, what is wrong with it, and what to do."""


def damaged(path: Path, wrong: str) -> UnusableFile:
    """For a file whose content is not what was written."""
    return UnusableFile(f"{path} is damaged or edited ({wrong}): restore it or move it away")


# ------------------------------------------------------------------------------------------------------------- writing


def write(path: Path, body: Mapping[str, Any]) -> None:
    """Writes `body` with a format number and its digest, atomically.

    Raises TypeError or ValueError if `body` is not JSON (NaN and infinity are not), and OSError if the disk refuses.
    """
    write_json(path, {"format": FORMAT, "digest": _seal(body), **body})


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes one JSON value a line, atomically. Raises as `write` does."""
    write_text(path, "".join(f"{to_json(row)}\n" for row in rows))


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> digest of the bytes of files in `folder`: what a sealed file says of its parts."""
    return {name: _file_digest(folder / name) for name in names}


# ------------------------------------------------------------------------------------------------------------- reading


def read(path: Path, shape: type[T]) -> T:
    """The body of a sealed file as a `shape`, any type that pydantic knows.

    Raises FileNotFoundError if there is no such file, UnusableFile if it is of another format or damaged.
    """
    data = _json(path, path.read_bytes())
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = str(data.get("format"))[:40] if isinstance(data, dict) else None
        raise UnusableFile(
            f"{path} has format {found}, this version reads format {FORMAT}: go on with the version that wrote it, or"
            " move it away and start over"
        )
    body = {key: value for key, value in data.items() if key not in ("format", "digest")}
    if data.get("digest") != _seal(body):
        raise damaged(path, "its digest does not fit its content")
    return _shaped(path, shape, body)


def read_json(path: Path, shape: type[T]) -> T:
    """A part that is one JSON value, as a `shape`. Raises UnusableFile."""
    return parsed(path, path.read_bytes(), shape)


def read_lines(path: Path, shape: type[T]) -> list[T]:
    """A part with one JSON value a line, each as a `shape`. Raises UnusableFile, naming the line."""
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        raise damaged(path, "its last line is cut off")
    return [parsed(path, line, shape, f"line {number}: ") for number, line in enumerate(lines, 1)]


def parsed(path: Path, raw: bytes, shape: type[T], where: str = "", allow_nan: bool = False) -> T:
    """JSON in `path` as a `shape`. where: its place in the file, for the message of an UnusableFile."""
    return _shaped(path, shape, _json(path, raw, where, allow_nan), where)


def check_parts(folder: Path, parts: Mapping[str, str], required: Iterable[str] = ()) -> None:
    """Raises UnusableFile if a file of `folder` is missing or not the one that `parts` (name -> digest) speaks of, or
    if `parts` does not speak of a required one."""
    for name in sorted({*parts, *required}):
        path = folder / name
        if name not in parts or not path.is_file():
            raise damaged(path, "it is missing, or was when the folder was written")
        if _file_digest(path) != parts[name]:
            raise damaged(path, "its digest is another one: cut off, changed, or of another run")


def _shaped(path: Path, shape: type[T], data: Any, where: str = "") -> T:
    known: Any = shape  # hashable, which mypy does not believe of a type[T]
    try:
        return _adapter(known).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{where}{place}: {first['msg']}") from None


@lru_cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _json(path: Path, raw: bytes, where: str = "", allow_nan: bool = False) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=float if allow_nan else _refuse)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"{where}not JSON: {str(error)[:200]}") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _seal(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=True, separators=(",", ":"))  # a person may have indented it anew
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def _file_digest(path: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


__all__ = [
    "FORMAT",
    "UnusableFile",
    "check_parts",
    "damaged",
    "digests",
    "parsed",
    "read",
    "read_json",
    "read_lines",
    "write",
    "write_lines",
]
