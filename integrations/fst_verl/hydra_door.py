"""Hydra's door for callbacks: a look at the config before a run begins, and the CPU platform."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from fst_plugin.config import ConfigError
from fst_plugin.secrets import redact


class CPUCallback(Callback):
    """Of `+fst_cpu=default`: this process and all it starts run on the CPU platform."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        from .cpu import platform

        platform.activate()


class FSTCallback(Callback):
    """Runs in the driver, after Hydra has composed the config and before verl sees it. Stops the run with every
    problem listed; nothing has been started then.

    Hydra turns a callback's exceptions into warnings and goes on: whatever goes wrong ends in SystemExit.
    """

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called for a run, and for each job of a --multirun."""
        from . import check, support

        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        main = spec.name if spec else ""
        try:
            if config.fst.enabled and (refused := support.refused_module(main)):
                raise ConfigError(refused)
            if (config.fst.enabled or config.fst.drift) and (problems := check.problems(config, main)):
                raise ConfigError(problems)
        except Exception as error:
            raise SystemExit(f"{type(error).__name__}: {redact(str(error))}") from error
