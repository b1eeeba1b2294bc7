"""Run folders for the instruments' tests: the real fast weights on the scripted world, beside a log as verl writes it.

The log's reward and KL are curves that the test chooses; everything named `fst/...` is what the fast weights themselves
report.
"""

import json

from rule_world import SEED, World, make_problems

from fst_plugin.config import parse
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.prompts import Prompt

BATCH, GROUP = 8, 4
SOURCE = "rules"


def timings(step, gen=1.0):
    return {"timing_s/gen": gen, "timing_s/update_actor": 0.5, "timing_s/step": gen + 0.75}


def write_log(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in lines))


def make_run(folder, reward, kl=None, *, steps=12, every=3, fast=True, seed=0, rules=None, source=SOURCE):
    """One run's folder as a verl run leaves it. reward, kl: functions of the step. fast: with fast weights, or plain
    RL. rules: replaces the scripted world."""
    kl = kl or (lambda step: 0.01 * step)
    world, problems = rules or World(reliability=0.9, seed=seed), make_problems(BATCH * steps, seed)
    weights = None
    if fast:
        config = parse({"reflection": {"kind": "offline"}, "slow_steps": 3, "seed": seed})
        policy = Policy(400, lambda text: len(text.split()), ("<|im_end|>",))
        live = folder / "checkpoints" / "fst"
        weights = FastWeights.start(config, policy, live, seed=Prompt(SEED), dataset="data", log=lambda line: None)
    lines = [(0, {f"val-core/{source}/acc/mean@4": reward(0)})]
    for step in range(1, steps + 1):
        data = {
            "actor/kl_loss": kl(step),
            "response_length/mean": 5.0,
            "prompt_length/mean": 20.0,
            "perf/total_num_tokens": 25.0 * BATCH * GROUP,
            **timings(step),
        }
        if weights is not None:
            metrics = {}
            if weights.due(step):
                anchors = problems[BATCH * (step - 1) : BATCH * (step + 2)]
                metrics = weights.evolve(step, f"after {step - 1}", anchors, world)
            weights.state = weights.state.count(rollouts_slow=BATCH * GROUP)
            data |= {f"fst/{k}": float(v) for k, v in {**weights.metrics(), **metrics}.items()}
        if step % every == 0:
            data[f"val-core/{source}/acc/mean@4"] = reward(step)
            data["timing_s/testing"] = 2.0
            if fast:
                data[f"val-core/{source}/seed_prompt/acc/mean@4"] = reward(0)
        lines.append((step, data))
    write_log(folder / "metrics.jsonl", lines)
    return folder
