"""What is run: every run is a `Job`, plain data, and one `python -m verl.trainer.main_ppo` through `fst_verl.demo`.

Jobs come in three waves, since a later one needs what an earlier one found: `sweep` (RL's learning rate), `main` (all
arms at RL's best rate, continual runs, ablations), `after` (runs that start from trained weights).
Settings that differ from the paper's are those of `fst_verl.demo.Setup`, and the lengths below (ours).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fst_verl.demo import Setup

RULES, TRY, STAR = (f"fst_envs:fst/{name}-v0" for name in ("HouseRules", "SecondTry", "StarGraph"))

CLAIMS = ("efficiency", "continual", "plasticity", "attribution", "ablations")
RATES = (1e-4, 3e-4, 1e-3)
"""Learning rates that RL is tried at (ours); the others all run at Setup's own."""
ABLATED = "house_rules_codes"
"""The task of ablations, attribution, and of the weights that the plasticity probe starts from."""
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
LONG = ("data.max_prompt_length=768", "data.max_response_length=64", "actor_rollout_ref.rollout.max_model_len=832")
ABLATIONS: dict[str, tuple[str, ...]] = {
    "reference": (),
    "one_prompt": ("fst.population=1",),
    "best_only": ("fst.context.path=best_only.BestOnly",),
    "short_cycles": ("fst.slow_steps=3",),
    "long_cycles": ("fst.slow_steps=12",),
    "small_budget": ("fst.fast.passes=2",),
    "no_free_scores": ("fst.fast.free_scores=false",),
    "adaptive": ("fst.schedule.kind=adaptive",),
}
MEANING = {
    "reference": "K=4, T=6, five passes, as in the claims",
    "one_prompt": "K=1",
    "best_only": "K=4 is evolved, every rollout runs under the best prompt",
    "short_cycles": "T=3",
    "long_cycles": "T=12",
    "small_budget": "fast phases of two passes over the anchors",
    "no_free_scores": "fast phases pay for the carried prompts' scores",
    "adaptive": "a cycle ends when its reward no longer rises",
}


@dataclass(frozen=True)
class Lengths:
    """Steps of the runs. A continual run has three stages of `stage` steps."""

    main: int = 72
    stage: int = 24
    probe: int = 24
    ablation: int = 24
    val_size: int = 36
    pass_size: int = 200  # problems of a cell of the 2x2, each tried once

    @property
    def steps_of_stages(self) -> list[tuple[int, int]]:
        return [(i * self.stage + 1, (i + 1) * self.stage) for i in range(3)]


