"""What the adapters share: a clear error for a missing library, and seeds for one that draws from global generators.

Several libraries seed the global generators of `random` and numpy, and draw from them. Their adapters declare
`metadata["global_rng"]`, so `fst_envs.make` gives every episode generators of its own (`wrappers.OwnRNG`).
"""

from __future__ import annotations

import importlib
import json
import logging
import random
import urllib.request
from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

USES_GLOBAL_RNG: dict[str, Any] = {"render_modes": [], "global_rng": True}


def seed_global(seed: int) -> None:
    """Seeds the global generators, so that what an environment draws while it is made depends on the instance too."""
    random.seed(seed)
    np.random.seed(seed)


def library(module: str, extra: str, env_id: str) -> Any:
    """Imports a library without changes to the root logger, which some libraries configure on import.

    module: of the library.
    extra: that installs it.
    env_id: that needs it.
    Raises DependencyNotInstalled if the library, or something it needs, is missing.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise DependencyNotInstalled(
            f"{env_id} needs {module}: pip install 'fst-plugin[{extra}]' (missing: {e.name})"
        ) from e
    finally:
        root.handlers[:], root.level = handlers, level


def named(path: str) -> Any:
    """The object that "module:Name" names. Raises ImportError or AttributeError if there is none."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@lru_cache(maxsize=64)
def schema(url: str, timeout: float) -> dict[str, Any]:
    """The JSON in which an environment server describes its fields. Raises OSError if the server can't be reached."""
    with urllib.request.urlopen(f"{url.rstrip('/')}/schema", timeout=timeout) as answer:
        return dict(json.load(answer))
