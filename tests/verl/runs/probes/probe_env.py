"""An environment of a user for these tests: three turns, a reward that no reward function gives, a record."""

import json
import os

import gymnasium as gym
from fst_envs import EnvironmentFault, ReasoningEnv

TURNS = 3


class Probe(ReasoningEnv):
    """Every text of a turn is worth 10 and a bit for its length; problems in `broken` fail in their second turn."""

    def __init__(self, broken=()):
        super().__init__(size=64)
        self.broken, self.index, self.split_name, self.texts = tuple(broken), -1, "", []

    def load(self, index, split):
        self.index, self.split_name, self.texts = index, split, []
        return f"{split} {index}?", {}

    def respond(self, text):
        self.texts.append(text)
        if self.index in self.broken and self.split_name == "train" and len(self.texts) == 2:
            self._record(fault=True)
            raise EnvironmentFault("the server is gone")
        done = len(self.texts) == TURNS
        if done:
            self._record(fault=False)
        return "More<|im_end|>?", 10 + len(text) / 100, done, f"Sum {self.index}."

    def _record(self, **more):
        entry = {"index": self.index, "split": self.split_name, "texts": self.texts, **more}
        with open(os.path.join(os.environ["PROBE_DIR"], "episodes.jsonl"), "a") as file:
            file.write(json.dumps(entry) + "\n")


gym.register("test/Probe-v0", entry_point=Probe)