QUICK = Lengths(main=36, stage=12, probe=12, ablation=12, pass_size=100)


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
        "second_try": (f"data.env.id={TRY}", f"+data.env.kwargs.book={seed + 100}", *TURNS),
        "star_graph": (f"data.env.id={STAR}", *LONG),
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
    """Everything that is asked for. language: the model reads more than the house rules' small language."""

    seeds: Sequence[int]
    lengths: Lengths
    claims: Sequence[str] = CLAIMS
    extra: tuple[str, ...] = ()
    language: bool = False
    rates: Sequence[float] = RATES

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("house_rules_codes", "house_rules_places", "second_try", *(["star_graph"] if self.language else []))

    def job(self, folder: str, arm: str, seed: int, task: tuple[str, ...], steps: int, *own: str, **more: Any) -> Job:
        """A training run that measures drift, plain RL included."""
        drift = ("fst.drift=true", *(["trainer.v1.trainer_mode=fst_sync"] if arm == "rl" else []))
        rate = more.pop("rate", None) or Setup.learning_rate
        setup = Setup(
            steps=steps, seeds=(seed,), val_size=self.lengths.val_size, learning_rate=rate, task=task,
            extra=(*drift, *own, *self.extra),
        )  # fmt: skip
        return Job(folder, arm, seed, setup, **more)

    def main_job(self, task: str, arm: str, seed: int, rate: float | None = None) -> Job:
        """rate: RL's, which is part of the folder's name, so that the sweep's run at it is not repeated."""
        at = f"_lr{rate:g}" if rate is not None else ""
        saved = (*SAVED, f"trainer.save_freq={self.lengths.main}") if task == ABLATED and arm in ("rl", "fst") else ()
        arguments = task_arguments(task, seed)
        return self.job(f"{task}/{arm}{at}_{seed}", arm, seed, arguments, self.lengths.main, *saved, rate=rate)

    def sweep(self) -> list[Job]:
        """RL at every rate, with the first seed: all other claims take the best."""
        return [self.main_job(task, "rl", self.seeds[0], rate) for task in self._swept() for rate in self.rates]

    def _swept(self) -> tuple[str, ...]:
        if "efficiency" in self.claims:
            return self.tasks
        return (ABLATED,) if self.claims else ()

    def main(self, best: Mapping[str, float]) -> list[Job]:
        """best: task -> RL's learning rate."""
        jobs = []
        for seed in self.seeds:
            tasks = self._swept()
            jobs += [self.main_job(task, "rl", seed, best[task]) for task in tasks]
            jobs += [self.main_job(task, "fst", seed) for task in tasks]
            if "continual" in self.claims:
                jobs += [self.continual_job(arm, seed, best[ABLATED]) for arm in ("rl", "fst")]
            if "ablations" in self.claims:
                jobs.append(self.main_job(ABLATED, "prompts", seed))
                jobs += [self.ablation_job(name, seed) for name in ABLATIONS]
        return jobs

    def continual_job(self, arm: str, seed: int, rate: float) -> Job:
        steps = self.lengths.steps_of_stages[-1][1]
        task = _stages(seed, self.lengths)
        return self.job(f"continual/{arm}_{seed}", arm, seed, task, steps, rate=rate if arm == "rl" else None)

    def ablation_job(self, name: str, seed: int) -> Job:
        task = task_arguments(ABLATED, seed)
        return self.job(f"ablations/{name}_{seed}", "fst", seed, task, self.lengths.ablation, *ABLATIONS[name])

    def after(self, best: Mapping[str, float]) -> list[Job]:
        jobs = []
        for seed in self.seeds:
            if "plasticity" in self.claims:
                jobs += [self.plasticity_job(start, seed, best) for start in ("rl", "fst", "base")]
            if "attribution" in self.claims:
                jobs += [self.cell_job(w, p, seed) for w in ("base", "trained") for p in ("seed", "evolved")]
        return jobs

    def plasticity_job(self, start: str, seed: int, best: Mapping[str, float]) -> Job:
        """Plain RL on the other rule family, from weights trained on the first by `start`."""
        task, rate = task_arguments("house_rules_places", seed + 300), best[ABLATED]
        weights = {
            "rl": self.main_job(ABLATED, "rl", seed, rate).name,
            "fst": self.main_job(ABLATED, "fst", seed).name,
            "base": None,
        }[start]
        steps = self.lengths.probe
        return self.job(f"plasticity/{start}_{seed}", "rl", seed, task, steps, weights=weights, rate=rate)

    def cell_job(self, weights: str, prompt: str, seed: int) -> Job:
        """One cell of the 2x2: a validation and nothing else, one sample a problem."""
        fst = self.main_job(ABLATED, "fst", seed).name
        setup = Setup(
            steps=1, seeds=(seed,), val_size=self.lengths.pass_size, val_samples=1,
            task=task_arguments(ABLATED, seed), extra=("trainer.val_only=true", "fst.slow_steps=1", *self.extra),
        )  # fmt: skip
        trained, evolved = (fst if weights == "trained" else None), (fst if prompt == "evolved" else None)
        return Job(f"attribution/{weights}_{prompt}_{seed}", "rl", seed, setup, trained, evolved)


def with_prompt(setup: Setup, text: str) -> Setup:
    """The same run with another system message."""
    return replace(setup, extra=(*setup.extra, f"data.env.system_prompt={quoted(text)}"))
