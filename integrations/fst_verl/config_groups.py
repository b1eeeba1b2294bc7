"""Hydra's door for config groups: ours stand next to verl's (`+fst=default`)."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from fst_plugin.config import FSTConfig


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
