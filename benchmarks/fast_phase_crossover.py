"""python benchmarks/fast_phase_crossover.py --json FILE

Does a reflection that sees two parents, and what each fails at (fst.fast.crossover), find better prompts with the same
rollouts than one that sees a single parent? In the worlds of worlds.py, first and second cycle, at three budgets.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fast_phase_strength as strength
from fast_phase_search import interval
from rich.console import Console
from rich.table import Table
from worlds import WORLDS, Setting

BUDGETS = (240, 480, 960)


def value(setting: Setting, second: bool, budget: int, seed: int, crossover: bool) -> float:
    """Expected reward of the prompt found."""
    world, more = setting.world(seed), {"reflection": setting.reflection, "crossover": crossover}
    if not second:
        return world.value(strength.ours(world, budget, seed, **more))
    carried = strength.carried_population(world, seed)
    return world.value(strength.ours_warm(world, carried, budget, seed, True, **more))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=24)
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for name, second, budget in itertools.product(WORLDS, (False, True), BUDGETS):
        one, two = (
            [value(WORLDS[name], second, budget, seed, crossover) for seed in range(given.seeds)]
            for crossover in (False, True)
        )
        gain = interval([b - a for a, b in zip(one, two, strict=True)])
        row = {"world": name, "cycle": ("first", "second")[second], "rollouts": budget, "gain": gain}
        found.append({**row, "one parent": interval(one), "two parents": interval(two)})
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def show(found: Sequence[dict[str, Any]]) -> None:
    title = "expected reward of the prompt found, and the gain with the same seeds"
    columns = ("one parent", "two parents", "gain")
    table = Table("world", "cycle", "rollouts", *columns, title=title)
    for row in found:
        figures = (f"{row[name]['mean']:.3f} ±{row[name]['ci']:.3f}" for name in columns)
        table.add_row(row["world"], row["cycle"], str(row["rollouts"]), *figures)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
