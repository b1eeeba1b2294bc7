"""One verl command as several arms: RL alone, prompt evolution alone, FST; each with every seed, as runs of their own.

`Comparison` is what `fst compare --arms` runs: the same arguments for all, so that arms differ in nothing but what
`ARM_ARGUMENTS` says. A finished run is not repeated; one that was cut off begins anew, its folder moved aside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fst_plugin.config import ConfigError, ConfigProblem
from fst_plugin.record.atomic import set_aside, write_json

from ..compat import MODES
from .launch import launch, run_all

ARMS = {"rl": "RL alone", "prompts": "prompts alone", "fst": "FST"}
ALIASES = {"gepa": "prompts"}
ARM_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "rl": ("fst.enabled=false",),
    "prompts": ("trainer.critic_warmup=1000000000",),  # verl then never updates the actor
    "fst": (),
}
DONE_FILE = "done.json"


@dataclass(frozen=True)
class Comparison:
    """arguments: of verl, for every arm and seed; `{seed}` in them stands for the seed. out: folder of all runs."""

    arguments: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path

    @classmethod
    def of(cls, arguments: Sequence[str], arms: str, seeds: int, out: Path) -> Comparison:
        """arms: comma-separated names of `ARMS` ("gepa" is "prompts"). Raises ValueError for others."""
        names = tuple(dict.fromkeys(ALIASES.get(a.strip(), a.strip()) for a in arms.split(",")))
        unknown = sorted(set(names) - set(ARMS))
        if unknown:
            raise ValueError(f"--arms: {', '.join(unknown)} unknown; use some of rl, gepa, fst")
        return cls(tuple(arguments), names, tuple(range(seeds)), out.absolute())

    @property
    def runs(self) -> list[tuple[str, int]]:
        return [(arm, seed) for seed in self.seeds for arm in self.arms]

    def folder(self, arm: str, seed: int) -> Path:
        return self.out / f"{arm}_{seed}"

    def command(self, arm: str, seed: int) -> list[str]:
        """verl's arguments of one run."""
        folder, given = self.folder(arm, seed), [a.replace("{seed}", str(seed)) for a in self.arguments]
        named = any(a.lstrip("+").startswith("fst=") for a in given)
        mode = dict(a.lstrip("+").split("=", 1) for a in given if "=" in a).get("trainer.v1.trainer_mode", "sync")
        drift = arm == "rl" and any(a.lstrip("+").lower() == "fst.drift=true" for a in given)
        return [
            *([] if named else ["+fst=default"]),
            "trainer.logger=[console,file]",
            f"data.seed={seed}",
            f"fst.seed={seed}",
            *given,
            *ARM_ARGUMENTS[arm],
            *([f"trainer.v1.trainer_mode={MODES.get(mode, mode)}"] if drift else []),
            "trainer.resume_mode=disable",
            f"trainer.default_local_dir={folder / 'checkpoints'}",
            f"hydra.run.dir={folder / 'hydra'}",
        ]

    def problems(self) -> list[ConfigProblem]:
        """What is wrong with the arguments, of any arm, before anything is started. Raises ValueError where they do
        not compose."""
        from .. import check

        found: list[ConfigProblem] = []
        for arm in self.arms:
            config = check.compose([a for a in self.command(arm, self.seeds[0]) if not a.startswith("hydra.")])
            found += [*check.problems(config), *check.environment(config)]
            if int(config.trainer.test_freq) < 1:
                found.append(
                    ConfigProblem("trainer.test_freq", "arms are compared by validations: set it to 1 or more")
                )
            if "file" not in config.trainer.logger:
                found.append(
                    ConfigProblem("trainer.logger", "figures come from verl's file logger: add file to the list")
                )
        return list(dict.fromkeys(found))

    def finished(self, arm: str, seed: int) -> bool:
        """Raises RuntimeError where the folder holds a finished run with other arguments."""
        path = self.folder(arm, seed) / DONE_FILE
        if not path.exists():
            return False
        if json.loads(path.read_text(encoding="utf-8"))["arguments"] != self.command(arm, seed):
            raise RuntimeError(f"{path} is of a run with other arguments: move the folder away, or give another --out")
        return True

    def run(self, jobs: int, on_step: Callable[[str, int, int], None] = lambda arm, seed, step: None) -> list[str]:
        """Runs what is not finished yet, `jobs` at a time, and returns all runs as `fst compare` takes them.

        Raises ConfigError with every problem of the arguments; RuntimeError where a run fails.
        """
        if problems := self.problems():
            raise ConfigError(problems)
        waiting = [run for run in self.runs if not self.finished(*run)]

        def one(run: tuple[str, int]) -> None:
            arm, seed = run
            command, folder = self.command(arm, seed), self.folder(arm, seed)
            if folder.exists():
                set_aside(folder)
            launch(command, folder, lambda step: on_step(arm, seed, step))
            write_json(folder / DONE_FILE, {"arguments": command})

        run_all([partial(one, run) for run in waiting], jobs)
        return [f"{arm}_{seed}={self.folder(arm, seed)}" for arm, seed in self.runs]
