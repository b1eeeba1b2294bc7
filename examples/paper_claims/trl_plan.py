"""What is run through TRL, and in which order: every run is a `Job`, plain data, and one or two trainings (`stages`).

Settings are those of the claims through verl (`fst_verl.experiments.demo.Setup`, `+fst=paper`, `plan.Lengths`), as far
as TRL has them; the others are ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

BATCH, GROUP, CYCLE = 16, 8, 6
"""Problems a step, G, T: as in `fst_verl.experiments.demo.Setup`."""
STEP = BATCH * GROUP
"""Rollouts of a slow step."""
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates that RL is tried at in the claims, on the first task with the first seed: those of `plan.RATES`."""
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
TUNING_SEED = 100
"""Every control is tuned with this seed on each task by itself; no run with it is reported."""
CONTROL_RATES = RATES[:3]
"""Learning rates that every control is tried at (at the fourth, RL and FST collapsed in earlier runs)."""
WHOLE = 0
"""In place of T: one fast phase, for the whole run."""
PHASES = {
    "prompts_then_rl": ((WHOLE, 2.0), (WHOLE, 1.0), (WHOLE, 0.5)),
    "rl_then_prompts": ((WHOLE, 2.0), (WHOLE, 1.0), (WHOLE, 0.5)),
    "fst": ((CYCLE, 1.0), (CYCLE, 0.5), (2 * CYCLE, 1.0), (2 * CYCLE, 0.5)),
}
"""Control with fast phases -> (T, rollouts of a fast phase over `Sizes.fast`) that it is tried with, the first at every
rate, the others at the best one. FST's first is the paper's: five passes over the problems of six steps."""
ONE_PROMPT, HYBRID, FRONTIER, FOUR_ONCE = "fst_k1", "fst_hybrid", "fst_frontier", "four_prompts_then_rl"
EXAMPLES = "fst_examples"
PHASES |= {ONE_PROMPT: PHASES["fst"]}
ARMS = ("fst", "rl", "prompts_then_rl", "slow_only", ONE_PROMPT, "rl_then_prompts", "static")
ARMS += (HYBRID, FOUR_ONCE, FRONTIER, EXAMPLES)
"""Controls, by what is wanted first."""
TUNED_AS = {HYBRID: "fst", FRONTIER: "fst", EXAMPLES: "fst", FOUR_ONCE: "prompts_then_rl"}
"""Control -> whose settings it takes; every other has its own."""
TASKS_OF = {FRONTIER: (LONG,), FOUR_ONCE: (LONG,), EXAMPLES: (FIRST,)}
"""Control -> its tasks, if not all."""
MEANING = {
    "rl": "RL under the seed prompt",
    "static": "RL under the seed prompt and three paraphrases, no evolution",
    "prompts_then_rl": "one fast phase, then RL under the prompt that it found",
    "rl_then_prompts": "RL, then one fast phase for its last weights",
    "slow_only": "K=4 prompts ranked and evolved from slow rollouts alone, every three steps",
    "fst": "FST, K=4",
    ONE_PROMPT: "FST, K=1",
    FOUR_ONCE: "one fast phase, then RL under the K=4 prompts that it found; tuned as prompts_then_rl",
    HYBRID: "FST, K=4, its prompts evolve beside the steps (`fst.fast.when=hybrid`); tuned as fst",
    EXAMPLES: "FST, K=4, with examples too (`fst.components`), which this policy does not read; tuned as fst",
    FRONTIER: "FST, K=4, with `fst.fast.parents=frontier`: K prompts that complement each other; tuned as fst",
}
RETURN_TASKS = CONTROL_TASKS
"""Tasks that are left for another rule book of their kind, and come back."""
ARCHIVES: dict[str, dict[str, Any]] = {"fst": {}, "no_archive": {"archive": 0}}
"""Arm of the returns -> its `fst.fast`, besides the budget."""


@dataclass(frozen=True)
class Sizes:
    """Lengths of the runs (ours).

    steps: of a claim's run.
    budget: most rollouts of a control, slow and fast ones together.
    fast: rollouts of FST's fast phase in the claims; those of the controls are given over it.
    every: steps between the validations of a claim's run.
    problems, samples: of a validation, and how often a control tries each (the others once, as through verl).
    stage: steps of each stage of a return, as in the continual run through verl: a task, another one, the first again.
    """

    steps: int = 24
    budget: int = 3840
    fast: int = 480
    every: int = 4
    problems: int = 72
    samples: int = 4
    stage: int = 12


QUICK = Sizes(steps=2, budget=512, fast=64, every=1, problems=16, samples=2, stage=2)


