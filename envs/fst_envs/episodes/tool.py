"""An environment as a tool that the model calls, for trainers that play several turns this way, such as TRL's.

Such a trainer makes one object a rollout, calls `reset` with the columns of the row, offers the model the methods that
have docstrings, and reads the outcome off the object once the model has ended its turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import EnvironmentFault
from ..instances import Instance
from .episode import BlockingEpisode, run


class AnswerTool:
    """One episode: the question is in the row's prompt, and each answer is a call of the tool `answer`.

    After `reset`: `reward` is the sum so far, `feedback` what was said last, `done` whether the episode is over, and
    `broken` whether the environment failed, so that the reward means nothing.
    """

    def __init__(self) -> None:
        self._episode: BlockingEpisode | None = None

    def reset(self, extra_info: Mapping[str, Any], **row: Any) -> None:
        """Starts the episode that a row's `extra_info` names. Raises EnvironmentFault if it is another one now."""
        named = Instance.of(extra_info)
        if self._episode is not None:
            run(self._episode.close())
        self._episode = BlockingEpisode(named.env_id, named.env_kwargs)
        _, info = run(self._episode.reset(named.index, named.split))
        named.expect(info["task_id"])
        self.reward, self.feedback, self.done, self.broken = 0.0, "No answer was given.", False, False

    def answer(self, text: str) -> str:
        """
        Gives an answer to the question.

        Args:
            text: The answer.

        Returns:
            What is said to it.
        """
        if self.done or self._episode is None:
            return "The question is closed."
        try:
            observation, reward, terminated, truncated, info = run(self._episode.step(text))
        except EnvironmentFault:
            self.done = self.broken = True
            raise
        self.reward, self.feedback, self.done = self.reward + reward, info["feedback"], terminated or truncated
        return observation or info["feedback"]
