"""A user's own part, named by its dotted path."""

from __future__ import annotations

import importlib
from typing import Any


def load(path: str, key: str) -> Any:
    """The attribute that `path` ("package.module.Name") names. `key` is the config key it stands under.

    Raises ValueError, naming the key and how to fix it, if the path is malformed or leads nowhere.
    """
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise ValueError(f"{key}={path!r} is not a dotted path: write it as package.module.Name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{key}={path!r}: cannot import {module_name!r} ({error}); is it on PYTHONPATH?") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{key}={path!r}: {module_name!r} has no {attribute!r}") from None
