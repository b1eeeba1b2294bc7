"""What is run: every run is a `Job`, plain data, and one `python -m verl.trainer.main_ppo` through
`fst_verl.experiments.demo`.

Jobs come in three waves, since a later one needs what an earlier one found: `sweep` (RL's learning rate), `main` (all
arms at RL's best rate, continual runs, ablations), `after` (runs that start from trained weights or prompts).
Settings that differ from the paper's are those of `fst_verl.experiments.demo.Setup`, and the lengths below (ours).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from fst_verl.experiments.demo import Setup

RULES, TRY, STAR = (f"fst_envs:fst/{name}-v0" for name in ("HouseRules", "SecondTry", "StarGraph"))

CLAIMS = ("efficiency", "continual", "plasticity", "equal_rate", "attribution", "zero_start", "ablations", "search")
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates that RL is tried at (ours), on the first task. FST and prompts alone run at Setup's own."""
QUICK_RATE = 1e-3
"""RL's without a sweep: the one that the sweep in RESULTS.md chose."""
TASKS = ("house_rules_codes", "house_rules_places", "second_try")
"""The first is that of RL's sweep, ablations, attribution, and the weights that the plasticity probe starts from."""
EQUAL = "rl_equal"
"""RL at FST's own learning rate: what of FST's lead in `plasticity` and `continual` is not the rate's doing."""
PROBED = "house_rules_places"
"""The plasticity probe's task."""
FORMAT, GRAPH = "house_rules_format", "star_graph"
ZERO = (FORMAT, GRAPH)
"""The tasks whose reward is 0 until the form of the answer is known."""
SAVED = (
    "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
    "actor_rollout_ref.actor.checkpoint.load_contents=[model,optimizer,extra]",
)
TURNS = (
    "data.env.multi_turn=true",
    "data.env.max_turn_tokens=8",
    "data.max_response_length=64",
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns=2",
    "actor_rollout_ref.rollout.max_model_len=320",
)
SMALL = ("+data.env.kwargs.degree=3", "+data.env.kwargs.path_length=2", "+data.env.kwargs.max_node=15")
"""The star graph that the tiny policy reads (ours)."""
LONG = ("data.max_prompt_length=512", "data.max_response_length=64", "actor_rollout_ref.rollout.max_model_len=576")
ABLATIONS: dict[str, tuple[str, ...]] = {
    "one_prompt": ("fst.population=1",),
    "best_only": ("fst.context.path=best_only.BestOnly",),
    "small_budget": ("fst.fast.passes=2",),
    "short_cycles": ("fst.slow_steps=3",),
    "no_free_scores": ("fst.fast.free_scores=false",),
    "long_cycles": ("fst.slow_steps=12",),
    "adaptive": ("fst.schedule.kind=adaptive",),
    "higher_rate": ("actor_rollout_ref.actor.optim.lr=1e-3",),
}
MEANING = {
    "fst": "K=4, T=6, five passes, as in the claims",
    "prompts": "the weights do not learn",
    "one_prompt": "K=1",
    "best_only": "K=4 is evolved, every rollout runs under the best prompt",
    "short_cycles": "T=3",
    "long_cycles": "T=12",
    "small_budget": "fast phases of two passes over the anchors",
    "no_free_scores": "fast phases pay for the carried prompts' scores",
    "adaptive": "a cycle ends when its reward no longer rises",
    "higher_rate": "learning rate 1e-3; FST's own, 3e-4, was not swept",
}


GEPA = "frontier"
REFLECTION_S = 3
"""Seconds of a reflection, where the clock is compared (ours: about as long as a step's rollouts)."""
TIMED = (
    "fst.fast.parents=thompson",
    "fst.reflection.path=waiting.WaitingReflection",
    f"+fst.reflection.kwargs.seconds={REFLECTION_S}",
)
SEARCHES: dict[str, tuple[str, ...]] = {GEPA: (), "before": TIMED, "hybrid": (*TIMED, "fst.fast.when=hybrid")}
"""GEPA's search, as FST elsewhere has it (`+fst=paper`), and the default one, before the steps and beside them."""
SAVED_EVERY = 3
"""Steps from one of their checkpoints to the next, so that prompts can be tried under later weights (ours)."""


@dataclass(frozen=True)
class Lengths:
    """Steps of the runs, how many steps apart they validate, and how many problems, each tried once (ours). A continual
    run has three stages of `stage` steps, and validates `stage_val_size` problems of each of its tasks."""

    main: int = 24
    stage: int = 12
    probe: int = 12
    zero: int = 12
    test_every: int = 4
    zero_test_every: int = 2
    val_size: int = 72
    stage_val_size: int = 24

    @property
    def steps_of_stages(self) -> list[tuple[int, int]]:
        return [(i * self.stage + 1, (i + 1) * self.stage) for i in range(3)]