@dataclass(frozen=True)
class Setting:
    """What a control is tuned in. rate: learning rate. cycle: T. fast: rollouts of a fast phase over `Sizes.fast`; 0
    of an arm without fast phases."""

    rate: float
    cycle: int = WHOLE
    fast: float = 0.0

    def __str__(self) -> str:
        cycle = f"_T{self.cycle}" if self.cycle else ""
        return f"lr{self.rate:g}{cycle}" + (f"_x{self.fast:g}" if self.fast else "")


@dataclass(frozen=True)
class Stage:
    """One training. fst: its `fst` settings. rate: learning rate. until: most rollouts. steps: longest it could get."""

    fst: Mapping[str, Any]
    rate: float
    until: int
    steps: int

    def ends(self, step: int, spent: int) -> bool:
        """Would the coming step, with the fast phase before it if one is due, pass `until`?

        step: steps done. spent: rollouts, slow and fast together.
        """
        fast = self.fst.get("fast", {})
        if fast.get("when") == "hybrid":  # `steps` says when: what evolves beside the last ones must know
            return False
        due = bool(self.fst.get("slow_steps")) and step % self.fst["slow_steps"] == 0
        return spent + STEP + (fast.get("budget", 0) if due else 0) > self.until


@dataclass(frozen=True)
class Job:
    """One run. part: "claims", "controls" or "returns"."""

    part: str
    task: str
    arm: str
    seed: int
    setting: Setting
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def name(self) -> str:
        return f"{self.part}/{self.task}/{self.arm}_{self.setting}_{self.seed}"

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Job:
        """Inverse of `identity`."""
        own = {name: identity[name] for name in ("part", "task", "arm", "seed")}
        return cls(**own, setting=Setting(**identity["setting"]), sizes=Sizes(**identity["sizes"]))

    def identity(self) -> dict[str, Any]:
        """What the run is, as JSON's own types: a finished run with another one is not this run."""
        env = two_books(self.task, self.seed) if self.part == "returns" else task_kwargs(self.task, self.seed)
        found = {**asdict(self), "env": env, "stages": [asdict(s) for s in stages(self)]}
        return json.loads(json.dumps(found))


def task_kwargs(task: str, seed: int) -> dict[str, Any]:
    """Arguments of `fst/HouseRules-v0`; a rule book of its own per seed. Raises KeyError for an unknown task."""
    return {
        "house_rules_codes": {"book": seed},
        "house_rules_places": {"book": seed + 50, "kinds": ["places"]},
        "house_rules_format": {"book": seed + 150, "kinds": ["codes", "format"]},
        LONG: {"book": seed + 300, "words": 24},
    }[task]


