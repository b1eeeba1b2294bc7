"""An OpenEnv environment for the tests: guess a digit, three tries; "sleep" makes it sleep."""

from __future__ import annotations

import random
import time

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Guess(Action):
    message: str


class Said(Observation):
    text: str = ""


class GuessEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, tries: int = 3):
        super().__init__()
        self.tries, self.digit, self.turn = tries, 0, 0

    def reset(self, seed=None, episode_id=None, **kwargs):
        random.seed(seed)
        self.digit, self.turn = random.randrange(10), 0
        return Said(text=f"Guess a digit (game {seed}).")

    def step(self, action, timeout_s=None, **kwargs):
        if action.message == "sleep":
            time.sleep(5)
        guess = int(action.message)  # ValueError: the model's fault
        self.turn += 1
        done = guess == self.digit or self.turn == self.tries
        metadata = {"feedback": f"It was {self.digit}."} if done else {}
        return Said(
            text="higher" if guess < self.digit else "lower",
            done=done,
            reward=float(guess == self.digit),
            metadata=metadata,
        )

    @property
    def state(self):
        return State()


def serve(port: int) -> None:
    import uvicorn
    from openenv.core.env_server import create_fastapi_app

    uvicorn.run(create_fastapi_app(GuessEnvironment, Guess, Said, max_concurrent_envs=8), port=port, log_level="error")


if __name__ == "__main__":
    import sys

    serve(int(sys.argv[1]))
