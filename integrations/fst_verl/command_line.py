"""A user's verl command, as typed: what python runs, Hydra's arguments, and what stood before python."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

MAIN = ("-m", "verl.trainer.main_ppo")
"""What python runs if only arguments are given."""

GROUP = "+fst=default"
"""What turns fast weights on, where a command does not."""

FLAGS = ("config_path", "config_name", "config_dir")
"""Hydra's flags that say where the config is."""
OTHER_FLAGS = {
    # Hydra's other flags: what they make of a command, which is not one run
    "multirun": "sweeps over several runs",
    "experimental_rerun": "takes its config from an earlier run",
    "cfg": "only prints the config",
    "info": "only prints about Hydra",
    "help": "only prints its help",
    "hydra_help": "only prints its help",
    "shell_completion": "only sets up the shell",
}

_PYTHON = re.compile(r"(.*/)?python(3(\.\d+)?)?$")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_WITH_VALUE = ("-X", "-W")
_SEVERAL = {"torchrun", "torch.distributed.run", "torch.distributed.launch", "accelerate", "deepspeed"}
_SEVERAL |= {"mpirun", "mpiexec"}
"""What starts several processes of a program."""


@dataclass(frozen=True)
class Command:
    """One command.

    overrides: `key=value` words, each as typed.
    flags: Hydra's flags that say where the config is, as `--config-name=...`.
    program: of the interpreter: its own flags, then `-m module` or a script.
    environment: variables that stand before it.
    launcher: words before the interpreter that start it, such as `uv run`; never carried out.
    """

    overrides: tuple[str, ...]
    flags: tuple[str, ...] = ()
    program: tuple[str, ...] = MAIN
    environment: Mapping[str, str] = field(default_factory=dict)
    launcher: tuple[str, ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> Command:
        """`[VARIABLE=value ...] [launcher] python [flags] (-m module | script.py) arguments`, or the arguments alone.

        Raises ValueError for what starts several processes, sweeps, names no program, or Hydra's own command line
        does not take.
        """
        words = tuple(words)
        _refuse_several(words)
        start = next((i for i, word in enumerate(words) if _PYTHON.match(word) and _program(words[i + 1 :])), None)
        if start is None:
            _refuse_other_programs(words)
            return cls(*_arguments(words))
        end = start + 1 + _program(words[start + 1 :])
        assigned = [word for word in words[:start] if _ASSIGNMENT.match(word)]
        launcher = tuple(word for word in words[:start] if word not in assigned and word != "env")
        overrides, flags = _arguments(words[end:])
        environment = dict(word.split("=", 1) for word in assigned)
        return cls(overrides, flags, words[start + 1 : end], environment, launcher)

    @property
    def module(self) -> str:
        """Its main module, or its script."""
        return self.program[-1]

    @property
    def of_verl(self) -> bool:
        """Does it run verl's own main module?"""
        return self.program[-2:] == MAIN

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the program, in the order that Hydra's command line asks for."""
        return (*self.flags, *self.overrides)

    @classmethod
    def take(cls, words: Sequence[str]) -> Command:
        """`parse`, and sets the command's variables in this process and what it starts."""
        command = cls.parse(words)
        os.environ.update(command.environment)
        return command

    def with_overrides(self, overrides: Sequence[str]) -> Command:
        return replace(self, overrides=tuple(overrides))

    def with_group(self) -> Command:
        """The command, with `GROUP` if none of its overrides chooses an fst config group."""
        named = any(word.lstrip("+").startswith("fst=") for word in self.overrides)
        return self if named else self.with_overrides((GROUP, *self.overrides))


def key_of(override: str) -> str:
    """The config key that an override sets: `+a.b=1` -> `a.b`."""
    return override.lstrip("+~").partition("=")[0]


def _program(words: Sequence[str]) -> int:
    """How many words after `python` say what it runs; 0 if they do not."""
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] != "-m":
        if words[place] == "-c":
            return 0
        place += 2 if words[place] in _WITH_VALUE else 1
    if words[place : place + 1] == ("-m",):
        return place + 2 if len(words) > place + 1 else 0
    return place + 1 if place < len(words) and words[place].endswith(".py") else 0


def _refuse_several(words: Sequence[str]) -> None:
    """Raises ValueError for a program that starts several processes of another."""
    if several := next((word for word in words if word.rpartition("/")[2] in _SEVERAL), None):
        raise ValueError(
            f"{several} starts several processes, and verl's driver is one: give `python -m verl.trainer.main_ppo ...`,"
            " or only what follows the program"
        )


def _refuse_other_programs(words: Sequence[str]) -> None:
    """Raises ValueError if a program that is not python stands where an argument would."""
    first = next((word for word in words if word.strip() and not _ASSIGNMENT.match(word)), "")
    if first and "=" not in first and not first.startswith(("-", "~")):
        raise ValueError(
            f"{first!r} is neither an argument nor python: give `python -m verl.trainer.main_ppo ...`, or only what"
            " follows the program"
        )


def _arguments(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(overrides, flags), told apart by Hydra's own parser."""
    from hydra._internal.utils import get_args_parser

    for place, word in enumerate(words, 1):
        if not word.strip():
            raise ValueError(f"argument {place} is empty, which Hydra refuses: is a variable in quotes unset?")
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    found: dict[str, Any] = vars(parser.parse_args(list(words)))
    for name, does in OTHER_FLAGS.items():
        if found[name]:
            raise ValueError(f"--{name.replace('_', '-')} {does}: leave it out, and give the arguments of one run")
    flags = tuple(f"--{name.replace('_', '-')}={found[name]}" for name in FLAGS if found[name] is not None)
    return tuple(found["overrides"]), flags


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"Hydra's command line: {message} (flags stand before all overrides, or after them)")
