"""Single-player games of TextArena: `gymnasium.make("fst_envs:fst/TextArena-v0", task="GuessTheNumber-v0")`.

A game tells that it is over and what it pays only when it is closed, and draws from the global generators. Its wrappers
for observations are left out: the chat that the training keeps is the history. What the game says after a move is both
the next observation and the feedback; at the end its reason is added. The reward comes at the end and is TextArena's
own: many games pay for part of the way, even where an invalid move ended them.
Caveat: games whose opening text hides what differs (a number to guess) have few distinct `task_id`s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import WINDOW, EnvironmentFault, ReasoningEnv, split_seed
from .common import USES_GLOBAL_RNG, library, seed_global

REFUSED: Mapping[str, str] = dict.fromkeys(("TwentyQuestions", "GuessWho"), "a language model on the network answers")


class TextArena(ReasoningEnv):
    """One game of TextArena for one player.

    task: its id there. config: arguments of the game beside those of the id.
    split, size: as in `ReasoningEnv`.

    Raises DependencyNotInstalled without the library, ValueError for a game that is refused, unknown or (at the first
    reset) for several players. Word games need nltk's word lists on the disk: EnvironmentFault without.
    """

    metadata = USES_GLOBAL_RNG

    def __init__(self, task: str, config: Mapping[str, Any] | None = None, split: str = "train", size: int = WINDOW):
        super().__init__(split=split, size=size)
        if task.partition("-v")[0] in REFUSED:
            raise ValueError(f"task={task!r} is refused: {REFUSED[task.partition('-v')[0]]}")
        self._arena = library("textarena", "textarena", "fst/TextArena-v0")
        known = library("textarena.envs.registration", "textarena", "fst/TextArena-v0").ENV_REGISTRY
        if task not in known:
            raise ValueError(f"task={task!r} is none of TextArena's: {', '.join(known)}")
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
        except Exception as e:  # no model has said anything yet
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
        if isinstance(reward, str):  # some games swap the two where a move is invalid
            reward, reason = 0.0, reward
        return "", float(reward), True, "\n".join(filter(None, [said, reason]))

    def _said(self) -> str:
        """What the game said since the last look; not the player's own words."""
        own = self._arena.ObservationType.PLAYER_ACTION  # not always in its place
        return "\n".join(str(message[1]) for message in self._inner.get_observation()[1] if own not in message)
