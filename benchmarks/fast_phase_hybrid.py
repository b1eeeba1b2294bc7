"""Prompts that evolve before the slow steps of a cycle, and beside those of the cycle before (`fst.fast.when`), in one
world and on one simulated engine: how good they are, how long they take, and which rollouts are cut off.

The policy learns meanwhile: a problem whose rule no prompt states is solved more and more often, slowly or fast. Drift
rates, the engine's and the reflection's speed are assumptions (ours).
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import fast_phase_search as search
import fast_phase_strength as strength
from engine import REFLECTION_S, Engine, Waiting
from rich.console import Console
from rich.table import Table
from rule_world import World, gepa, seed_prompt

from fst_plugin.config import DEFAULTS
from fst_plugin.optimizer import Evolution
from fst_plugin.prompts import Population
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Cell, Problem, Rollout, Trace, merged

T, K, G = 6, 4, 8
CYCLES, BUDGET = 5, 960
SIZES = {"32 x 8": (32, 24), "256 x 8": (256, 8)}
"""Problems of a step and how many seeds it gets at most: a step of 256 problems takes a second."""
DRIFTS = {"frozen": 0.0, "slow": 0.005, "fast": 0.03}
MAX_TOKENS = strength.MAX_CHARS // 4


class Drifting(World):
    """A world whose policy learns. step: slow steps so far. drift: share of what it cannot do that it learns a step."""

    def __init__(self, seed: int, drift: float):
        super().__init__(seed)
        self.drift, self.step = drift, 0

    def _learnt(self, chance: float) -> float:
        return 1 - (1 - chance) * math.exp(-self.drift * self.step)

    def chance(self, prompt: str, problem: Problem) -> float:
        return self._learnt(super().chance(prompt, problem))

    def value(self, prompt: str) -> float:
        return self._learnt(super().value(prompt))

    def batch(self, step: int, size: int) -> list[Problem]:
        return self.problems(size, f"step {step}")

    def slow(self, population: Population, problems: Sequence[Problem]) -> list[Trace]:
        """The rollouts of one slow step: G/K of every prompt on every problem."""
        copies = [self.step * G + i for i in range(G // K)]
        return [
            Trace(p, {c.digest: merged([self.roll(c.text, p, i) for i in copies]) for c in population.prompts})
            for p in problems
        ]

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        met: Counter[tuple[str, str]] = Counter()
        rollouts = []
        for cell in cells:
            one = (cell.prompt.digest, cell.problem.id)
            rollouts.append(self.roll(cell.prompt.text, cell.problem, 1000 * (self.step + 1) + met[one]))
            met[one] += 1
        return rollouts


class Clock:
    """Seconds on 8 replicas of 256 slots. An update takes as long as the rollouts of its step (ours).

    total, fast: seconds so far, and those in which the slow steps waited for the fast weights.
    first: `fast` and `total` as the second cycle began.
    """

    def __init__(self, seed: int):
        self.engine = Engine(8, 256, _rng=random.Random(f"clock-{seed}"))
        self.total = self.fast = 0.0
        self.first = (0.0, 0.0)

    def blocking(self, rollouts: int) -> None:
        self.wait(self.engine.run(rollouts))

    def step(self, slow: int, beside: int, reflected: bool) -> None:
        """A slow step. reflected: a reflection ran during the update before it."""
        own, all_of_it = behind(self.engine, slow, beside)
        waited = min(all_of_it, own * (1 + DEFAULTS.fast.grace)) - own
        if reflected:
            waited += max(0.0, REFLECTION_S - own)
        self.total += 2 * own
        self.wait(waited)

    def wait(self, seconds: float) -> None:
        self.total += seconds
        self.fast += seconds


class Steps:
    """The slow steps of one cycle, as an `optimizer.Beside`; each call of `evaluate` makes one."""

    def __init__(self, world: Drifting, population: Population, size: int, clock: Clock):
        self.world, self.population, self.size, self.clock = world, population, size, clock
        self.last = world.step + T
        self.seen: list[Trace] = []

    def problems(self) -> list[Problem]:
        return self.world.batch(self.world.step, self.size)

    def left(self) -> int:
        return self.last - self.world.step

    def traces(self) -> list[Trace]:
        return self.seen

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        rollouts = self.world.evaluate(cells)
        self.alone(len(cells), reflected=bool(self.seen))
        return rollouts

    def alone(self, beside: int = 0, reflected: bool = False) -> None:
        """A slow step for itself."""
        self.seen += self.world.slow(self.population, self.problems())
        self.clock.step(self.size * G, beside, reflected)
        self.world.step += 1


def behind(engine: Engine, slow: int, beside: int) -> tuple[float, float]:
    """Seconds until the last of the slow rollouts is done, and until the last of those queued behind them."""
    ends = _ends(engine, slow, beside)
    return max(end for end, _, own in ends if own), max(end for end, _, _ in ends)


def _ends(engine: Engine, slow: int, beside: int) -> list[tuple[float, int, bool]]:
    """Of each rollout: when it is done, its length in tokens, is it one of the step's own?"""
    found = []
    for replica in range(engine.replicas):
        rollouts = [(engine._length(), True) for _ in range(replica, slow, engine.replicas)]
        rollouts += [(engine._length(), False) for _ in range(replica, beside, engine.replicas)]
        found += _replica(engine, rollouts)
    return found


