"""Environments that fail on purpose: `faulty_envs:faulty/Guess-v0`."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import gymnasium as gym
from fst_envs import ReasoningEnv, split_seed

LUCK = random.Random(0)  # of the world, not of an environment
made: list[Guess] = []  # in this process


class Guess(ReasoningEnv):
    """Guess a number with hints; reward 1 when it is found. Reading anything but a number raises.

    fails: share of calls (constructor, reset, step) that raise. error: "offline" (OSError) or "odd" (RuntimeError).
    hang, crash: a file; while it is there, the next step deletes it and loops for ever or ends the process.
    drift: every environment hints differently. sleep_s: a step blocks for so long.
    """

    def __init__(self, fails=0.0, error="offline", hang=None, crash=None, drift=False, sleep_s=0.0, bound=100):
        super().__init__()
        self.fails, self.error, self.hang, self.crash, self.sleep_s = fails, error, hang, crash, sleep_s
        self.bound, self.name, self.steps, self.closed = bound, f"{len(made)}: " if drift else "", 0, False
        made.append(self)
        self._luck()

    def _luck(self):
        if LUCK.random() < self.fails:
            raise ConnectionError("the server is down") if self.error == "offline" else RuntimeError("odd")

    def load(self, index, split):
        self._luck()
        self.number = random.Random(split_seed(split, index)).randrange(self.bound)
        return f"Guess number {split} {index} below {self.bound}.", {"answer": self.number, "pid": os.getpid()}

    def respond(self, text):
        self._luck()
        self.steps += 1
        time.sleep(self.sleep_s)
        for path, act in ((self.hang, self._hang), (self.crash, os._exit)):
            if path and Path(path).exists():
                Path(path).unlink()
                act(1)
        guess = int(text)
        if guess == self.number:
            return "", 1.0, True, f"Correct after {self.steps} guesses."
        hint = f"{self.name}{guess} is too {'low' if guess < self.number else 'high'}."
        return hint, 0.0, False, hint

    def _hang(self, _):
        while True:
            pass

    def close(self):
        self.closed = True


gym.register("faulty/Guess-v0", entry_point="faulty_envs:Guess")
