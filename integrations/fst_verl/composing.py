"""The config that a command's trainer would see, without running it.

verl's own main module is not even imported: its config is a folder of YAML files, and torch takes seconds. Another main
module is asked through Hydra's own `--cfg job`, in a process of its own, because only it knows what its imports add.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .command_line import Command

CONFIG_PATH, CONFIG_NAME = "config", "ppo_trainer"
"""Of `hydra.main` in verl.trainer.main_ppo; a test compares."""
NODES = ("algorithm", "actor_rollout_ref", "data", "trainer")
"""What the config of every RL trainer of verl has."""
PATIENCE_S = 600.0
"""Seconds that another main module may take to print its config (ours)."""


def compose(given: Command | Sequence[str]) -> DictConfig:
    """verl's config for a command, or for the arguments of verl's own main module; see `complete`."""
    return complete(given if isinstance(given, Command) else Command.parse(given))[1]


def complete(command: Command) -> tuple[Command, DictConfig]:
    """The command as it runs with fast weights, and its config.

    `+fst=default` is added if neither an override nor the config file itself chooses an fst config group. Raises
    ValueError with Hydra's own message if the arguments do not compose, and if the program is not one of Hydra's.
    """
    ask = _here if command.of_verl and not _other_plugins() else _there
    grouped = command.with_group()
    try:
        return grouped, ask(grouped)
    except ValueError:
        if grouped == command:
            raise
        try:
            config = ask(command)
        except ValueError:
            config = None
        if config is None or "fst" not in config:
            raise
        return command, config  # its config file chose the group


def _other_plugins() -> bool:
    """Would verl load other packages' plug-ins, which may bring config groups?"""
    named = {entry.value for entry in entry_points(group="verl.plugins")} - {"fst_verl.plugin"}
    return bool(named or os.environ.get("VERL_USE_EXTERNAL_MODULES"))


def _here(command: Command) -> DictConfig:
    """Composes as Hydra's command line does, next to verl's main module and without it."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode

    from . import config_groups  # noqa: F401  registers them

    flags = get_args_parser().parse_args(list(command.flags))
    main = source_of(command.module)
    try:
        path = create_automatic_config_search_path(str(main), None, flags.config_path or CONFIG_PATH)
        if flags.config_dir:
            folder = os.path.abspath(flags.config_dir)
            if not os.path.isdir(folder):
                raise ValueError(f"the arguments do not compose: --config-dir={folder} is not a folder")
            path.prepend(provider="command-line", path=f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2(task_name=main.stem, config_search_path=path)
        config = hydra.compose_config(
            config_name=flags.config_name or CONFIG_NAME,
            overrides=list(command.overrides),
            run_mode=RunMode.RUN,
            with_log_configuration=False,
        )
        return hydra.get_sanitized_cfg(config, "job")
    except HydraException as error:
        raise ValueError(f"the arguments do not compose: {error}") from None
    finally:
        GlobalHydra.instance().clear()


def _there(command: Command) -> DictConfig:
    """The config that the command's own program prints with Hydra's `--cfg job`."""
    if command.module.endswith(".py") and "-m" not in command.program:
        source = Path(command.module)
    else:
        source = source_of(command.module)
    name = command.module
    if not source.is_file():
        raise ValueError(f"{name}: there is no such program from this folder ({os.getcwd()})")
    if "hydra.main" not in source.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"{name} does not use hydra.main, so its config cannot be read without running it: give verl's own"
            " arguments alone"
        )
    words = [sys.executable, *command.program, *command.flags, "--cfg", "job", *command.overrides]
    try:
        ended = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{name} --cfg job printed no config within {PATIENCE_S:.0f} s") from None
    if ended.returncode:
        end = "\n".join(ended.stderr.strip().splitlines()[-5:])
        raise ValueError(f"the arguments do not compose: {name} --cfg job ended with {ended.returncode}:\n{end}")
    return _read(ended.stdout, name)


def _read(text: str, name: str) -> DictConfig:
    """The config at the end of what a program printed; its imports may have printed something before."""
    import yaml

    lines = text.splitlines(keepends=True)
    for start in range(len(lines)):
        try:
            found: Any = OmegaConf.create("".join(lines[start:]))
        except (yaml.YAMLError, ValueError):
            continue
        if not isinstance(found, DictConfig):
            continue
        if lacking := [node for node in NODES if node not in found]:
            message = f"{name} --cfg job printed no config of verl's RL trainers: it lacks {', '.join(lacking)}"
            raise ValueError(message)
        OmegaConf.set_struct(found, True)
        return found
    raise ValueError(f"{name} --cfg job printed no config")


def source_of(module: str) -> Path:
    """Where a module's source is, seen from this folder as `python -m` sees it. Imports nothing. Raises ImportError if
    its top package is not installed."""
    top, *rest = module.split(".")
    found = PathFinder.find_spec(top, [os.getcwd(), *sys.path])
    if found is None:
        raise ImportError(f"no module named {top!r}", name=top)
    if not rest:
        return Path(found.origin or "")
    folder = Path(next(iter(found.submodule_search_locations or [""])))
    return folder.joinpath(*rest).with_suffix(".py")
