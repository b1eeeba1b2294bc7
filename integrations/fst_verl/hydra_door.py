"""Hydra's doors: config groups next to verl's (`+fst=default`), and a look at the config before a run begins."""

from __future__ import annotations

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from fst_plugin.config import ConfigError, FSTConfig
from fst_plugin.secrets import redact


class FSTSearchPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="fst_verl", path="pkg://fst_verl.config")


Plugins.instance().register(FSTSearchPath)

# `+fst=default`: every key at its default in `FSTConfig`, and the look at the whole config before a run begins
ConfigStore.instance().store(
    group="fst",
    name="default",
    package="_global_",
    provider="fst_verl",
    node={
        "fst": FSTConfig().model_dump(),
        "hydra": {"callbacks": {"fst": {"_target_": "fst_verl.hydra_door.FSTCallback"}}},
    },
)


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
        from . import check

        try:
            if (config.fst.enabled or config.fst.drift) and (problems := check.problems(config)):
                raise ConfigError(problems)
        except Exception as error:
            raise SystemExit(f"{type(error).__name__}: {redact(str(error))}") from error