QUICK = Lengths(main=20, zero=8)


@dataclass(frozen=True)
class Job:
    """One run. name: its folder. weights: the job whose last weights it starts from; None: the base model.
    prompt: the job whose best prompt is its system message; None: the seed prompt."""

    name: str
    arm: str
    seed: int
    setup: Setup
    weights: str | None = None
    prompt: str | None = None

    def identity(self) -> dict[str, Any]:
        """What the run is, as JSON's own types: a finished run with another one is not this run."""
        return json.loads(json.dumps(asdict(self)))


def quoted(text: str) -> str:
    """A value of Hydra's command line that reads as this very text."""
    text = re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", text)
    text = re.sub(r"(\\*)'", lambda m: m[1] * 2 + "\\'", text)
    return "'" + re.sub(r"(\\+)$", lambda m: m[1] * 2, text) + "'"


def task_arguments(name: str, seed: int) -> tuple[str, ...]:
    """verl arguments that name a task; a rule book of its own per seed. Raises KeyError for an unknown one."""
    return {
        "house_rules_codes": (f"data.env.id={RULES}", f"+data.env.kwargs.book={seed}"),
        "house_rules_places": (
            f"data.env.id={RULES}",
            f"+data.env.kwargs.book={seed + 50}",
            "+data.env.kwargs.kinds=[places]",
        ),
        FORMAT: (
            f"data.env.id={RULES}",
            f"+data.env.kwargs.book={seed + 150}",
            "+data.env.kwargs.kinds=[codes,format]",
        ),
        "second_try": (f"data.env.id={TRY}", f"+data.env.kwargs.book={seed + 100}", *TURNS),
        GRAPH: (f"data.env.id={STAR}", *SMALL, *LONG),
    }[name]


def stage_tasks(seed: int, lengths: Lengths) -> list[dict[str, Any]]:
    """The continual run's schedule, as `data.env.tasks` wants it."""
    kwargs = [{"book": seed}, {"book": seed + 50, "kinds": ["places"]}, {"book": seed + 200}]
    begins = [first for first, _ in lengths.steps_of_stages]
    return [{"id": RULES, "kwargs": k, "from_step": step} for k, step in zip(kwargs, begins, strict=True)]


def _stages(seed: int, lengths: Lengths) -> tuple[str, ...]:
    """The schedule as Hydra's command line has it; JSON with its names unquoted."""
    listed = re.sub(r'"(\w+)":', r"\1:", json.dumps(stage_tasks(seed, lengths)))
    return (f"data.env.tasks={listed}", "data.shuffle=false")