def _replica(engine: Engine, rollouts: list[tuple[int, bool]]) -> list[tuple[float, int, bool]]:
    """As `Engine._replica`, for each rollout."""
    waiting, running, found = rollouts[::-1], [], []
    step, seconds = 0, 0.0
    while waiting or running:
        while waiting and len(running) < engine.max_num_seqs:
            length, own = waiting.pop()
            running.append((step + length, length, own))
        end = min(running)[0]
        seconds += (end - step) * (engine.base_s + engine.per_request_s * len(running))
        step = end
        found += [(seconds, length, own) for at, length, own in running if at == end]
        running = [one for one in running if one[0] != end]
    return found


def train(when: str, drift: float, size: int, seed: int, until: float = 0.0) -> tuple[list[float], Clock, float]:
    """Cycles of one run, CYCLES of them or as many as begin within `until` seconds.

    Returns the value of the lead as each cycle begins, the clock, and the value of the lead at the end.
    """
    world, clock = Drifting(seed, drift), Clock(seed)
    population, traces = Population((seed_prompt(),)), []
    values: list[float] = []
    while clock.total < until if until else len(values) < CYCLES:
        cycle = len(values)
        if cycle == 1:
            clock.first = (clock.fast, clock.total)
        if when == "before" or cycle == 0:
            coming = [p for i in range(T) for p in world.batch(world.step + i, size)]

            def rolled(cells: Sequence[Cell]) -> list[Rollout]:
                clock.blocking(len(cells))
                return world.evaluate(cells)

            phase = gepa(Waiting(clock), budget=BUDGET, max_tokens=MAX_TOKENS)
            population = phase.evolve(population, coming, rolled, cycle=cycle, seed=seed, traces=traces).population
        values.append(world.value(population.best.text))
        steps = Steps(world, population, size, clock)
        if when == "hybrid":
            phase = gepa(OfflineReflection(), budget=BUDGET, max_tokens=MAX_TOKENS)
            coming = [p for i in range(T) for p in world.batch(world.step + i, size)]
            found = phase.evolve(population, coming, steps.evaluate, cycle=cycle + 1, seed=seed, beside=steps)
            while steps.left():
                steps.alone()
            population = found.population
        else:
            while steps.left():
                steps.alone()
            traces = steps.seen
    return values, clock, world.value(population.best.text)


