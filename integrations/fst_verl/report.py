"""What `fst check` says about a command."""

from __future__ import annotations

import os
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from fst_plugin import config as core
from fst_plugin.config import ConfigProblem, FSTConfig
from fst_plugin.prompts import shown
from fst_plugin.secrets import redact, without_secrets

from . import check, inputs, resolved, support
from .command_line import Command
from .composing import complete


@dataclass(frozen=True)
class Looked:
    """What a look at a command found; nothing was started.

    command: with `+fst=default` where it was missing. config: as its trainer would see it.
    fst: its validated settings, at their default where a value cannot be used.
    problems: what is wrong. notes: what is worth knowing, one line each.
    """

    command: Command
    config: DictConfig
    fst: FSTConfig
    problems: list[ConfigProblem]
    notes: list[str]

    def show(self, console: Console) -> None:
        """Prints the fst config, and what its unset keys come to."""
        node = without_secrets(OmegaConf.to_container(self.config.fst))
        text = OmegaConf.to_yaml(OmegaConf.create({"fst": node}))
        console.print(shown(text), markup=False, highlight=False, soft_wrap=True)
        if not self.fst.enabled:
            return
        console.print("unset keys come to:", markup=False)
        for key, words in resolved.unset_keys(self.fst, self.config).items():
            console.print(f"  {key}: {shown(redact(words))}", markup=False, highlight=False, soft_wrap=True)

    def say(self, console: Console) -> None:
        """Prints notes, problems and how many there are."""
        for line in self.notes:
            console.print(shown(redact(line)), style="yellow", markup=False, soft_wrap=True)
        for problem in self.problems:
            console.print(f"- {shown(redact(str(problem)))}", style="red", markup=False, soft_wrap=True)
        found = len(self.problems)
        console.print("[red]" + f"{found} problem(s)" if found else "[green]no problems")


def look(command: Command) -> Looked:
    """Everything that can be known of a command without starting it. Raises ValueError if its main module goes without
    fast weights, and if its config does not compose or is not one of verl's RL trainers."""
    if refused := support.refused_module(command.module):
        raise ValueError(str(refused[0]))
    full, config = complete(command)
    try:
        return _look(full, config, command)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "the config"
        raise ValueError(f"{key}: {str(error).splitlines()[0]}") from None


def _look(full: Command, config: DictConfig, command: Command) -> Looked:
    found = check.problems(config, command.module)
    try:
        fst, _ = core.inspect(check.node(config))
    except core.ConfigError:
        fst = core.DEFAULTS
    found += inputs.problems(config, fst, os.environ)
    found += check.environment(config)
    notes = [] if full == command else ["+fst=default is not among the arguments: without it the run is plain verl"]
    return Looked(full, config, fst, list(dict.fromkeys(found)), [*notes, *_notes(command, config, fst)])


def _notes(command: Command, config: DictConfig, fst: FSTConfig) -> list[str]:
    found = [f"left out, as it only starts python: {' '.join(command.launcher)}"] if command.launcher else []
    if fst.enabled and (untested := support.untested(config, command.module)):
        found.append(f"accepted, and untested here: {', '.join(untested)}")
    return found
