"""Rows of verl's batches as plain values and tensors, for a file that runs no code when it is read.

torch's own format with `weights_only=True` holds None, numbers, texts, lists, tuples, dicts and tensors. What else a
row may hold is written as a dict with the key `KIND`; bytes are tensors.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from .compat import names

KIND = "fst_kind"
_PLAIN = (type(None), bool, int, float, str)
_AS_TEXT: dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: (datetime.isoformat, datetime.fromisoformat),
    date: (date.isoformat, date.fromisoformat),
    Decimal: (str, Decimal),
}


def from_chunk(chunk: Any) -> dict[str, dict[str, Any]]:
    """The columns of a TensorDict: `tensors`, `rows` (one value a row) and `shared` (one value for all rows), by name.

    Raises ValueError, naming the column, if a row holds what cannot be stored without code.
    """
    found: dict[str, dict[str, Any]] = {"tensors": {}, "rows": {}, "shared": {}}
    for name in chunk.keys():
        column = chunk.get(name)
        try:
            if hasattr(column, "stack_dim"):  # one wrapped object a row
                found["rows"][name] = [plain(item.data) for item in column]
            elif hasattr(column, "unbind"):
                found["tensors"][name] = plain(column)
            else:
                found["shared"][name] = plain(column.data)
        except TypeError as error:
            raise ValueError(
                f"column {name!r} of the data holds {error}, which a checkpoint cannot store: let the dataset"
                " (data.custom_cls) hand out plain values, arrays, tensors or images"
            ) from None
    return found


def to_chunk(stored: dict[str, dict[str, Any]]) -> Any:
    """Inverse of `from_chunk`."""
    rows = {name: [unplain(value) for value in values] for name, values in stored["rows"].items()}
    shared = {name: unplain(value) for name, value in stored["shared"].items()}
    return names.tensordict_utils.get_tensordict({**stored["tensors"], **rows}, shared)


def plain(value: Any) -> Any:
    """`value` without types of its own. Raises TypeError, with the name of the type, if that is not possible."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (list, tuple):
        return kind(plain(one) for one in value)
    if isinstance(value, dict) and KIND not in value:
        return {plain(key): plain(one) for key, one in value.items()}
    if kind is bytes:
        return {KIND: "bytes", "data": _packed(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_array(np.asarray(value), isinstance(value, np.generic))
    if kind in _AS_TEXT:
        return {KIND: kind.__name__, "text": _AS_TEXT[kind][0](value)}
    if hasattr(value, "tobytes") and hasattr(value, "mode"):
        return _from_image(value)
    if hasattr(value, "layout") and str(value.layout) == "torch.strided" and not value.is_nested:
        return value.detach().cpu().clone()  # a view would bring all of its storage along
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__}")


def unplain(value: Any) -> Any:
    """Inverse of `plain`."""
    if isinstance(value, (list, tuple)):
        return type(value)(unplain(one) for one in value)
    if not isinstance(value, dict):
        return value
    if KIND not in value:
        return {key: unplain(one) for key, one in value.items()}
    kind, given = value[KIND], {key: one for key, one in value.items() if key != KIND}
    if kind == "bytes":
        return _unpacked(given["data"])
    if kind == "array":
        return _to_array(**given)
    if kind == "image":
        return _to_image(**given)
    return next(read for known, (_, read) in _AS_TEXT.items() if known.__name__ == kind)(given["text"])


def _from_array(array: Any, scalar: bool) -> dict[str, Any]:
    if array.dtype.kind == "V":
        raise TypeError(f"a numpy array of {array.dtype}")
    objects = array.dtype.kind == "O"
    data = [plain(one) for one in array.ravel().tolist()] if objects else _packed(array.tobytes())
    return {KIND: "array", "dtype": array.dtype.str, "shape": list(array.shape), "data": data, "scalar": scalar}


def _to_array(dtype: str, shape: list[int], data: Any, scalar: bool) -> Any:
    if isinstance(data, list):
        array = np.empty(len(data), dtype=object)
        array[:] = [unplain(one) for one in data]
    else:
        array = np.frombuffer(bytearray(_unpacked(data)), dtype=np.dtype(dtype))
    return array.reshape(shape)[()] if scalar else array.reshape(shape)


def _from_image(image: Any) -> dict[str, Any]:
    if image.mode != "P":
        return {KIND: "image", "mode": image.mode, "size": list(image.size), "data": _packed(image.tobytes())}
    packed = io.BytesIO()  # colours by number: PNG keeps their table
    image.save(packed, format="PNG")
    return {KIND: "image", "mode": "P", "size": list(image.size), "data": _packed(packed.getvalue())}


def _to_image(mode: str, size: list[int], data: Any) -> Any:
    from PIL import Image

    if mode != "P":
        return Image.frombytes(mode, (size[0], size[1]), _unpacked(data))
    image = Image.open(io.BytesIO(_unpacked(data)), formats=["PNG"])
    image.load()
    return image


def _packed(data: bytes) -> Any:
    import torch

    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.uint8))


def _unpacked(data: Any) -> bytes:
    return data.numpy().tobytes()
