"""Environments of skyrl-gym over rows of a file: `gymnasium.make("fst_envs:fst/SkyRLGym-v0", task="gsm8k", file=F)`.

skyrl-gym holds no data. A row of the file has "prompt" (a chat) and whatever else the environment needs ("reward_spec",
"extra_info", ...), as SkyRL's own data sets do. The chat's messages are the question. Feedback is what the environment
says after a turn, and the values of its metadata. The environment is always set up with seed 0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ..base import EnvironmentFault
from ..files.data_files import FileEnv, Record, Source
from .common import USES_GLOBAL_RNG, library, seed_global

REFUSED: Mapping[str, str] = {
    "lcb": "it runs the program that the model wrote",
    "rlm": "it runs the program that the model wrote",
    "searchcode": "it runs the program that the model wrote",
    "search": "it shows its server's failures to the model and scores them",
    "text2sql": "it runs the query that the model wrote, on a database that may be written to",
}


class SkyRLGym(FileEnv):
    """One environment of skyrl-gym.

    task: skyrl-gym's id of it, or "module:Class".
    file, split: as in `FileEnv`.
    config: its `env_config`.

    Raises DependencyNotInstalled without the library, ValueError for a task that is refused or unknown.
    """

    metadata = USES_GLOBAL_RNG
    needs = ("prompt",)

    def __init__(self, task: str, file: Source, config: Mapping[str, Any] | None = None, split: str = "train"):
        if task in REFUSED:
            raise ValueError(f"task={task!r} is refused: {REFUSED[task]}")
        self._gym = library("skyrl_gym", "skyrl-gym", "fst/SkyRLGym-v0")
        if task not in self._gym.registry and ":" not in task:
            known = [name for name in self._gym.registry if name not in REFUSED]
            raise ValueError(
                f"task={task!r} is not a task of skyrl-gym: use one of {', '.join(known)}, or 'module:Class'"
            )
        self._spec = self._gym.envs.registration.EnvSpec(id=task, entry_point=task) if ":" in task else task
        self._config = library("omegaconf", "skyrl-gym", "fst/SkyRLGym-v0").OmegaConf.create(dict(config or {}))
        self._inner: Any = None
        self.task = task
        super().__init__(file=file, split=split)

    def ask(self, row: Record) -> tuple[str, dict[str, Any]]:
        extras = copy.deepcopy({key: value for key, value in row.items() if key != "prompt"})
        try:
            seed_global(0)
            self._inner = self._gym.make(self._spec, env_config=self._config, extras=extras)
            messages, _ = self._inner.init(copy.deepcopy(row["prompt"]))
        except Exception as e:  # no model has written anything yet
            raise EnvironmentFault(f"skyrl-gym could not set up {self.task}: {e!r}") from e
        return _text(messages), {"source": f"skyrl_gym/{self.task}"}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        result = self._inner.step(text)
        said, reward, done = _text(result["observations"]), float(result["reward"]), bool(result["done"])
        values = [f"{key}: {value}" for key, value in (result["metadata"] or {}).items() if value is not None]
        return "" if done else said, reward, done, "\n".join(filter(None, [said, *values]))


def _text(messages: list[dict[str, str]]) -> str:
    return "\n".join(str(message["content"]) for message in messages)
