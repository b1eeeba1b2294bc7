"""The searches of a fast phase side by side: in worlds that are hard in different ways, after a change of task, and how
often a prompt takes the lead that should not."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import fast_phase_strength as strength
from rich.console import Console
from rich.table import Table
from rule_world import SEED_TEXT, World, gepa, seed_prompt
from worlds import WORLDS

from fst_plugin.optimizer import Evolution
from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection, ReflectionRequest
from fst_plugin.rollouts import Problem, Trace

PARENTS = ("thompson", "mean", "frontier")
BUDGET = 960
MAX_TOKENS = strength.MAX_CHARS // 4


def worlds(seeds: Sequence[int]) -> dict[str, dict[str, dict[str, Any]]]:
    """World -> search -> expected reward of the prompt found, by cycle and budget."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, setting in WORLDS.items():
        for parents in PARENTS:
            cells = found.setdefault(name, {}).setdefault(parents, {})
            for budget in (240, BUDGET):
                more: dict[str, Any] = {"reflection": setting.reflection, "parents": parents}
                made = [(seed, setting.world(seed)) for seed in seeds]
                cold = [w.value(strength.ours(w, budget, s, **more)) for s, w in made]
                four = [(s, w, strength.carried_population(w, s)) for s, w in made]
                warm = [w.value(strength.ours_warm(w, c, budget, s, True, **more)) for s, w, c in four]
                cells[f"first, {budget}"], cells[f"second, {budget}"] = interval(cold), interval(warm)
    return found


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, and half the width of its 95 % interval."""
    return {"mean": statistics.fmean(values), "ci": 1.96 * statistics.stdev(values) / len(values) ** 0.5}


def new_task(seeds: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """By budget, the expected reward of the lead of the first cycle of another rule book: after a cycle of the old one,
    and from a fresh start."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for budget in (120, 240, BUDGET):
        cells: dict[str, list[float]] = {}
        for seed in seeds:
            old, new = World(seed), World(1000 + seed)
            carried = strength.carried_population(old, seed)
            last, coming = old.problems(strength.ANCHORS, "old"), new.problems(strength.ANCHORS, "new")
            lead = _lead(new, Population((seed_prompt(),)), coming, seed, budget)
            cells.setdefault("fresh start", []).append(lead)
            for arm, (before, after) in CHANGES.items():
                traces = strength.slow_traces(old, carried, [_of(p, before) for p in last])
                coming = [_of(p, after) for p in coming]
                cells.setdefault(arm, []).append(_lead(new, carried, coming, seed, budget, traces))
        found[str(budget)] = {name: interval(values) for name, values in cells.items()}
    return found


CHANGES = {"task told": ("old", "new"), "task not told": ("", "")}
"""Arm -> task of the last cycle's problems, and of the coming ones."""


def _of(problem: Problem, task: str) -> Problem:
    return Problem(problem.id, problem.messages, task=task)


def _lead(
    world: World,
    carried: Population,
    problems: list[Problem],
    seed: int,
    budget: int,
    traces: Sequence[Trace] = (),
) -> float:
    optimizer = gepa(OfflineReflection(), budget=budget, max_tokens=MAX_TOKENS)
    evolution = optimizer.evolve(carried, problems, world.evaluate, cycle=1, seed=seed, traces=traces)
    return world.value(evolution.population.best.text)


class Level(World):
    """A world in which prompts make no difference, but for the words "minus", which costs 0.02, and "broken"."""

    def chance(self, prompt: str, problem: Problem) -> float:
        if "broken" in prompt:
            return 0.0
        return (0.2, 0.5, 0.8)[int(problem.id, 16) % 3] - 0.02 * prompt.count("minus")

    def value(self, prompt: str) -> float:
        return 0.0 if "broken" in prompt else 0.5 - 0.02 * prompt.count("minus")


class Idle:
    """Proposes prompts that are as good as their parents, or slightly worse. broken: the share of them that fail
    always."""

    def __init__(self, broken: float = 0.0):
        self.broken = broken

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        return [f"Variant {r.seed} {r.slot} {self._kind(r)}" for r in requests]

    def _kind(self, request: ReflectionRequest) -> str:
        if random.Random(f"{request.seed}-{request.slot}").random() < self.broken:
            return "broken"
        return ("same", "minus")[(request.seed + request.slot) % 2]

    def describe(self) -> str:
        return "idle"


