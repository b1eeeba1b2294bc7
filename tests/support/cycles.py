"""Fast weights in a folder, and slow phases on a fake world."""

from rule_world import SEED

from fst_plugin import Prompt
from fst_plugin.config import parse
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy

SPECIAL = ("<|im_end|>",)


def fast_weights(folder, policy=None, **config):
    config = parse({"reflection": {"kind": "offline"}, "slow_steps": 3, **config})
    policy = policy or Policy(400, lambda text: len(text.split()), SPECIAL)
    lines = []
    weights = FastWeights.start(config, policy, folder, seed=Prompt(SEED), dataset="data", log=lines.append)
    return weights, lines


def slow_phase(weights, world, problems, steps):
    """Every carried prompt twice on every problem, spread over the steps."""
    from fst_plugin.rollouts import Cell

    steps = list(steps)
    for i, step in enumerate(steps):
        rollouts = [
            (p.id, prompt.digest, world.roll(Cell(prompt, p)))
            for p in problems[i :: len(steps)]
            for prompt in weights.population.prompts
            for _ in range(2)
        ]
        weights.observe(step, f"w{step - 1}", rollouts)
