"""Rows of verl's batches as plain values and tensors, for a file that runs no code when it is read.

torch's own format with `weights_only=True` holds None, numbers, texts, lists, tuples, dicts and tensors. What else a
row may hold is written as a dict with the key `KIND`. The bytes of all such values are one tensor, and batches of the
same columns are stored as one: torch writes each tensor as a file of its own, and thousands of small ones take seconds.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

import numpy as np

from .batches import shared
from .compat import names

KIND = "fst_kind"
_PLAIN = (type(None), bool, int, float, str)
_AS_TEXT: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    Decimal: (str, Decimal),
}


def from_chunks(chunks: Sequence[Any]) -> dict[str, Any]:
    """TensorDicts as `tables`, one for each run of them with the same columns, and the `bytes` of their values. A table
    has the `sizes` of its TensorDicts, and by name the columns: `tensors`, `rows` (one value a row) and `shared` (one
    value for all rows).

    Raises ValueError, naming the column, if a row holds what cannot be stored without code.
    """
    packed = bytearray()
    tables = [_table(list(alike), packed) for _, alike in groupby(chunks, _layout)]
    return {"tables": tables, "bytes": _as_tensor(packed)}


def to_chunks(stored: dict[str, Any]) -> list[Any]:
    """Inverse of `from_chunks`."""
    packed, found = stored["bytes"].numpy(), []
    for table in stored["tables"]:
        rows = {name: [unplain(value, packed) for value in values] for name, values in table["rows"].items()}
        of_all = {name: unplain(value, packed) for name, value in table["shared"].items()}
        whole = names.tensordict_utils.get_tensordict({**table["tensors"], **rows}, of_all)
        found += whole.split(table["sizes"])
    return found


def _layout(chunk: Any) -> Any:
    """The same for TensorDicts that can be put together."""
    columns = {name: chunk.get(name) for name in chunk.keys()}
    if any(map(shared, columns.values())):
        return id(chunk)
    return [(name, getattr(column, "dtype", None), column.shape[1:]) for name, column in columns.items()]


def _table(chunks: Sequence[Any], packed: bytearray) -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"sizes": [len(chunk) for chunk in chunks], "tensors": {}, "rows": {}, "shared": {}}
    for name in chunks[0].keys():
        columns = [chunk.get(name) for chunk in chunks]
        try:
            if shared(columns[0]):
                found["shared"][name] = plain(columns[0].data, packed)
            elif hasattr(columns[0], "stack_dim"):  # one wrapped object a row
                found["rows"][name] = [plain(value, packed) for column in columns for value in column.tolist()]
            else:
                found["tensors"][name] = torch.cat([plain(column, packed) for column in columns])
        except TypeError as error:
            raise ValueError(
                f"column {name!r} of the data holds {error}, which a checkpoint cannot store: let the dataset"
                " (data.custom_cls) hand out plain values, arrays, tensors or images"
            ) from None
    return found


def plain(value: Any, packed: bytearray) -> Any:
    """`value` without types of its own. packed: its bytes are added there.

    Raises TypeError, with the name of the type, if that is not possible.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (list, tuple):
        return kind(plain(one, packed) for one in value)
    if isinstance(value, dict) and KIND not in value:
        return {plain(key, packed): plain(one, packed) for key, one in value.items()}
    if kind is bytes:
        return {KIND: "bytes", "data": _packed(value, packed)}
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_array(np.asarray(value), isinstance(value, np.generic), packed)
    if kind in _AS_TEXT:
        return {KIND: kind.__name__, "text": _AS_TEXT[kind][0](value)}
    if hasattr(value, "tobytes") and hasattr(value, "mode"):
        return _from_image(value, packed)
    if hasattr(value, "layout") and str(value.layout) == "torch.strided" and not value.is_nested:
        return value.detach().cpu().clone()  # a view would bring all of its storage along
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__}")


def unplain(value: Any, packed: Any) -> Any:
    """Inverse of `plain`. packed: all bytes, as an array."""
    if isinstance(value, (list, tuple)):
        return type(value)(unplain(one, packed) for one in value)
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {key: unplain(one, packed) for key, one in value.items()}
    kind, given = value[KIND], {key: one for key, one in value.items() if key != KIND}
    if kind == "bytes":
        return _unpacked(given["data"], packed)
    if kind == "array":
        return _to_array(**given, packed=packed)
    if kind == "image":
        return _to_image(**given, packed=packed)
    return next(read for known, (_, read) in _AS_TEXT.items() if known.__name__ == kind)(given["text"])


def _from_array(array: Any, scalar: bool, packed: bytearray) -> dict[str, Any]:
    if array.dtype.kind == "V":
        raise TypeError(f"a numpy array of {array.dtype}")
    objects = array.dtype.kind == "O"
    data = [plain(one, packed) for one in array.ravel().tolist()] if objects else _packed(array.tobytes(), packed)
    return {KIND: "array", "dtype": array.dtype.str, "shape": list(array.shape), "data": data, "scalar": scalar}


def _to_array(dtype: str, shape: list[int], data: Any, scalar: bool, packed: Any) -> Any:
    if isinstance(data, list):  # of objects
        array = np.empty(len(data), dtype=object)
        array[:] = [unplain(one, packed) for one in data]
    else:
        array = np.frombuffer(bytearray(_unpacked(data, packed)), dtype=np.dtype(dtype))
    return array.reshape(shape)[()] if scalar else array.reshape(shape)


def _from_image(image: Any, packed: bytearray) -> dict[str, Any]:
    if image.mode != "P":
        return {KIND: "image", "mode": image.mode, "size": list(image.size), "data": _packed(image.tobytes(), packed)}
    png = io.BytesIO()  # colours by number: PNG keeps their table
    image.save(png, format="PNG")
    return {KIND: "image", "mode": "P", "size": list(image.size), "data": _packed(png.getvalue(), packed)}


def _to_image(mode: str, size: list[int], data: Any, packed: Any) -> Any:
    from PIL import Image

    if mode != "P":
        return Image.frombytes(mode, (size[0], size[1]), _unpacked(data, packed))
    image = Image.open(io.BytesIO(_unpacked(data, packed)), formats=["PNG"])
    image.load()
    return image


def _packed(data: bytes, packed: bytearray) -> tuple[int, int]:
    """Where `data` begins and ends among all bytes."""
    begin = len(packed)
    packed += data
    return begin, len(packed)


def _unpacked(place: tuple[int, int], packed: Any) -> bytes:
    return packed[slice(*place)].tobytes()


def _as_tensor(data: bytearray) -> Any:
    import torch

    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8))
