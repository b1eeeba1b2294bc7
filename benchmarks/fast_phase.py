"""python benchmarks/fast_phase.py --json FILE [--vllm] [--only hybrid|new_task]

How well a fast phase uses its engine, what it costs per call, its share of a cycle, and how good a prompt it finds with
its rollouts, compared with stock gepa.optimize and dspy.GEPA. All in one run, on a scripted world (rule_world.py) and a
simulated engine (engine.py). With --vllm, the engine is also measured on real vLLM through verl on CPU (minutes).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fast_phase_hybrid as hybrid
import fast_phase_search as search
import fast_phase_strength as strength
from engine import Engine, Waiting
from rich.console import Console
from rich.table import Table
from rule_world import World, gepa

from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Cell, Rollout

SEEDS = range(24)
BUDGETS = (240, 480, 960)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "fst.fast.rounds=3": {"rounds": 3},
    "fst.fast.rounds=1": {"rounds": 1},
    "fst.fast.parents=frontier": {"parents": "frontier"},
}
ENGINES = {"64 slots": (1, 64), "128 slots": (1, 128), "256 slots": (1, 256), "8 x 256 slots": (8, 256)}

console = Console()


class Timed:
    """`evaluate` of a world on a simulated engine; records the batches."""

    def __init__(self, world: World, engine: Engine):
        self.world, self.engine = world, engine
        self.batches: list[int] = []

    def __call__(self, cells: Sequence[Cell]) -> list[Rollout]:
        self.batches.append(len(cells))
        self.engine.run(len(cells))
        return self.world.evaluate(cells)


def warm_phase(seed: int, engine: Engine, width: int, **settings: Any) -> tuple[Timed, Any]:
    """The second cycle's phase at the paper's settings: K=4, 192 problems, 960 rollouts, free scores."""
    world = World(seed)
    carried = strength.carried_population(world, seed)
    last = world.problems(strength.ANCHORS, f"cycle0-{seed}")
    coming = world.problems(strength.ANCHORS, f"cycle1-{seed}")
    traces = strength.slow_traces(world, carried, last)
    timed = Timed(world, engine)
    optimizer = gepa(Waiting(engine), budget=960, width=width, max_tokens=300, **settings)
    return timed, optimizer.evolve(carried, coming, timed, cycle=1, seed=seed, traces=traces)


def utilization(replicas: int, slots: int, **settings: Any) -> dict[str, Any]:
    """Rollouts per engine-second of the phase ÷ those of an engine that gets the same requests at once."""
    ratios, with_waits, batches = [], [], []
    for seed in SEEDS:
        engine = Engine(replicas, slots)
        timed, _ = warm_phase(seed, engine, replicas * slots, **settings)
        bare = Engine(replicas, slots)
        bare.run(engine.served)
        ratios.append(bare.busy / engine.busy)
        with_waits.append(bare.busy / engine.clock)
        batches += timed.batches
    return {
        "engine_utilization": statistics.fmean(ratios),
        "sd": statistics.stdev(ratios),
        "with_reflection_waits": statistics.fmean(with_waits),
        "median_batch": statistics.median(batches),
    }


def wall_share(**settings: Any) -> dict[str, float]:
    """The fast phase's share of a cycle at the paper's settings, on 8 replicas of 256 slots.

    The cycle has T=6 steps of 256 rollouts, each followed by an update that takes as long as the rollouts (ours, an
    assumption).
    """
    shares = []
    for seed in SEEDS:
        engine = Engine(8, 256)
        warm_phase(seed, engine, 2048, **settings)
        fast = engine.clock
        slow = sum(2 * Engine(8, 256, _rng=_rng(seed, step)).run(256) for step in range(6))
        shares.append(fast / (fast + slow))
    return {"wall_share": statistics.fmean(shares), "wall_share_sd": statistics.stdev(shares)}


def by_setting() -> dict[str, Any]:
    """Engine use and share of a cycle on 8 replicas of 256 slots, by setting."""
    return {name: utilization(8, 256, **own) | wall_share(**own) for name, own in SETTINGS.items()}


def _rng(seed: int, step: int) -> Any:
    import random

    return random.Random(f"{seed}-{step}")


def overhead() -> float:
    """Our own milliseconds per metric call: a phase's time minus that of `evaluate` and the reflection."""
    spent = []
    for seed in SEEDS:
        world = World(seed)
        inside = [0.0]

        def timed(call: Callable[..., Any], inside: list[float] = inside) -> Callable[..., Any]:
            def wrapped(*args: Any) -> Any:
                began = time.perf_counter()
                result = call(*args)
                inside[0] += time.perf_counter() - began
                return result

            return wrapped

        reflection = OfflineReflection()
        reflection.propose = timed(reflection.propose)  # type: ignore[method-assign]
        optimizer = gepa(reflection, budget=960, max_tokens=300)
        problems = world.problems(192, "cycle0")
        from rule_world import seed_prompt

        from fst_plugin.prompts import Population

        began = time.perf_counter()
        found = optimizer.evolve(Population((seed_prompt(),)), problems, timed(world.evaluate), cycle=0, seed=seed)
        spent.append(1000 * (time.perf_counter() - began - inside[0]) / found.metrics["rollouts"])
    return statistics.median(spent)