@dataclass(frozen=True)
class Plan:
    """Everything that is asked for. model: what is trained, for the texts."""

    seeds: Sequence[int]
    lengths: Lengths
    claims: Sequence[str] = CLAIMS
    extra: tuple[str, ...] = ()
    rates: Sequence[float] = RATES
    tasks: Sequence[str] = TASKS
    model: str = "tiny policy"

    @property
    def first(self) -> str:
        return self.tasks[0]

    @property
    def compared(self) -> Sequence[str]:
        """Tasks on which RL and FST run side by side: all, or those that a claim needs."""
        if "efficiency" in self.claims:
            return self.tasks
        return self.tasks[: bool({"plasticity", "equal_rate", "attribution", "ablations"} & {*self.claims})]

    def job(self, folder: str, arm: str, seed: int, task: tuple[str, ...], steps: int, *own: str, **more: Any) -> Job:
        """A training run. rate: RL's learning rate; whatever else is trained keeps Setup's own."""
        rate = more.pop("rate", None)
        setup = Setup(
            steps=steps,
            seeds=(seed,),
            val_size=more.pop("val_size", self.lengths.val_size),
            val_samples=1,
            test_every=more.pop("test_every", self.lengths.test_every),
            learning_rate=rate if arm == "rl" and rate else Setup.learning_rate,
            task=task,
            extra=(*own, *self.extra),
        )
        return Job(folder, arm, seed, setup, **more)

    def main_job(self, task: str, arm: str, seed: int, rate: float | None = None) -> Job:
        """A run that measures drift, plain RL included. rate: RL's, which is part of the folder's name, so that the
        sweep's run at it is not repeated."""
        at = f"_lr{rate:g}" if rate is not None else ""
        own = ["fst.drift=true", *(["trainer.v1.trainer_mode=fst_sync"] if arm == "rl" else [])]
        if task == self.first and arm in ("rl", "fst"):
            own += [*SAVED, f"trainer.save_freq={self.lengths.main}"]
        arguments = task_arguments(task, seed)
        return self.job(f"{task}/{arm}{at}_{seed}", arm, seed, arguments, self.lengths.main, *own, rate=rate)

    def sweep(self) -> list[Job]:
        """RL at every rate, on the first task with the first seed: everything else takes the best."""
        return [self.main_job(self.first, "rl", self.seeds[0], rate) for rate in self.rates]

    def main(self, rate: float) -> list[Job]:
        """rate: RL's learning rate."""
        jobs = []
        for seed in self.seeds:
            for task in self.compared:
                jobs += [self.main_job(task, "rl", seed, rate), self.main_job(task, "fst", seed)]
            if {"plasticity", "equal_rate"} & {*self.claims}:
                jobs.append(self.main_job(PROBED, "rl", seed, rate))
            if "equal_rate" in self.claims:
                jobs.append(self.main_job(self.first, "rl", seed, Setup.learning_rate))
                jobs.append(self.continual_job(EQUAL, seed, rate))
            if "zero_start" in self.claims:
                jobs += [self.zero_job(task, arm, seed, rate) for task in ZERO for arm in ("rl", "fst")]
            if "continual" in self.claims:
                jobs += [self.continual_job(arm, seed, rate) for arm in ("rl", "fst")]
        if "ablations" in self.claims:
            jobs += [self.main_job(self.first, "prompts", seed) for seed in self.seeds]
            jobs += [self.ablation_job(name, seed) for name in ABLATIONS for seed in self.seeds]
        if "search" in self.claims:
            for seed, task in product(self.seeds, self.tasks):
                jobs.append(self.main_job(task, "rl", seed, rate))
                jobs += [self.search_job(task, name, seed) for name in SEARCHES]
        return jobs

    def zero_job(self, task: str, arm: str, seed: int, rate: float) -> Job:
        """task: one of `ZERO`."""
        name, steps, every = f"{task}/{arm}_{seed}", self.lengths.zero, self.lengths.zero_test_every
        return self.job(name, arm, seed, task_arguments(task, seed), steps, rate=rate, test_every=every)

    def continual_job(self, arm: str, seed: int, rate: float) -> Job:
        """arm: also EQUAL."""
        steps, size = self.lengths.steps_of_stages[-1][1], self.lengths.stage_val_size
        task, name = _stages(seed, self.lengths), f"continual/{arm}_{seed}"
        arm, rate = ("rl", Setup.learning_rate) if arm == EQUAL else (arm, rate)
        return self.job(name, arm, seed, task, steps, rate=rate, val_size=size)

    def ablation_job(self, name: str, seed: int) -> Job:
        task = task_arguments(self.first, seed)
        return self.job(f"ablations/{name}_{seed}", "fst", seed, task, self.lengths.main, *ABLATIONS[name])

    def search_job(self, task: str, name: str, seed: int) -> Job:
        """name: one of `SEARCHES`."""
        own = ("fst.drift=true", *SAVED, f"trainer.save_freq={SAVED_EVERY}", *SEARCHES[name])
        return self.job(
            f"search/{task}_{name}_{seed}", "fst", seed, task_arguments(task, seed), self.lengths.main, *own
        )

    def after(self, rate: float) -> list[Job]:
        jobs = []
        for seed in self.seeds:
            starts = ["rl", "fst"] if "plasticity" in self.claims else []
            starts += [EQUAL] if "equal_rate" in self.claims else []
            jobs += [self.plasticity_job(start, seed, rate) for start in starts]
            if "attribution" in self.claims:
                jobs.append(self.prompted_job(seed))
        return jobs

    def plasticity_job(self, start: str, seed: int, rate: float) -> Job:
        """The first steps of plain RL on the other rule family, from weights that `start` trained on the first; from
        the base, they are those of that family's own RL run, on the same problems. start: "base", or whose weights."""
        if start == "base":
            return self.main_job(PROBED, "rl", seed, rate)
        arm, trained_at = {"fst": ("fst", None), "rl": ("rl", rate), EQUAL: ("rl", Setup.learning_rate)}[start]
        weights = self.main_job(self.first, arm, seed, trained_at).name
        task, own = task_arguments(PROBED, seed), f"data.env.train_size={Setup.batch * self.lengths.main}"
        name, steps = f"plasticity/{start}_{seed}", self.lengths.probe
        return self.job(name, "rl", seed, task, steps, own, weights=weights, rate=rate)

    def prompted_job(self, seed: int) -> Job:
        """One cell of the 2x2, base weights under FST's best prompt: a validation and nothing else. The other three are
        in the log of FST's own run, which validates both prompts before its first step and after its last."""
        fst = self.main_job(self.first, "fst", seed).name
        own = ("trainer.val_only=true", "fst.slow_steps=1")
        return self.job(
            f"attribution/base_evolved_{seed}", "rl", seed, task_arguments(self.first, seed), 1, *own, prompt=fst
        )


def with_prompt(setup: Setup, text: str) -> Setup:
    """The same run with another system message."""
    return replace(setup, extra=(*setup.extra, f"data.env.system_prompt={quoted(text)}"))
