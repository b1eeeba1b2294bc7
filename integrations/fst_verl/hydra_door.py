"""Hydra's doors: config groups next to verl's (`+fst=default`), and a look at the config before a run begins."""

from __future__ import annotations

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict

from fst_plugin.config import ConfigError, FSTConfig
from fst_plugin.secrets import redact

from .compat import MODES


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


def install_trainer(config: DictConfig) -> None:
    """Puts our trainer in the place of the chosen one, in the config; with fast weights off, plain verl stays."""
    node = config.get("fst")
    if node is None or not node.get("enabled", True):
        return
    mode = config.trainer.v1.trainer_mode
    with open_dict(config):
        config.trainer.v1.trainer_mode = MODES.get(mode, mode)


class FSTCallback(Callback):
    """Runs in the driver, after Hydra has composed the config and before verl sees it. Stops the run with every
    problem listed; nothing has been started then.

    Hydra turns a callback's exceptions into warnings and goes on, which here would mean a run without fast weights:
    whatever goes wrong ends in SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            self._prepare(config)
        except Exception as error:
            raise SystemExit(f"{type(error).__name__}: {redact(str(error))}") from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        mode = OmegaConf.select(config, "trainer.v1.trainer_mode")
        if mode in MODES:  # each job composes its own config: it cannot be changed from here
            raise SystemExit(f"with --multirun name the trainer yourself: trainer.v1.trainer_mode={MODES[mode]}")

    def _prepare(self, config: DictConfig) -> None:
        from . import check

        if not config.fst.get("enabled", True):
            return
        problems = check.problems(config)
        if problems:
            raise ConfigError(problems)
        install_trainer(config)
