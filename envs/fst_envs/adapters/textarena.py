"""Single-player games of TextArena: `gymnasium.make("fst_envs:fst/TextArena-v0", task="GuessTheNumber-v0")`.

A game draws from the global generators, and gives its result and reward only when it is closed. TextArena's wrappers
for observations are left out, since training keeps the chat. What the game says after a move is both the next
observation and the feedback; the feedback at the end adds the game's reason. The reward comes at the end and is
TextArena's own: many games pay for partial progress, even if an invalid move ended them.

Caveat: games whose opening text hides what differs (such as a number to guess) have few distinct `task_id`s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import WINDOW, EnvironmentFault, ReasoningEnv, split_seed
from ..names import unknown_task
from .common import USES_GLOBAL_RNG, library, seed_global

REFUSED: Mapping[str, str] = dict.fromkeys(("TwentyQuestions", "GuessWho"), "it needs a language model on the network")


def tasks() -> list[str]:
    """The names of all games, also those for several players. Raises DependencyNotInstalled without the library."""
    library("textarena", "textarena", "fst/TextArena-v0")  # registers the games
    known = library("textarena.envs.registration", "textarena", "fst/TextArena-v0").ENV_REGISTRY
    return [name for name in known if name.partition("-v")[0] not in REFUSED]


class TextArena(ReasoningEnv):
    """One game of TextArena for one player.

    task: TextArena's id of it.
    config: arguments of the game, besides those of the id.
    split, size: as in `ReasoningEnv`.

    Raises DependencyNotInstalled without the library; ValueError for a game that is refused or unknown, and at the
    first reset for one with several players; EnvironmentFault for a word game without nltk's word lists on disk.
    """

    metadata = USES_GLOBAL_RNG

    def __init__(self, task: str, config: Mapping[str, Any] | None = None, split: str = "train", size: int = WINDOW):
        super().__init__(split=split, size=size)
        if task.partition("-v")[0] in REFUSED:
            raise ValueError(f"task={task!r} is refused: {REFUSED[task.partition('-v')[0]]}")
        self._arena = library("textarena", "textarena", "fst/TextArena-v0")
        if task not in (known := tasks()):
            raise ValueError(unknown_task(task, known, "TextArena", "fst/TextArena-v0"))
        self.task, self.config = task, dict(config or {})
        self._inner: Any = None

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        seed = split_seed(split, index)
        try:
            seed_global(seed)
            self._inner = self._arena.make(self.task, **self.config)
            while isinstance(self._inner, self._arena.Wrapper):
                self._inner = self._inner.env
            self._inner.reset(num_players=1, seed=seed)
        except Exception as e:  # no model has written anything yet
            if isinstance(e, AssertionError) and "player" in str(e).lower():
                raise ValueError(f"task={self.task!r} is not a game for one player: {e}") from e
            raise EnvironmentFault(f"TextArena could not set up {self.task} with {self.config}: {e!r:.300}") from e
        if not isinstance(self._inner.state, self._arena.SinglePlayerState):
            raise ValueError(f"task={self.task!r} is not a game for one player")
        return self._said(), {"source": f"textarena/{self.task}"}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        done, _ = self._inner.step(text)
        said = self._said()
        if not done:
            return said, 0.0, False, said
        rewards, info = self._inner.close()
        reward: Any = (rewards or {}).get(0, 0.0)
        reason = str((info.get(0) or {}).get("reason") or "")
        if isinstance(reward, str):  # some games swap the two after an invalid move
            reward, reason = 0.0, reward
        return "", float(reward), True, "\n".join(filter(None, [said, reason]))

    def _said(self) -> str:
        """What the game said since the last call, without the player's own words."""
        own = self._arena.ObservationType.PLAYER_ACTION  # not always at its position in a message
        return "\n".join(str(message[1]) for message in self._inner.get_observation()[1] if own not in message)