def leads(cycles: int) -> dict[str, dict[str, float]]:
    """By search: how often a new prompt leads where none is better (`cycles` cycles); and what share of the gain a lead
    would bring is taken where there is some, from prompts that know 60 % or 85 % of the rules (half as many)."""
    found = {}
    for parents in PARENTS:

        def contest(world: World, reflection: Any, carried: Population, seed: int, parents: str = parents) -> Evolution:
            return _contest(world, reflection, carried, seed, parents)

        found[parents] = judged(contest, cycles)
    return found


Contest = Callable[[Any, Any, Population, int], Evolution]


def judged(
    contest: Contest, cycles: int, level: Callable[[int], World] | None = None, world: Callable[[int], World] = World
) -> dict[str, float]:
    """How one search decides who leads; see `leads`. contest: of (world, reflection, carried, seed)."""
    false, broken = (
        [_adopted(contest((level or Level)(s), Idle(share), _same(), s)) for s in range(cycles)] for share in (0.0, 0.8)
    )
    kept = [_kept(share, range(max(2, cycles // 2)), contest, world) for share in (0.6, 0.85)]
    return {
        "false": statistics.fmean(false),
        "false_ci": 1.96 * statistics.pstdev(false) / cycles**0.5,
        "false_broken": statistics.fmean(broken),
        "false_broken_ci": 1.96 * statistics.pstdev(broken) / cycles**0.5,
        "kept_middle": kept[0],
        "kept_top": kept[1],
    }


def _adopted(found: Evolution) -> float:
    return float(found.evidence is not None and found.evidence.adopted)


def _same() -> Population:
    return Population(tuple(Prompt(f"Carried {i}") for i in range(strength.K)))


def _knowing(world: World, share: float, seed: int) -> Population:
    rng, rules = random.Random(seed), list(world.rules.values())
    known = [rng.sample(rules, int(len(rules) * share)) for _ in range(strength.K)]
    return Population(tuple(Prompt("\n".join([SEED_TEXT, *part])) for part in known))


def _contest(world: World, reflection: Any, carried: Population, seed: int, parents: str) -> Evolution:
    last, coming = world.problems(strength.ANCHORS, "last"), world.problems(strength.ANCHORS, "coming")
    optimizer = gepa(reflection, budget=BUDGET, max_tokens=MAX_TOKENS, parents=parents)
    traces = strength.slow_traces(world, carried, last)
    return optimizer.evolve(carried, coming, world.evaluate, cycle=1, seed=seed, traces=traces)


def _kept(share: float, seeds: Sequence[int], contest: Contest, make: Callable[[int], World]) -> float:
    """Of the gain that the challengers would bring over the incumbents, the share that is taken."""
    offered = taken = 0.0
    for seed in seeds:
        world = make(seed)
        found = contest(world, OfflineReflection(), _knowing(world, share, seed), seed)
        if found.evidence is None:
            continue
        texts = {c.prompt.digest: c.prompt.text for c in found.candidates}
        texts |= {p.digest: p.text for p in (*found.population.prompts, *found.dropped)}
        gain = max(0.0, world.value(texts[found.evidence.challenger]) - world.value(texts[found.evidence.incumbent]))
        offered, taken = offered + gain, taken + gain * found.evidence.adopted
    return taken / offered if offered else 1.0


def show(console: Console, result: dict[str, Any]) -> None:
    columns = list(next(iter(next(iter(result["worlds"].values())).values())))
    table = Table("world", "parents", *columns, title="expected reward of the prompt found, by cycle and rollouts")
    for world, by_search in result["worlds"].items():
        for parents, cells in by_search.items():
            figures = (f"{cells[c]['mean']:.3f} ±{cells[c]['ci']:.3f}" for c in columns)
            table.add_row(world if parents == PARENTS[0] else "", parents, *figures)
    console.print(table)


def show_new_task(console: Console, result: dict[str, Any]) -> None:
    if "new_task" not in result:
        return
    table = Table("rollouts", *result["new_task"], title="expected reward of the lead, after a change of task")
    for arm in next(iter(result["new_task"].values())):
        figures = (cells[arm] for cells in result["new_task"].values())
        table.add_row(arm, *(f"{cell['mean']:.3f} ±{cell['ci']:.3f}" for cell in figures))
    console.print(table)


def show_leads(console: Console, result: dict[str, Any]) -> None:
    table = Table("parents", "false leads", "4 of 5 new ones broken", "true gain kept, middle", "near the top")
    for parents, cell in result["leads"].items():
        false = f"{cell['false']:.1%} ±{cell['false_ci']:.1%}"
        broken = f"{cell['false_broken']:.1%} ±{cell['false_broken_ci']:.1%}"
        table.add_row(parents, false, broken, f"{cell['kept_middle']:.2f}", f"{cell['kept_top']:.2f}")
    console.print(table)
