"""What `import verl` loads, in the driver and in every Ray worker (entry-point group `verl.plugins`).

Every process of a run pays for this, so nothing heavy is imported here: a part is imported, which registers it, once
verl has imported the module that it extends (wrapt's post-import hooks; at once where that module is there already).

verl swallows a plug-in's errors into a debug log line. Nothing here fails in silence: an error becomes one warning
that says what is missing, and `+fst=...` runs then stop because their trainer does not exist.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .compat import module_of

PARTS = {
    # module whose import is awaited: our modules, which register what they hold
    "hydra": ("config_groups",),
    module_of("register_agent_loop"): ("agent_loop", "episodes.agent_loop"),
    module_of("register_adv_est"): ("loss",),
    module_of("register_trainer"): ("trainer",),
}


def _load() -> None:
    from wrapt import register_post_import_hook

    from .cpu import platform as cpu

    if cpu.asked_for():
        _told(cpu.activate)
    for awaited, parts in PARTS.items():
        for part in parts:
            register_post_import_hook(_importing(part), awaited)


def _importing(part: str) -> Callable[[Any], None]:
    return lambda module: _told(lambda: import_module(f"{__package__}.{part}"))


def _told(act: Callable[[], Any]) -> None:
    """Whatever fails becomes a warning: verl would hide it."""
    try:
        act()
    except Exception as error:
        warnings.warn(
            f"fst_verl could not be loaded and fast weights are not available: {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=3,
        )


_told(_load)