def clocks(seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Size and drift -> what both clocks come to, and hybrid less before, seed by seed."""
    found: dict[str, dict[str, Any]] = {}
    for name, (size, most) in SIZES.items():
        seeds = seeds[:most]
        for drift, rate in DRIFTS.items():
            runs = {when: [train(when, rate, size, seed) for seed in seeds] for when in ("before", "hybrid")}
            late = [train("hybrid", rate, size, s, until=runs["before"][i][1].total)[2] for i, s in enumerate(seeds)]
            cell: dict[str, Any] = {"seeds": len(seeds)}
            for when, some in runs.items():
                cell[f"{when}: lead as a cycle begins"] = [
                    search.interval([values[cycle] for values, _, _ in some]) for cycle in range(CYCLES)
                ]
                cell[f"{when}: share"] = search.interval([later(clock) for _, clock, _ in some])
                cell[f"{when}: seconds"] = search.interval([clock.total for _, clock, _ in some])
            pairs = list(zip(runs["hybrid"], runs["before"], strict=True))
            cell["less at equal steps"] = search.interval([h[2] - b[2] for h, b in pairs])
            cell["less at equal time"] = search.interval(
                [end - b[2] for end, b in zip(late, runs["before"], strict=True)]
            )
            found[f"{name}, {drift}"] = cell
    return found


def later(clock: Clock) -> float:
    """The share of the cycles after the first in which slow steps wait: the first one waits with either clock."""
    return (clock.fast - clock.first[0]) / (clock.total - clock.first[1])


def cut(seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Grace -> share of rollouts cut off, and what that does to a score if long answers are right more often.

    An answer of n tokens is right with the chance min(1, n / 1024), so that cutting long ones off costs score.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, (size, _) in SIZES.items():
        for grace in (0.0, 0.1, DEFAULTS.fast.grace, 0.5, 1.0):
            shares, biases = [], []
            for seed in seeds:
                engine = Engine(8, 256, _rng=random.Random(f"cut-{seed}"))
                ends = _ends(engine, size * G, BUDGET // T)
                own = max(end for end, _, mine in ends if mine)
                beside = [(end, length) for end, length, mine in ends if not mine]
                right = [min(1.0, length / 1024) for _, length in beside]
                done = [chance for (end, _), chance in zip(beside, right, strict=True) if end <= own * (1 + grace)]
                shares.append(1 - len(done) / len(beside))
                biases.append((statistics.fmean(done) if done else 0.0) - statistics.fmean(right))
            found[f"{name}, grace {grace:g}"] = {"cut": search.interval(shares), "bias": search.interval(biases)}
    return found


class Level(search.Level):
    """`search.Level`, of which slow steps can be made."""

    drift, step = 0.0, 0
    batch, slow, evaluate = Drifting.batch, Drifting.slow, Drifting.evaluate  # type: ignore[assignment]


def leads(cycles: int) -> dict[str, float]:
    """As `fast_phase_search.leads`, beside slow steps of 32 problems."""

    def contest(world: Any, reflection: Any, carried: Population, seed: int) -> Evolution:
        steps = Steps(world, carried, 32, Clock(seed))
        coming = [p for i in range(T) for p in world.batch(i, 32)]
        phase = gepa(reflection, budget=BUDGET, max_tokens=MAX_TOKENS)
        return phase.evolve(carried, coming, steps.evaluate, cycle=1, seed=seed, beside=steps)

    return search.judged(contest, cycles, Level, lambda seed: Drifting(seed, 0.0))


def show(console: Console, result: dict[str, Any]) -> None:
    def cell(value: dict[str, float], percent: bool = False) -> str:
        return f"{value['mean']:.1%} ±{value['ci']:.1%}" if percent else f"{value['mean']:.3f} ±{value['ci']:.3f}"

    table = Table("problems x G, drift", "when", *(f"cycle {i + 1}" for i in range(CYCLES)), "waits", "seconds")
    table.title = "the lead's expected reward as a cycle begins; the share of the run in which slow steps wait"
    for name, found in result["hybrid"].items():
        for when in ("before", "hybrid"):
            leads = [cell(one) for one in found[f"{when}: lead as a cycle begins"]]
            seconds = f"{found[f'{when}: seconds']['mean']:.0f}"
            label = f"{name}, {found['seeds']} seeds" if when == "before" else ""
            table.add_row(label, when, *leads, cell(found[f"{when}: share"], True), seconds)
    console.print(table)
    table = Table("hybrid less before", "after as many steps", "after as much time")
    for name, found in result["hybrid"].items():
        table.add_row(name, cell(found["less at equal steps"]), cell(found["less at equal time"]))
    console.print(table)
    table = Table("problems x G", "cut off", "bias of a score where long answers are right more often")
    for name, found in result["hybrid_cut"].items():
        table.add_row(name, cell(found["cut"], True), cell(found["bias"]))
    console.print(table)