def two_books(task: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a return's task and of the one that comes between, which nothing else uses."""
    first = task_kwargs(task, seed)
    return first, {**first, "book": first["book"] + 1000}


def stages(job: Job) -> list[Stage]:
    """The trainings of a run, each from the weights that the one before left."""
    sizes, setting, cap = job.sizes, job.setting, CAP.get(job.task, 128)
    limit, longest = (sizes.budget, sizes.budget // STEP) if job.part == "controls" else (10**9, sizes.steps)
    longest = 3 * sizes.stage if job.part == "returns" else longest
    shared = {"max_prompt_tokens": cap, "reflection": {"kind": "offline"}, "seed": job.seed}
    phase = round(setting.fast * sizes.fast)

    def fast(population: int, cycle: int = setting.cycle or longest, **own: Any) -> dict[str, Any]:
        return {**shared, "population": population, "slow_steps": cycle, "fast": own or {"budget": phase}}

    def train(fst: Mapping[str, Any], until: int = limit) -> Stage:
        return Stage(fst, setting.rate, until, longest)

    if job.part == "returns":
        return [train(fast(4, budget=phase, **ARCHIVES[job.arm]))]
    if job.part == "claims" and job.arm == "fst":  # GEPA's search, as verl's runs have it
        return [train(fast(4, budget=phase, parents="frontier"))]
    if job.arm == HYBRID:  # as many steps as the budget bears with a whole phase for every cycle
        steps = max(n for n in range(1, longest + 1) if n * STEP + math.ceil(n / setting.cycle) * phase <= limit)
        return [replace(train(fast(4, budget=phase, when="hybrid")), steps=steps)]
    off = {"enabled": False}
    own = {"path": "trl_arms.Static", "kwargs": {"prompts": PARAPHRASES}}
    espl = {"path": "trl_arms.SlowOnly", "kwargs": {"size": 4, "max_chars": 3 * cap}}
    return {
        "rl": [train(off)],
        "static": [train(fast(1 + len(PARAPHRASES), longest, **own))],
        "prompts_then_rl": [train(fast(1))],
        "rl_then_prompts": [train(off, limit - phase - STEP), Stage(fast(1), 0.0, phase + STEP, 1)],
        "slow_only": [train(fast(4, 3, **espl))],
        "fst": [train(fast(4))],
        ONE_PROMPT: [train(fast(1))],
        FOUR_ONCE: [train(fast(4))],
        EXAMPLES: [train({**fast(4), "components": ["instructions", "examples"]})],
        FRONTIER: [train(fast(4, budget=phase, parents="frontier"))],
    }[job.arm]


RETURNS = (Setting(FST_RATE, CYCLE, 1.0), Setting(FST_RATE, CYCLE, 0.25))
"""Settings of the returns: FST's in the claims, and fast phases of a quarter (ours)."""


# ---------------------------------------------------------------------------------------------------- in which order

Runs = Mapping[str, Any]
"""The finished runs, by name: records as `trl_runs` keeps them."""


def wanted(only: Sequence[str], seeds: Sequence[int], sizes: Sizes, runs: Runs) -> list[Job]:
    """What can be run or is finished, by what is wanted first: what others wait for, then seed by seed, claims two
    seeds behind the controls.

    only: of "controls", "claims" and "returns".
    """
    tuning: list[Job] = []
    rest: list[tuple[int, Job]] = []
    if "controls" in only:
        tuning += [job for task, arm in controls() for job in rate_sweep(task, arm, sizes)]
        tuning += [job for task, arm in controls() for job in phase_sweep(task, arm, sizes, runs)]
        chosen = {one: tuned(*one, sizes, runs) for one in controls()}
        rest += [(s, Job("controls", *one, s, own, sizes)) for s in seeds for one, own in chosen.items() if own]
    if "returns" in only:
        cells = [(task, arm, own) for task in RETURN_TASKS for own in RETURNS for arm in ARCHIVES]
        rest += [(s + 2, Job("returns", task, arm, s, own, sizes)) for s in seeds for task, arm, own in cells]
    if "claims" in only:
        tuning += (sweep := claims_sweep(seeds[0], sizes))
        settings = {"rl": best(sweep, runs), "fst": Setting(FST_RATE, CYCLE, 1.0)}
        cells = [(task, arm, own) for task in CLAIM_TASKS for arm, own in settings.items() if own]
        rest += [(s + 2, Job("claims", task, arm, s, own, sizes)) for s in seeds for task, arm, own in cells]
    ordered = tuning + [job for _, job in sorted(rest, key=lambda one: one[0])]
    return list({job.name: job for job in ordered}.values())


def controls() -> list[tuple[str, str]]:
    """(task, arm), by what is wanted first."""
    return [(task, arm) for arm in ARMS for task in reversed(CONTROL_TASKS) if task in TASKS_OF.get(arm, (task,))]


def claims_sweep(seed: int, sizes: Sizes) -> list[Job]:
    """RL at every rate on the first task: its runs on all tasks take the best."""
    return [Job("claims", FIRST, "rl", seed, Setting(rate), sizes) for rate in RATES]


def rate_sweep(task: str, arm: str, sizes: Sizes) -> list[Job]:
    """The control whose settings this one takes at every rate, with the first of its fast phases."""
    arm = TUNED_AS.get(arm, arm)
    first = PHASES.get(arm, ((WHOLE, 0.0),))[0]
    return [Job("controls", task, arm, TUNING_SEED, Setting(rate, *first), sizes) for rate in CONTROL_RATES]


def phase_sweep(task: str, arm: str, sizes: Sizes, runs: Runs) -> list[Job]:
    """The same with the others of its fast phases, at the best rate; none as long as that is not known."""
    arm = TUNED_AS.get(arm, arm)
    at_best = best(rate_sweep(task, arm, sizes), runs)
    others = PHASES.get(arm, ())[1:] if at_best else ()
    return [Job("controls", task, arm, TUNING_SEED, Setting(at_best.rate, *one), sizes) for one in others]


def tuned(task: str, arm: str, sizes: Sizes, runs: Runs) -> Setting | None:
    """A control's settings on a task; None as long as they are not known."""
    rates = rate_sweep(task, arm, sizes)
    return best([*rates, *phase_sweep(task, arm, sizes, runs)], runs) if best(rates, runs) else None


def best(jobs: Sequence[Job], runs: Runs) -> Setting | None:
    """The settings of the job whose validations are best: highest peak, then highest mean. None if one is not
    finished."""

    def rank(job: Job) -> tuple[float, float]:
        curve = validations(runs[job.name])
        return max(curve), sum(curve) / len(curve)

    return max(jobs, key=rank).setting if all(job.name in runs for job in jobs) else None


def validations(record: Mapping[str, Any]) -> list[float]:
    """Rewards of the last stage's validations under the run's own prompt, in order."""
    found = []
    for _, data in record["stages"][-1]:
        found += [v for name, v in data.items() if name.startswith("val-core/") and "/seed_prompt/" not in name]
    return found
