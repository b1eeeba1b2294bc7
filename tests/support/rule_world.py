"""A scripted world for the fast phase: hidden rules that only feedback reveals, and a policy that follows the rules in
its prompt most of the time. Everything in it is a function of (seed, prompt, problem)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from fst_plugin.config import parse
from fst_plugin.evolve import ReflectiveOptimizer
from fst_plugin.policy import Policy
from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Cell, Problem, Rollout, Trace, problem_id

WORDS = "invoice parcel ticket refund letter folder report budget contract receipt memo calendar".split()
SEED = "You are a helpful assistant."


def make_problems(n: int, seed: int = 0) -> list[Problem]:
    rng = random.Random(seed)
    problems = []
    for i in range(n):
        messages = ({"role": "user", "content": f"{i}: what is the code for the {rng.choice(WORDS)}"},)
        problems.append(Problem(problem_id(messages), messages))
    return problems


def rule_of(problem: Problem, book: int = 0) -> str:
    word = problem.messages[-1]["content"].rsplit(" ", 1)[1]
    code = random.Random(f"{book}-{word}").choice("ABCDE") + str(random.Random(f"{word}-{book}").randint(1, 5))
    return f"Write {word} as {code}."


def all_rules(book: int = 0) -> set[str]:
    return {rule_of(p, book) for p in make_problems(400)}


def seed_population() -> Population:
    return Population((Prompt(SEED),))


class World:
    """`evaluate` of the scripted world.

    reliability: chance that a rule in the prompt is followed. luck: chance of the right answer without it. holds: only
    so many of a prompt's last rules are read. batches: what was asked, per call.
    """

    def __init__(self, reliability: float = 1.0, luck: float = 0.0, holds: int = 99, book: int = 0, seed: int = 0):
        self.reliability, self.luck, self.holds, self.book, self.seed = reliability, luck, holds, book, seed
        self.batches: list[list[Cell]] = []

    @property
    def rollouts(self) -> int:
        return sum(map(len, self.batches))

    def __call__(self, cells: Sequence[Cell]) -> list[Rollout]:
        self.batches.append(list(cells))
        return [self.roll(cell) for cell in cells]

    def roll(self, cell: Cell) -> Rollout:
        rule = rule_of(cell.problem, self.book)
        read = [line for line in cell.prompt.text.splitlines() if line.startswith("Write ")][-self.holds :]
        chance = self.reliability if rule in read else self.luck
        right = random.Random(f"{self.seed}-{cell.prompt.digest}-{cell.problem.id}").random() < chance
        return Rollout(float(right), "answer", "Correct." if right else f"Wrong. {rule}")

    def value(self, prompt: Prompt, n: int = 300) -> float:
        """Mean score on problems that no fast phase sees."""
        return sum(self.roll(Cell(prompt, p)).score for p in make_problems(n, seed=12345)) / n


class NothingBetter(World):
    """Half of the problems are solved under the first prompt, and none under another one."""

    def roll(self, cell):
        solved = cell.prompt.text == SEED and int(cell.problem.id, 16) % 2
        return replace(super().roll(cell), score=float(solved))


def gepa(reflection, *, k=4, log=None, status=None, max_reflection_failures=None, policy=None, **fast):
    """The shipped optimizer with these settings of `fst.fast`; K is k."""
    config = {"population": k, "fast": fast}
    if max_reflection_failures is not None:
        config["reflection"] = {"max_failures": max_reflection_failures}
    hooks = {name: hook for name, hook in (("log", log), ("status", status)) if hook is not None}
    return ReflectiveOptimizer(reflection, parse(config), policy or Policy(), **hooks)


class Scripted:
    """A reflection that says what it is told to. answer: of (request) -> text, None, or an exception to raise."""

    def __init__(self, answer):
        self.answer, self.requests, self.batches = answer, [], 0

    def propose(self, requests):
        self.requests += requests
        self.batches += 1
        answers = [self.answer(r) if callable(self.answer) else self.answer for r in requests]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def describe(self):
        return "scripted"


def variant(request):
    """A prompt that states no rule."""
    return f"Variant {request.seed} {request.slot}"


def phase(world, reflection=None, population=None, *, n=48, budget=240, seed=0, cycle=0, **settings):
    optimizer = gepa(reflection or OfflineReflection(), **{"k": 4, "budget": budget, **settings})
    return optimizer.evolve(population or seed_population(), make_problems(n), world, cycle=cycle, seed=seed)


def slow_traces(world, population, problems):
    """Two rollouts of every carried prompt on every problem, as a slow phase leaves them."""
    return [Trace(p, {c.digest: replace(world.roll(Cell(c, p)), of=2) for c in population.prompts}) for p in problems]
