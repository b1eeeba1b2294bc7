"""A scripted world to measure fast phases on: hidden rules that only feedback reveals, and a policy that follows the
rules in its prompt most of the time.

Invariant: everything in it is a function of (seed, prompt, problem); no model runs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fst_plugin.config import parse
from fst_plugin.evolve import ReflectiveOptimizer
from fst_plugin.policy import Policy
from fst_plugin.prompts import Prompt
from fst_plugin.reflection import Reflection
from fst_plugin.rollouts import Cell, Problem, Rollout, problem_id

SEED_TEXT = "You are a helpful assistant."
WORDS = (
    "invoice parcel ticket refund letter folder report budget contract receipt memo calendar ledger stamp envelope"
    " notice permit badge voucher coupon docket manual survey form"
).split()


class World:
    """The world of one rule book.

    seed: of the rule book.
    words: number of hidden rules.
    reliability: chance of a right answer with the rule in the prompt.
    luck: chance of a right answer without it.
    holds: number of rules that the policy reads: the last ones in its prompt.
    """

    def __init__(self, seed: int, words: int = 24, reliability: float = 0.8, luck: float = 0.05, holds: int = 24):
        self.seed, self.words, self.reliability, self.luck, self.holds = seed, words, reliability, luck, holds
        rng = random.Random(f"book-{seed}")
        self.rules = {w: f"Write {w} as {rng.choice('ABCDE')}{rng.randint(1, 5)}." for w in WORDS[:words]}

    def problems(self, n: int, part: str) -> list[Problem]:
        rng = random.Random(f"{part}-{self.seed}")
        found = []
        for i in range(n):
            messages = ({"role": "user", "content": f"{part} {i}: {self.question(rng)}"},)
            found.append(Problem(problem_id(messages), messages))
        return found

    def question(self, rng: random.Random) -> str:
        return f"what is the code for the {rng.choice(list(self.rules))}"

    def chance(self, prompt: str, problem: Problem) -> float:
        word = str(problem.messages[-1]["content"]).rsplit(" ", 1)[1]
        read = [line for line in prompt.splitlines() if line.startswith("Write ")][-self.holds :]
        return self.reliability if self.rules[word] in read else self.luck

    def roll(self, prompt: str, problem: Problem, sample: int = 0) -> Rollout:
        word = str(problem.messages[-1]["content"]).rsplit(" ", 1)[1]
        draw = random.Random(f"{self.seed}-{prompt}-{problem.id}-{sample}").random()
        right = draw < self.chance(prompt, problem)
        return Rollout(float(right), "an answer", "Correct." if right else f"Wrong. {self.rules[word]}")

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        return [self.roll(cell.prompt.text, cell.problem) for cell in cells]

    def value(self, prompt: str) -> float:
        """Expected reward over problems of all rules, equally weighted."""
        read = [line for line in prompt.splitlines() if line.startswith("Write ")][-self.holds :]
        known = sum(rule in read for rule in self.rules.values())
        return (known * self.reliability + (self.words - known) * self.luck) / self.words


def seed_prompt() -> Prompt:
    return Prompt(SEED_TEXT)


def gepa(reflection: Reflection, *, max_tokens: int, **fast: Any) -> ReflectiveOptimizer:
    """The shipped optimizer at K = 4 (paper §settings) with these settings of `fst.fast`."""
    return ReflectiveOptimizer(reflection, parse({"population": 4, "fast": fast}), Policy(max_tokens))
