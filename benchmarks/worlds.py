"""The worlds that a search is judged on: like `rule_world.World`, each hard in another way.

rules add up     one rule a problem (today's benchmark world)
three at once    a problem is solved only if three rules are followed; without them now and then by luck
mostly 0         the same without luck: no reward before a problem's three rules are all there
graded           the reward is the share of a problem's three rules that are followed
rivals           every rule makes another one less reliable: more rules are not better
rewritten        rules add up, but a reflection writes the prompt anew and forgets two lines of five
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rule_world import World

from fst_plugin.prompts import Prompt
from fst_plugin.reflection import OfflineReflection, ReflectionRequest
from fst_plugin.rollouts import Problem, Rollout


class Combined(World):
    """A problem asks for several words, and is answered right if each word's rule is followed.

    needs: words a problem asks for.
    graded: the reward is the share of them that are right, else 1 if all are.
    rivals: a rule in the prompt makes another one (its rival) this much less reliable.
    """

    def __init__(self, seed: int, *, needs: int = 3, graded: bool = False, rivals: float = 0.0, **more: Any):
        super().__init__(seed, **more)
        self.needs, self.graded, self.rivals = needs, graded, rivals
        words = list(self.rules)
        random.Random(f"rivals-{seed}").shuffle(words)
        self.rival = dict(zip(words, [*words[1:], words[0]], strict=True))

    def question(self, rng: random.Random) -> str:
        return f"what are the codes for {' '.join(rng.sample(list(self.rules), self.needs))}"

    def _chances(self, prompt: str, words: Sequence[str]) -> list[float]:
        read = {line for line in prompt.splitlines() if line.startswith("Write ")}
        return [
            self.reliability * (1 - self.rivals * (self.rules[self.rival[word]] in read))
            if self.rules[word] in read
            else self.luck
            for word in words
        ]

    def roll(self, prompt: str, problem: Problem, sample: int = 0) -> Rollout:
        words = str(problem.messages[-1]["content"]).split()[-self.needs :]
        rng = random.Random(f"{self.seed}-{prompt}-{problem.id}-{sample}")
        right = [rng.random() < chance for chance in self._chances(prompt, words)]
        score = sum(right) / self.needs if self.graded else float(all(right))
        wrong = [word for word, ok in zip(words, right, strict=True) if not ok]
        return Rollout(score, "an answer", f"Wrong. {self.rules[rng.choice(wrong)]}" if wrong else "Correct.")

    def value(self, prompt: str) -> float:
        """Expected reward, estimated on 500 problems that no search sees."""
        total = 0.0
        for problem in self.problems(500, "unseen"):
            chances = self._chances(prompt, str(problem.messages[-1]["content"]).split()[-self.needs :])
            product = 1.0
            for chance in chances:
                product *= chance
            total += sum(chances) / self.needs if self.graded else product
        return total / 500


class Rewriting(OfflineReflection):
    """Forgets a part of the parent's lines whenever it writes. keeps: share of them that it remembers."""

    def __init__(self, keeps: float = 0.6):
        super().__init__()
        self.keeps = keeps

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        shorter = []
        for request in requests:
            rng = random.Random(f"rewrite-{request.seed}-{request.slot}")
            both = [request.parent, *([request.mate] if request.mate else [])]
            lines = dict.fromkeys(line for prompt in both for line in prompt.text.splitlines()[1:])
            kept = {line for line in lines if rng.random() < self.keeps}  # what both say is forgotten in both
            parent, *mate = (self._remembered(prompt, kept) for prompt in both)
            shorter.append(replace(request, parent=parent, mate=mate[0] if mate else None))
        return super().propose(shorter)

    def _remembered(self, prompt: Prompt, kept: set[str]) -> Prompt:
        opening, *lines = prompt.text.splitlines()
        return replace(prompt, text="\n".join([opening, *(line for line in lines if line in kept)]))


@dataclass(frozen=True)
class Setting:
    """A world by seed, and the reflection that works in it."""

    world: Callable[[int], World]
    reflection: Callable[[], OfflineReflection] = OfflineReflection


WORLDS: dict[str, Setting] = {
    "rules add up": Setting(World),
    "three at once": Setting(lambda seed: Combined(seed, reliability=0.9, luck=0.2)),
    "mostly 0": Setting(lambda seed: Combined(seed, reliability=0.95, luck=0.0)),
    "graded": Setting(lambda seed: Combined(seed, graded=True)),
    "rivals": Setting(lambda seed: Combined(seed, needs=1, rivals=0.9)),
    "rewritten": Setting(World, Rewriting),
}
