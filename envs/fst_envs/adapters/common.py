"""What the adapters share: a clear error for a missing library, and a start for what draws from global generators.

Several libraries seed and draw from the global generators of `random` and numpy. Their adapters declare
`metadata["global_rng"]`, so that `fst_envs.make` gives every episode generators of its own (`wrappers.OwnRNG`).
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
    """Seeds the global generators, so that what a library draws while it is made follows from the instance too."""
    random.seed(seed)
    np.random.seed(seed)


def library(module: str, extra: str, env_id: str) -> Any:
    """Imports a library, keeping the root logger as it is (some libraries set it up as they are imported).

    Raises DependencyNotInstalled, which names the extra, where the library or something it needs is missing.
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
    """What "module:Name" names. Raises ImportError or AttributeError where there is no such thing."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@lru_cache(maxsize=64)
def schema(url: str, timeout: float) -> dict[str, Any]:
    """The JSON that an environment server tells of its fields. Raises OSError where there is none to be had."""
    with urllib.request.urlopen(f"{url.rstrip('/')}/schema", timeout=timeout) as answer:
        return dict(json.load(answer))
