"""Fast weights in a folder, and slow phases on a fake world."""

from rule_world import SEED

from fst_plugin import Prompt
from fst_plugin.config import parse
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.rollouts import Cell

SPECIAL = ("<|im_end|>",)


def fast_weights(folder, policy=None, **config):
    config = parse({"reflection": {"kind": "offline"}, "slow_steps": 3, **config})
    policy = policy or Policy(400, lambda text: len(text.split()), SPECIAL)
    lines = []
    weights = FastWeights.start(config, policy, folder, seed=Prompt(SEED), dataset="data", log=lines.append)
    return weights, lines


def slow_phase(weights, world, problems, steps):
    """Every carried prompt twice on every problem, spread over the steps."""
    steps = list(steps)
    for i, step in enumerate(steps):
        rollouts = [
            (p.id, prompt.digest, world.roll(Cell(prompt, p)))
            for p in problems[i :: len(steps)]
            for prompt in weights.population.prompts
            for _ in range(2)
        ]
        weights.observe(step, f"w{step - 1}", rollouts)


def hybrid_weights(folder, policy=None, *, slow_steps=6, **config):
    config["fast"] = {"when": "hybrid", **config.get("fast", {})}
    return fast_weights(folder, policy, slow_steps=slow_steps, **config)


def train(weights, world, problems, steps, *, batch=16, copies=2, after=lambda step: None, last_step=None, every=1):
    """Whole slow steps as an adapter makes them, evolution before or beside them. Returns the batches beside.

    problems: of all steps, in order.
    every: steps until rollouts beside a step are in; what is under way as this ends is lost.
    """
    beside, size, under_way, due = [], weights.config.slow_steps, None, 0
    for step in steps:
        now = problems[batch * (step - 1) : batch * step]
        if weights.due(step, last_step):
            start = batch * (step - 1)
            recent = problems[batch * ((weights.state.cycle_start or 1) - 1) : start]
            coming = problems[start : start + batch * size]
            weights.evolve(step, weights.weights_after(step - 1), coming, world, recent)
        start, cells = batch * ((weights.state.cycle_start or 1) - 1), []
        if under_way is None:
            cells = weights.ask(step, now, lambda s=start: problems[s : s + batch * size], last_step, every)
            under_way, due = [world.roll(cell) for cell in cells], step + every - 1 if cells else step
        rollouts = [
            (p.id, prompt.digest, world.roll(Cell(prompt, p)))
            for p in now
            for prompt in weights.population.prompts
            for _ in range(copies)
        ]
        weights.observe(step, weights.weights_after(step - 1), rollouts)
        if step >= due:
            weights.tell(under_way)
            under_way = None
        beside.append(cells)
        after(step)
    return beside
