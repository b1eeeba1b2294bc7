"""What is run through TRL: every run is a `Job`, plain data, and one or two trainings (`stages`).

Settings are those of the claims through verl (`fst_verl.experiments.demo.Setup`, `+fst=paper`, `plan.Lengths`), as far
as TRL has them; the others are ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

BATCH, GROUP, CYCLE = 16, 8, 6
"""Problems a step, G, T: as in `fst_verl.experiments.demo.Setup`."""
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates that an arm is tried at, on the first task with the first seed: those of `plan.RATES`."""
FST_RATE = 3e-4
"""FST's in the claims, untuned, as through verl."""
LONG = "house_rules_long"
CLAIM_TASKS = ("house_rules_codes", "house_rules_places", "house_rules_format")
CONTROL_TASKS = ("house_rules_codes", LONG)
FIRST = CLAIM_TASKS[0]
CAP = {LONG: 64}
"""Task -> cap of a prompt in tokens; 128 elsewhere. The long book has 24 rules of 5 tokens: half of them fit (ours)."""
PARAPHRASES = ("You are a clerk.", "Be brief.", "Answer the user.")
"""Of the seed prompt: openings that the policy knows and that say nothing of the rules."""
ARMS = ("rl", "static", "prompts_then_rl", "rl_then_prompts", "slow_only", "fst")
ONE_PROMPT = "fst_k1"
SWEPT = ("rl", "fst")
RATE_OF = {
    "static": "rl",
    "rl_then_prompts": "rl",
    "prompts_then_rl": "fst",
    "slow_only": "fst",
    ONE_PROMPT: "fst",
}
"""Control -> whose best rate it runs at: FST's if its weights learn under prompts that state rules."""
MEANING = {
    "rl": "RL under the seed prompt",
    "static": "RL under the seed prompt and three paraphrases, no evolution",
    "prompts_then_rl": "a quarter of the budget evolves a prompt, then RL under it",
    "rl_then_prompts": "RL, then a quarter of the budget evolves a prompt for its last weights",
    "slow_only": "K=4 prompts ranked and evolved from slow rollouts alone, every three steps",
    "fst": "FST, K=4, T=6",
    ONE_PROMPT: "FST, K=1, T=6",
}


@dataclass(frozen=True)
class Sizes:
    """Lengths of the runs (ours).

    steps: of a claim's run.
    budget: rollouts of a control, slow and fast ones together; a run ends with the step that reaches it.
    fast: of them, those that a control with a single fast phase spends on it.
    every: steps between the validations of a claim's run.
    problems, samples: of a validation, and how often a control tries each (a claim's run once, as through verl).
    """

    steps: int = 24
    budget: int = 3840
    fast: int = 960
    every: int = 4
    problems: int = 72
    samples: int = 4


QUICK = Sizes(steps=2, budget=512, fast=128, every=1, problems=16, samples=2)


@dataclass(frozen=True)
class Stage:
    """One training. fst: its `fst` settings. rate: learning rate. until: ends with the step after which it has spent
    this many rollouts. steps: longest it could get."""

    fst: Mapping[str, Any]
    rate: float
    until: int
    steps: int


@dataclass(frozen=True)
class Job:
    """One run. part: "claims" or "controls"."""

    part: str
    task: str
    arm: str
    seed: int
    rate: float
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def name(self) -> str:
        return f"{self.part}/{self.task}/{self.arm}_lr{self.rate:g}_{self.seed}"

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Job:
        """Inverse of `identity`."""
        own = {name: identity[name] for name in ("part", "task", "arm", "seed", "rate")}
        return cls(**own, sizes=Sizes(**identity["sizes"]))

    def identity(self) -> dict[str, Any]:
        """What the run is, as JSON's own types: a finished run with another one is not this run."""
        found = {**asdict(self), "env": task_kwargs(self.task, self.seed), "stages": [asdict(s) for s in stages(self)]}
        return json.loads(json.dumps(found))


def task_kwargs(task: str, seed: int) -> dict[str, Any]:
    """Arguments of `fst/HouseRules-v0`; a rule book of its own per seed. Raises KeyError for an unknown task."""
    return {
        "house_rules_codes": {"book": seed},
        "house_rules_places": {"book": seed + 50, "kinds": ["places"]},
        "house_rules_format": {"book": seed + 150, "kinds": ["codes", "format"]},
        LONG: {"book": seed + 300, "words": 24},
    }[task]


def stages(job: Job) -> list[Stage]:
    """The trainings of a run, each from the weights that the one before left."""
    sizes, cap = job.sizes, CAP.get(job.task, 128)
    step = BATCH * GROUP
    limit, longest = (sizes.budget, sizes.budget // step) if job.part == "controls" else (10**9, sizes.steps)
    shared = {"max_prompt_tokens": cap, "reflection": {"kind": "offline"}, "seed": job.seed}

    def fast(population: int, cycle: int, **own: Any) -> dict[str, Any]:
        return {**shared, "population": population, "slow_steps": cycle, "fast": own}

    def train(fst: Mapping[str, Any], until: int = limit) -> Stage:
        return Stage(fst, job.rate, until, longest)

    off = {"enabled": False}
    once = fast(1, longest, budget=sizes.fast)  # one fast phase, on the problems of the whole run
    own = {"path": "trl_arms.Static", "kwargs": {"prompts": PARAPHRASES}}
    espl = {"path": "trl_arms.SlowOnly", "kwargs": {"size": 4, "max_chars": 3 * cap}}
    return {
        "rl": [train(off)],
        "static": [train(fast(1 + len(PARAPHRASES), longest, **own))],
        "prompts_then_rl": [train(once)],
        "rl_then_prompts": [train(off, limit - sizes.fast - step), Stage(once, 0.0, 1, longest)],
        "slow_only": [train(fast(4, 3, **espl))],
        "fst": [train(fast(4, CYCLE))],
        ONE_PROMPT: [train(fast(1, CYCLE))],
    }[job.arm]


def claims(seeds: Sequence[int], rate: float, sizes: Sizes) -> list[Job]:
    """rate: RL's."""
    return [
        Job("claims", task, arm, seed, rate if arm == "rl" else FST_RATE, sizes)
        for seed in seeds
        for task in CLAIM_TASKS
        for arm in ("rl", "fst")
    ]


def controls(seeds: Sequence[int], rates: Mapping[str, float], sizes: Sizes) -> list[Job]:
    """rates: of the arms in `SWEPT`."""
    wanted = [(task, arm) for task in CONTROL_TASKS for arm in ARMS] + [(LONG, ONE_PROMPT)]
    return [
        Job("controls", task, arm, seed, rates[RATE_OF.get(arm, arm)], sizes) for seed in seeds for task, arm in wanted
    ]


def sweep(part: str, arms: Sequence[str], seed: int, sizes: Sizes) -> list[Job]:
    """Every arm at every rate, on the first task: the other runs take the best."""
    return [Job(part, FIRST, arm, seed, rate, sizes) for arm in arms for rate in RATES]
