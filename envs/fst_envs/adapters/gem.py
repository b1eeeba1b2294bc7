"""Tasks of GEM (gem-llm), multi-turn: `gymnasium.make("fst_envs:fst/Gem-v0", task="game:GuessTheNumber-v0-easy")`.

GEM returns Gymnasium's five values but has no spaces, seeds the global generators and also ends by truncation. Its text
after a turn is both the next observation and the feedback. Rewards are GEM's own, per turn; some are below 0.

Caveat: games whose opening text hides what differs (such as a number to guess) have few distinct `task_id`s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import WINDOW, EnvironmentFault, ReasoningEnv, split_seed
from ..names import unknown_task
from .common import USES_GLOBAL_RNG, library, seed_global

REFUSED: Mapping[str, str] = {
    "code": "it runs the program that the model wrote",
    "rg": "reasoning-gym's scorers evaluate what the model wrote: use fst/ReasoningGym-v0, which keeps them apart",
    "math": "its grader can't be killed if it hangs: use fst/Polaris-v0 on a file of the problems",
    "eval": "it is for evaluation, and some of its graders run or hang on what the model wrote",
}


def tasks() -> list[str]:
    """The names of all tasks that can be played. Raises DependencyNotInstalled without the library."""
    library("gem.envs", "gem", "fst/Gem-v0")  # registers the tasks
    known = library("gem.envs.registration", "gem", "fst/Gem-v0").ENV_REGISTRY
    return [name for name in known if name.partition(":")[0] not in REFUSED]


class Gem(ReasoningEnv):
    """One task of GEM.

    task: GEM's id of it.
    config: arguments of GEM's environment, besides those of the id.
    split, size: as in `ReasoningEnv`.

    Raises DependencyNotInstalled without the library, ValueError for a task that is refused or unknown.
    """

    metadata = USES_GLOBAL_RNG

    def __init__(self, task: str, config: Mapping[str, Any] | None = None, split: str = "train", size: int = WINDOW):
        super().__init__(split=split, size=size)
        if task.partition(":")[0] in REFUSED:
            raise ValueError(f"task={task!r} is refused: {REFUSED[task.partition(':')[0]]}")
        self._gem = library("gem", "gem", "fst/Gem-v0")
        if task not in (known := tasks()):
            raise ValueError(unknown_task(task, known, "GEM", "fst/Gem-v0"))
        self.task, self.config = task, dict(config or {})
        self._inner: Any = None

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        seed = split_seed(split, index)
        try:
            seed_global(seed)
            self._inner = self._gem.make(self.task, **self.config)
            said, info = self._inner.reset(seed=seed)
        except Exception as e:  # no model has written anything yet
            raise EnvironmentFault(f"GEM could not set up {self.task} with {self.config}: {e!r:.300}") from e
        return _with_suffix(said, info), {"source": f"gem/{self.task}"}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        said, reward, terminated, truncated, info = self._inner.step(text)
        if terminated or truncated:
            feedback = "" if "TERMINAL_STATE" in said else said  # GEM's mark for "nothing to say"
            return "", float(reward), True, feedback
        return _with_suffix(said, info), float(reward), False, said


def _with_suffix(said: str, info: Mapping[str, Any]) -> str:
    return f"{said}\n{info['suffix']}" if info.get("suffix") else said
