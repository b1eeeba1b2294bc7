"""Two controls as prompt optimizers of one's own, named by `fst.fast.path`, with this folder on the import path."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from fst_plugin import Evolution, Population
from fst_plugin.prompts import Prompt, Score
from fst_plugin.reflection.base import ReflectionRequest
from fst_plugin.reflection.offline import OfflineReflection
from fst_plugin.rewards import RewardBar
from fst_plugin.rollouts import Trace


class Static:
    """The seed prompt and others that never change: diversity without evolution. No rollouts.

    prompts: the others.
    """

    def __init__(self, prompts: Sequence[str]):
        self.prompts = tuple(prompts)

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        return Evolution(Population((population.best, *(Prompt(text) for text in self.prompts))))


class SlowOnly:
    """Evolution that is paid for by the slow phase alone: prompts are ranked by the rewards of the last slow steps, the
    better half stays, and a reflection on its failures proposes the rest. A new prompt leads only once it was trained
    under.

    size: prompts carried.
    records: most rollouts shown to one reflection.
    max_chars: longest prompt.
    """

    def __init__(self, size: int = 4, records: int = 12, max_chars: int = 500):
        self.size, self.records, self.max_chars = size, records, max_chars

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        if not traces:
            return Evolution(population)

        def score(prompt: Prompt) -> float:
            return fmean([t.rollouts[prompt.digest].score for t in traces if prompt.digest in t.rollouts] or [0.0])

        ranked = sorted(population.prompts, key=score, reverse=True)[: max(1, self.size // 2)]
        parents = [_scored(prompt, traces) for prompt in ranked]
        asked = []
        for slot in range(self.size - len(parents)):
            parent = parents[slot % len(parents)]
            shown = [(t.problem, t.rollouts[parent.digest]) for t in traces if parent.digest in t.rollouts]
            random.Random(f"{seed} {slot}").shuffle(shown)
            shown = sorted(shown, key=lambda one: one[1].score)[: self.records]
            asked.append(ReflectionRequest(parent, tuple(shown), slot, seed, self.max_chars, RewardBar(1.0), cycle))
        texts = dict.fromkeys(OfflineReflection().propose(asked))
        old = {prompt.text for prompt in parents}
        children = [Prompt(text, (), "reflection", cycle) for text in texts if text and text not in old]
        return Evolution(Population((*parents, *children)), {"reflection_calls": float(len(asked))})


def _scored(prompt: Prompt, traces: Sequence[Trace]) -> Prompt:
    """The prompt with what the last slow steps say of it, which a router can go by."""
    rollouts = {trace.problem.id: trace.rollouts.get(prompt.digest) for trace in traces}
    new = {problem: Score(one.score, one.of) for problem, one in rollouts.items() if one}
    return replace(prompt, scores={**prompt.scores, **new})
