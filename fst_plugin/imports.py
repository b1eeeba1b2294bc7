"""What is imported by its name: a user's own part, and the names of an RL stack that an adapter uses."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
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


class Names:
    """A table of foreign names as attributes: `names.X` imports X on first use.

    table: name here -> "module:attribute" there, or a module.
    needs: for the message of a missing name: who needs it, and what is supported.

    Raises ImportError, which names both, if one is not there.
    """

    def __init__(self, table: Mapping[str, str], needs: str):
        self._table, self._needs = table, needs

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._table:
            raise AttributeError(name)
        module, _, attribute = self._table[name].partition(":")
        try:
            found = importlib.import_module(module)
            value = getattr(found, attribute) if attribute else found
        except (ImportError, AttributeError) as error:
            raise ImportError(f"{self._table[name]} is not there ({error}): {self._needs}") from error
        setattr(self, name, value)
        return value
