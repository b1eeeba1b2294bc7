"""Your own environment in one file: write two hooks, register an id, and train on it.

    PYTHONPATH=examples python examples/own_environment.py

Wherever an environment id is expected, "own_environment:demo/Reverse-v0" works if this file can be imported.
"""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
from fst_envs import ReasoningEnv, split_seed


class Reverse(ReasoningEnv):
    """Write a word backwards, in capital letters. Only feedback says that the letters must be capital."""

    def __init__(self, length: int = 5, split: str = "train", size: int = 10_000):
        super().__init__(split=split, size=size)
        self.length, self.gold = length, ""

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        word = "".join(random.Random(split_seed(split, index)).choices("abcdefghij", k=self.length))
        self.gold = word[::-1].upper()
        return f"Write {word} backwards.", {"answer": self.gold}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        answer = text.strip()
        if answer == self.gold:
            return "", 1.0, True, "Correct."
        if answer.upper() == self.gold:
            return "", 0.0, True, "The answer must be written in capital letters."
        return "", 0.0, True, "The answer must hold nothing but the letters of the word, in reverse order."


if "demo/Reverse-v0" not in gym.registry:  # when run as a script, this file is also imported by its id
    gym.register("demo/Reverse-v0", entry_point="own_environment:Reverse")


def main() -> None:
    env = gym.make("own_environment:demo/Reverse-v0", length=4)
    for answer in ("dcba", None):
        question, info = env.reset(options={"index": 0, "split": "train"})
        _, reward, _, _, said = env.step(answer or info["answer"])
        print(f"{question!r} -> {answer or info['answer']!r}: reward {reward}, feedback {said['feedback']!r}")


if __name__ == "__main__":
    main()
