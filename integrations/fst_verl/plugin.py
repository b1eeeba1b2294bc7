"""What `import verl` loads, in the driver and in every Ray worker (entry-point group `verl.plugins`).

verl swallows a plug-in's errors into a debug log line. Nothing here fails in silence: an error becomes one warning
that says what is missing, and `+fst=...` runs then stop because their trainer does not exist.
"""

from __future__ import annotations

import warnings


def _load() -> None:
    from . import cpu

    if cpu.wanted():
        cpu.activate()

    from . import agent_loop, episode_loop, hydra_door, loss, trainer

    agent_loop.register()
    episode_loop.register()
    loss.register()
    trainer.register()
    hydra_door.register()


try:
    _load()
except Exception as error:  # anything: verl would hide it
    warnings.warn(
        f"fst_verl could not be loaded and fast weights are not available: {type(error).__name__}: {error}",
        RuntimeWarning,
        stacklevel=2,
    )