def scores() -> dict[str, dict[str, dict[str, Any]]]:
    """Expected reward of the returned prompt by budget: in the first cycle (one seed) and the second (four carried)."""

    def cold(find: Callable[..., str]) -> Callable[[World, int, int], str]:
        def start(world: World, budget: int, seed: int) -> str:
            return find(world, strength.SEED_TEXT, world.problems(strength.ANCHORS, f"cycle0-{seed}"), budget, seed)

        return start

    def warm(find: Callable[..., str]) -> Callable[[World, int, int], str]:
        def start(world: World, budget: int, seed: int) -> str:
            best = max((p.text for p in strength.carried_population(world, seed).prompts), key=world.value)
            return find(world, best, world.problems(strength.ANCHORS, f"cycle1-{seed}"), budget, seed)

        return start

    def stock(valset: int, method: Callable[..., str]) -> Callable[..., str]:
        return lambda world, text, problems, budget, seed: method(world, text, problems, valset, budget, seed)

    def warm_ours(free: bool = True, **settings: Any) -> Callable[[World, int, int], str]:
        return lambda w, b, s: strength.ours_warm(w, strength.carried_population(w, s), b, s, free, **settings)

    arms: dict[str, dict[str, Callable[[World, int, int], str]]] = {
        "first cycle": {
            "thompson (ours)": strength.ours,
            "thompson, rounds=3": lambda w, b, s: strength.ours(w, b, s, rounds=3),
            "thompson, rounds=1": lambda w, b, s: strength.ours(w, b, s, rounds=1),
            "mean": lambda w, b, s: strength.ours(w, b, s, parents="mean"),
            "frontier": lambda w, b, s: strength.ours(w, b, s, parents="frontier"),
            "gepa": cold(stock(192, strength.stock_gepa)),
            "dspy": cold(stock(192, strength.stock_dspy)),
            "gepa, 48 anchors": cold(stock(48, strength.stock_gepa)),
            "dspy, 48 anchors": cold(stock(48, strength.stock_dspy)),
        },
        "second cycle": {
            "thompson (ours)": warm_ours(),
            "thompson, rounds=3": warm_ours(rounds=3),
            "thompson, rounds=1": warm_ours(rounds=1),
            "mean": warm_ours(parents="mean"),
            "frontier": warm_ours(parents="frontier"),
            "thompson, scores not free": warm_ours(free=False),
            "gepa": warm(stock(192, strength.stock_gepa)),
            "dspy": warm(stock(192, strength.stock_dspy)),
            "gepa, 48 anchors": warm(stock(48, strength.stock_gepa)),
            "dspy, 48 anchors": warm(stock(48, strength.stock_dspy)),
        },
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cycle, by_arm in arms.items():
        for arm, find in by_arm.items():
            for budget in BUDGETS:
                values = [(w := World(seed)).value(find(w, budget, seed)) for seed in SEEDS]
                found.setdefault(cycle, {}).setdefault(arm, {})[str(budget)] = search.interval(values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--null-cycles", type=int, default=2000, help="cycles in which no new prompt is better")
    parser.add_argument("--only", choices=list(ONLY), help="the two clocks of fst.fast.when, or a change of task")
    parser.add_argument("--vllm", action="store_true", help="also on real vLLM on CPU, through verl")
    given = parser.parse_args()
    only = ONLY.get(given.only, lambda _: everything(given.null_cycles, given.vllm))
    result = only(given.null_cycles)
    show(result)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


def clocks(null_cycles: int) -> dict[str, Any]:
    """What concerns `fst.fast.when`."""
    return {
        "leads": {"thompson, hybrid": hybrid.leads(null_cycles)},
        "hybrid": hybrid.clocks(SEEDS),
        "hybrid_cut": hybrid.cut(SEEDS),
    }


def everything(null_cycles: int, vllm: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "engines": {name: utilization(*size) for name, size in ENGINES.items()},
        "overhead_ms_per_call": overhead(),
        "settings": by_setting(),
        "worlds": search.worlds(SEEDS),
        "new_task": search.new_task(SEEDS),
        "seeds": len(SEEDS),
        **(beside := clocks(null_cycles)),
        "leads": {**search.leads(null_cycles), **beside["leads"]},
    }
    both = scores()
    result["score_by_rollouts"] = both["first cycle"]
    result["score_by_rollouts_second_cycle"] = both["second cycle"]
    if vllm:
        import fast_phase_vllm

        result["vllm_cpu"] = fast_phase_vllm.measure()
    return result


def shown(cell: dict[str, float]) -> str:
    return f"{cell['mean']:.3f} ±{cell['ci']:.3f}"


ONLY: dict[str, Callable[[int], dict[str, Any]]] = {
    "hybrid": clocks,
    "new_task": lambda _: {"new_task": search.new_task(SEEDS)},
}
"""Parts that can be measured alone."""


def show(result: dict[str, Any]) -> None:
    if "worlds" in result:
        show_search(result)
    search.show_new_task(console, result)
    if "leads" in result:
        search.show_leads(console, result)
        hybrid.show(console, result)
    if found := result.get("vllm_cpu"):
        console.print(f"real vLLM on CPU: {found}")


def show_search(result: dict[str, Any]) -> None:
    table = Table("engine (simulated)", "utilization", "with waits for reflection", "median batch")
    for name, found in result["engines"].items():
        ratio = f"{found['engine_utilization']:.2f} ±{found['sd']:.2f}"
        table.add_row(name, ratio, f"{found['with_reflection_waits']:.2f}", f"{found['median_batch']:.0f}")
    console.print(table)
    console.print(f"overhead per call: {result['overhead_ms_per_call']:.3f} ms")
    table = Table("8 x 256 slots", "utilization", "the phase's share of a cycle")
    for name, found in result["settings"].items():
        share = f"{found['wall_share']:.1%} ±{found['wall_share_sd']:.1%}"
        table.add_row(name, f"{found['engine_utilization']:.2f} ±{found['sd']:.2f}", share)
    console.print(table)
    for title, key in (("first", "score_by_rollouts"), ("second", "score_by_rollouts_second_cycle")):
        table = Table("rollouts", *map(str, BUDGETS), title=f"expected reward of the prompt found, {title} cycle")
        for arm, cells in result[key].items():
            table.add_row(arm, *(shown(cells[str(b)]) for b in BUDGETS))
        console.print(table)
    search.show(console, result)


if __name__ == "__main__":
    main()
