"""python benchmarks/fast_phase_crossover.py --json FILE

Would a reflection that sees two parents, and what each fails at, find better prompts with the same rollouts than one
that sees a single parent? In the worlds of worlds.py, first and second cycle, at three budgets.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fast_phase_strength as strength
from fast_phase_search import MAX_TOKENS, interval
from rich.console import Console
from rich.table import Table
from rule_world import gepa, seed_prompt
from worlds import WORLDS, Setting

from fst_plugin.evolve.halving import HalvingPhase
from fst_plugin.evolve.proposer import Records
from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection, ReflectionRequest

SHARES = (0.0, 0.5, 1.0)
BUDGETS = (240, 480, 960)


class Crossing:
    """Shows a reflection two parents as one: the lines of both, and failures of both, as many as of one alone.

    mates: (slot, text of the first parent) -> text of the second, and its records.
    """

    def __init__(self, inner: OfflineReflection):
        self.inner, self.mates = inner, dict[tuple[int, str], tuple[str, Records]]()

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        return self.inner.propose([self._crossed(request) for request in requests])

    def describe(self) -> str:
        return f"{self.inner.describe()}, of two parents"

    def _crossed(self, request: ReflectionRequest) -> ReflectionRequest:
        if (request.slot, request.parent.text) not in self.mates:
            return request
        text, records = self.mates[request.slot, request.parent.text]
        lines = dict.fromkeys([*request.parent.text.splitlines(), *text.splitlines()])
        both = [record for pair in zip(request.records, records, strict=False) for record in pair]
        shown = tuple(both[: len(request.records)]) or request.records
        return replace(request, parent=replace(request.parent, text="\n".join(lines)), records=shown)


class CrossingPhase(HalvingPhase):
    """A share of the children has a second parent, drawn as the first one is."""

    share: float

    def _reproduce(self, parents: Sequence[Prompt], rounds: int) -> list[Prompt]:
        crossing: Any = self.settings.reflection
        crossing.mates.clear()
        for slot, parent in enumerate(parents):
            if random.Random(f"mates-{self.seed}-{rounds}-{slot}").random() >= self.share:
                continue
            others = [c for c in self.found.contenders.values() if c.prompt.text != parent.text]
            for mate in self.found.draw(others, 1):
                met = [p for p in self.learning if p.id in self.scoreboard.met(mate.prompt.text)]
                random.Random(f"mate-records-{self.seed}-{rounds}-{slot}").shuffle(met)
                text = mate.prompt.text
                crossing.mates[slot, parent.text] = text, self.records(text, met, slot, rounds)
        return super()._reproduce(parents, rounds)


def value(setting: Setting, share: float, second: bool, budget: int, seed: int) -> float:
    """Expected reward of the prompt found."""
    world = setting.world(seed)
    carried = strength.carried_population(world, seed) if second else Population((seed_prompt(),))
    last, coming = (world.problems(strength.ANCHORS, f"cycle{i}-{seed}") for i in (0, 1))
    traces = strength.slow_traces(world, carried, last) if second else ()
    optimizer = gepa(Crossing(setting.reflection()), budget=budget, max_tokens=MAX_TOKENS)
    problems = coming if second else last
    phase = CrossingPhase(optimizer.settings, carried, problems, world.evaluate, int(second), seed, traces)
    phase.share = share
    return world.value(phase.run().population.best.text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=24)
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name, second, budget in itertools.product(WORLDS, (False, True), BUDGETS):
        arms = [[value(WORLDS[name], share, second, budget, s) for s in range(given.seeds)] for share in SHARES]
        gains = [interval([a - b for a, b in zip(arm, arms[0], strict=True)]) for arm in arms[1:]]
        found.append({"world": name, "cycle": ("first", "second")[second], "rollouts": budget, "gains": gains})
        found[-1]["means"] = [interval(arm) for arm in arms]
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def show(found: Sequence[dict[str, Any]]) -> None:
    title = "expected reward of the prompt found, and what crossing some or all children adds with the same seeds"
    table = Table("world", "cycle", "rollouts", *(f"{share:.0%}" for share in SHARES), "+ some", "+ all", title=title)
    for row in found:
        means = (f"{cell['mean']:.3f} ±{cell['ci']:.3f}" for cell in row["means"])
        gains = (f"{cell['mean']:+.3f} ±{cell['ci']:.3f}" for cell in row["gains"])
        table.add_row(row["world"], row["cycle"], str(row["rollouts"]), *means, *gains)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
