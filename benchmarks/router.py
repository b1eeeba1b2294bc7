"""Which prompt at inference: the best one for all problems, or one of the population for each, picked by a router?

    python benchmarks/router.py [--json FILE]

Every seed evolves four prompts over three cycles in the scripted rule world and exports them. New problems are then
answered under the best prompt, under the one with the highest mean on the anchors, under the router's pick, and under
the best of the four for each problem, which nobody knows beforehand. Three worlds: a prompt holds six of the rules or
all of them, and problems whose text does not say which rule they need. Figures are expected rewards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rule_world import World, seed_prompt

from fst_plugin.analysis.export import exported
from fst_plugin.config import parse
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.record.atomic import write_json
from fst_plugin.record.cycles import read_record
from fst_plugin.rollouts import Problem, Rollout
from fst_plugin.router import Router

SEEDS, CYCLES, ANCHORS, TESTED, STEPS = 8, 3, 192, 300, 6
WORLDS: dict[str, dict[str, Any]] = {
    "a prompt holds 6 of 24 rules": {"holds": 6},
    "a prompt holds all rules": {"holds": 24},
    "6 of 24, text does not tell": {"holds": 6, "mute": True},
}


def mute(problem: Problem) -> Problem:
    """With a text that does not say which rule the problem needs."""
    text = str(problem.messages[-1]["content"]).split(":")[0]
    return replace(problem, messages=({"role": "user", "content": f"{text}: what is the code"},))


def evolved(world: World, folder: Path, seed: int, silent: bool) -> FastWeights:
    """Three cycles of fast weights in `folder`, the slow phases' scores between them and after the last."""
    settings = {"reflection": {"kind": "offline"}, "population": 4, "seed": seed, "context": {"placement": "system"}}
    weights = FastWeights.start(
        parse(settings), Policy(300), folder, seed=seed_prompt(), dataset="rules", log=lambda line: None
    )
    asked: dict[str, Problem] = {}
    recent: list[Problem] = []

    def evaluate(cells: Any) -> list[Rollout]:
        return [world.roll(cell.prompt.text, asked[cell.problem.id]) for cell in cells]

    for cycle in range(CYCLES):
        full = world.problems(ANCHORS, f"cycle{cycle}-{seed}")
        asked |= {problem.id: problem for problem in full}
        coming = [mute(problem) for problem in full] if silent else full
        step = 1 + STEPS * cycle
        with contextlib.redirect_stdout(None):
            weights.evolve(step, f"w{step}", coming, evaluate, recent)
        rollouts = [
            (p.id, prompt.digest, world.roll(prompt.text, asked[p.id], sample))
            for p in coming
            for prompt in weights.population.prompts
            for sample in (1, 2)
        ]
        weights.observe(step, f"w{step}", rollouts)
        recent = coming
    return weights


def measured(seed: int, holds: int, mute_texts: bool) -> dict[str, float]:
    """Expected rewards on new problems: of the best prompt, the one with the highest mean, the router's pick with what
    the last fast phase scored alone, and with the slow steps after it, and the best pick there is; `left_best` is the
    share of problems that went to another prompt than the best."""
    world = World(seed, holds=holds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = evolved(world, folder / "fst", seed, mute_texts)
        routers = []
        for _ in ("without a checkpoint", "with one"):
            content, _ = exported(read_record(folder), router=True)
            write_json(folder / "export.json", content)
            routers.append(Router.load(folder / "export.json"))
            weights.save(folder / f"global_step_{STEPS * CYCLES}" / "fst", STEPS * CYCLES, [])
        means = [prompt["mean_score"] or 0.0 for prompt in content["population"]]
    tested = world.problems(TESTED, f"test-{seed}")
    shown = [mute(problem) if mute_texts else problem for problem in tested]
    texts = [str(problem.messages[-1]["content"]) for problem in shown]
    early, picks = ([router.pick(text) for text in texts] for router in routers)
    chances = [[world.chance(text, problem) for text in routers[0].prompts] for problem in tested]
    return {
        "best": mean(row[0] for row in chances),
        "highest_mean": mean(row[means.index(max(means))] for row in chances),
        "router_fast_scores": mean(row[pick] for row, pick in zip(chances, early, strict=True)),
        "router": mean(row[pick] for row, pick in zip(chances, picks, strict=True)),
        "oracle": mean(max(row) for row in chances),
        "left_best": mean(pick != 0 for pick in picks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write every figure here; - for the screen")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name, world in WORLDS.items():
        rows = [measured(seed, world["holds"], world.get("mute", False)) for seed in range(args.seeds)]
        gains = [row["router"] - row["best"] for row in rows]
        figures = {key: mean(row[key] for row in rows) for key in rows[0]}
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
        found[name] = {**figures, "gain": mean(gains), "gain_error": error, "gains": gains}
        if args.json != "-":
            told = "  ".join(f"{key} {value:.3f}" for key, value in figures.items())
            print(f"{name}: {told}  gain {mean(gains):+.3f} ± {error or 0:.3f}, {sum(g > 0 for g in gains)} seeds gain")
    text = json.dumps({"seeds": args.seeds, "worlds": found}, indent=2)
    if args.json == "-":
        print(text)
    elif args.json:
        Path(args.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
