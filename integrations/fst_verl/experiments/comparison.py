"""One verl command as several arms: RL alone, prompt evolution alone, FST; each with every seed, as runs of their own.

This is what `fst compare --arms` runs: the same arguments for all, so that arms differ in nothing but what
`ARM_ARGUMENTS` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fst_plugin.config import ConfigError, ConfigProblem

from .. import report
from ..command_line import Command
from ..composing import complete
from . import runner
from .runner import VerlRun

ARMS = {"rl": "RL alone", "prompts": "prompts alone", "fst": "FST"}
ALIASES = {"gepa": "prompts"}
ARM_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "rl": ("fst.enabled=false",),
    "prompts": ("trainer.critic_warmup=1000000000",),  # verl then never updates the actor
    "fst": (),
}


def parse_arms(text: str) -> tuple[str, ...]:
    """Comma-separated names of `ARMS` ("gepa" is "prompts"), each once. Raises ValueError for others."""
    names = tuple(dict.fromkeys(ALIASES.get(a.strip(), a.strip()) for a in text.split(",")))
    if unknown := sorted(set(names) - set(ARMS)):
        raise ValueError(f"--arms: {', '.join(unknown)} unknown; use some of rl, gepa, fst")
    return names


def arguments(given: Sequence[str], arm: str, seed: int, folder: Path) -> list[str]:
    """The overrides of one run. given: those of every arm, with an fst config group; `{seed}` in them stands for the
    seed."""
    given = [a.replace("{seed}", str(seed)) for a in given]
    return [
        "trainer.logger=[console,file]",
        f"data.seed={seed}",
        f"fst.seed={seed}",
        *given,
        *ARM_ARGUMENTS[arm],
        "trainer.resume_mode=disable",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
        f"hydra.run.dir={folder / 'hydra'}",
    ]


def runs(command: Command, arms: str, seeds: int, out: Path) -> list[VerlRun]:
    """Every arm with every seed, in folders of `out`. Raises ValueError for an unknown arm, and if the command does not
    compose."""
    names, found = parse_arms(arms), []
    first = command.with_overrides([word.replace("{seed}", "0") for word in command.overrides])
    if complete(first)[0] != first:
        command = command.with_group()
    for seed in range(seeds):
        for arm in names:
            folder = out.absolute() / f"{arm}_{seed}"
            overrides = arguments(command.overrides, arm, seed, folder)
            found.append(VerlRun.of(command.with_overrides(overrides), folder, arm, seed))
    return found


def problems(runs: Sequence[VerlRun]) -> list[ConfigProblem]:
    """What is wrong with the arguments, of any arm, before anything is started. Raises ValueError if they do not
    compose."""
    found: list[ConfigProblem] = []
    for one in (one for one in runs if one.seed == 0):
        looked = report.look(one.command)
        found += looked.problems
        if int(looked.config.trainer.test_freq) < 1:
            found.append(ConfigProblem("trainer.test_freq", "arms are compared by validations: set it to 1 or more"))
        if "file" not in looked.config.trainer.logger:
            found.append(ConfigProblem("trainer.logger", "figures come from verl's file logger: add file to the list"))
    return list(dict.fromkeys(found))


def run_arms(
    given: Sequence[str],
    arms: str,
    seeds: int,
    jobs: int,
    out: Path,
    on_step: Callable[[str, int, int], None] = lambda arm, seed, step: None,
) -> list[str]:
    """Runs what is not finished yet, `jobs` at a time, and returns all runs as `fst compare` takes them.

    given: a verl command, or its arguments alone.
    on_step: called with arm, seed, and the last step that was logged.
    Raises ConfigError with every problem of the
    arguments, RuntimeError if a run fails.
    """
    asked = runs(Command.take(given), arms, seeds, out)
    if found := problems(asked):
        raise ConfigError(found)
    runner.run_all(asked, jobs, lambda one: runner.run(one, lambda step: on_step(one.arm, one.seed, step)))
    return [one.spec for one in asked]
