"""One config for the whole method. Every default says where it comes from: "paper §…" or "ours".

Paper: "Learning, Fast and Slow", arXiv 2605.12484. Unknown keys are errors. `parse` reports all problems of a config at
once; what needs the RL framework's own settings to be judged is checked next to that framework (`fst_verl.check`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .secrets import HIDDEN, names_a_secret, redact, without_secrets

TASK_AGNOSTIC_SEED = "You are a helpful assistant."
"""Seed prompt if the data has no system message. Task-agnostic as in paper §continual; the wording is ours."""
APPENDED_SEED = "Follow the instructions carefully."
"""Seed prompt if prompts are appended to the rows' own system messages (ours)."""


def least_steps(every: int = 1) -> int:
    """Slow steps of a cycle beside which prompts can evolve: one for scores, then one generation and the comparison
    (ours). every: steps that rollouts beside a step take until they are in."""
    return 1 + 2 * every


@dataclass(frozen=True)
class ConfigProblem:
    """One thing that is wrong with a config: the key, what is wrong, and how to fix it."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class ConfigError(ValueError):
    """Carries every problem found; its text lists them one a line."""

    def __init__(self, problems: list[ConfigProblem]):
        self.problems = problems
        super().__init__("\n".join(["the fst config cannot be used:", *(f"  - {p}" for p in problems)]))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pluggable(_Strict):
    """A part that a user can replace: `name` picks a shipped one, `path` (module.attribute) a user's own."""

    path: str | None = Field(None, description="dotted path of the user's own class; null: the shipped one (ours)")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of that class (ours)")


class ContextConfig(Pluggable):
    """Which prompt a rollout gets."""

    name: Literal["population", "fixed", "off"] = Field(
        "population", description="population: index in the group mod K (paper §algorithm 1, step 3)"
    )
    placement: Literal["auto", "system", "append", "user"] = Field(
        "auto",
        description="system: the prompt is the system message, in place of the data's; append: it follows the row's own"
        " system message; user: it precedes the first user message, for chat templates without a system role; auto: as"
        " data and template need it (ours)",
    )


class ReflectionConfig(Pluggable):
    """Who proposes new prompts from feedback. A `path` of the user's own takes the place of `kind`."""

    kind: Literal["policy", "lm", "offline"] = Field(
        "policy",
        description="policy: the trained model itself, through the rollout engine; lm: any DSPy LM (paper §settings:"
        " a frozen stronger LM); offline: composes prompts from feedback sentences, no LM. The default is ours: it is"
        " the only one that needs nothing from the user",
    )
    model: str | None = Field(None, description="DSPy model string for kind=lm, such as openai/<model>")
    api_base: str | None = Field(None, description="address of the LM server; the key comes from the environment only")
    temperature: float = Field(1.0, ge=0, description="ours")
    max_tokens: int = Field(4096, gt=0, description="longest answer of the reflection LM, in its tokens (ours)")
    timeout_s: float = Field(
        120.0,
        gt=0,
        description="longest wait for an answer, or that a rate limit may ask for; three such waits in a row, and the"
        " LM is asked no more in this phase (ours)",
    )
    retries: int = Field(2, ge=0, description="of a call that timed out or may pass: rate limits, server errors (ours)")
    concurrency: int = Field(8, gt=0, description="reflection calls in flight (ours)")
    max_failures: int = Field(
        5,
        gt=0,
        description="rounds in a row without a usable prompt that end a fast phase, failures or not; before slow steps"
        " three with eight reflections do if none failed and rewards differ, unless parents=frontier (ours)",
    )
    show_answer: bool = Field(
        False,
        description="if neither reward function nor environment gives feedback: may the reflection see the problem's"
        " reference answer? (ours: no)",
    )


class FastPhaseConfig(Pluggable):
    """How much a fast phase spends, and on what."""

    passes: float = Field(
        5.0, gt=0, description="budget in passes over the anchor set; paper §settings: 960 calls on 192 anchors = 5"
    )
    budget: int | None = Field(None, gt=0, description="budget in rollouts; null: passes x anchors (ours)")
    anchors: int | None = Field(
        None,
        gt=0,
        description="at most this many of the cycle's problems as anchors; null: all of them (paper §algorithm 1)",
    )
    when: Literal["before", "hybrid"] = Field(
        "before",
        description="before: every cycle begins with a fast phase, and the slow steps wait (paper §algorithm 1);"
        " hybrid: so do the first cycle and one with another task, and the prompts of the others evolve beside the slow"
        " steps of the cycle before (ours)",
    )
    grace: float = Field(
        0.25,
        ge=0,
        description="when=hybrid: how long a step, once its own rollouts are done, waits for those beside it, as a"
        " share of the time that its own took; what is not done then is cut off (ours)",
    )
    parents: Literal["thompson", "mean", "frontier"] = Field(
        "thompson",
        description="whose children are tried: thompson: each in proportion to the chance that it is the best; mean:"
        " the best so far; both test on few problems, and again what does well. frontier: GEPA's rule, and what passes"
        " a test is scored on all anchors (paper §settings). The default is ours",
    )
    crossover: bool = Field(
        False,
        description="parents=thompson or mean: a reflection sees two prompts, and what each gets wrong, and makes one"
        " of both; better where reflections forget what a prompt says (ours)",
    )
    minibatch: int | None = Field(
        None,
        gt=0,
        description="problems a new prompt is first tested on; null: 16, or with parents=frontier at least 3, as in"
        " GEPA (ours)",
    )
    records: int = Field(12, gt=0, description="most rollouts shown to one reflection (ours)")
    new_candidates: int = Field(
        12,
        gt=0,
        description="parents=frontier: anchors are subsampled (seeded) so that at least this many new prompts can be"
        " scored (ours)",
    )
    rounds: int | None = Field(
        None,
        gt=0,
        description="generations of new prompts; fewer and wider ones fill a large engine better, and learn less from"
        " each other; null: 6, or 3 with parents=frontier (ours)",
    )
    proposals: int | None = Field(
        None,
        gt=0,
        description="prompts proposed at a time; null: half of a round's rollouts over minibatch, at most 12, or with"
        " parents=frontier 2 x new_candidates / rounds (ours)",
    )
    width: int | None = Field(
        None,
        gt=0,
        description="parents=frontier: rollouts that the engine runs at a time, which a batch should fill; null:"
        " max_num_seqs x replicas (ours)",
    )
    free_scores: bool = Field(
        True,
        description="take the carried prompts' scores and feedback from the slow phase instead of paying for them"
        " again (paper names it as future work; ours)",
    )
    max_score_age: int | None = Field(
        None,
        gt=0,
        description="slow steps after which such a score is too stale; null: none of a cycle is (ours)",
    )
    confidence: float | None = Field(
        None,
        ge=0,
        description="standard errors that the best new prompt must be ahead by to take the lead from an old one, by"
        " search and unseen problems pooled; null: 1.64; with parents=frontier 1, on unseen problems alone (ours)",
    )
    patience: int | None = Field(
        None, gt=0, description="rounds without a new best anchor score that end a fast phase; null: no such end (ours)"
    )
    answers: Literal["auto", "private", "shared"] = Field(
        "auto",
        description="private: a problem's answer is its own, and a prompt that carries one is refused; auto: as the"
        " environment says (extra_info.private_answer), else shared (ours)",
    )
    perfect_score: float | None = Field(
        None,
        description="reward from which on an answer is solved and has nothing left to teach; null: the best reward that"
        " the run has seen so far (ours)",
    )
    archive: int = Field(
        16,
        ge=0,
        description="most earlier prompts that are kept, to be tried again in later fast phases; 0: none (ours)",
    )
    max_failed_phases: int = Field(
        0,
        ge=0,
        description="consecutive failed fast phases that training survives with the old population (ours: none)",
    )

    @property
    def generations(self) -> int:
        """`rounds`, or what null comes to."""
        return self.rounds or (3 if self.parents == "frontier" else 6)

    @property
    def test(self) -> int:
        """`minibatch`, or what null comes to."""
        return self.minibatch or (3 if self.parents == "frontier" else 16)


class ScheduleConfig(_Strict):
    """When a cycle ends. Default: after slow_steps = T steps. Adaptive: when its reward no longer rises."""

    kind: Literal["fixed", "adaptive"] = Field("fixed", description="fixed: T steps (paper §algorithm 1)")
    patience: int = Field(3, gt=0, description="adaptive: steps without a new best moving mean of the reward (ours)")
    window: int = Field(2, gt=0, description="adaptive: steps in the moving mean (ours)")
    min_steps: int = Field(3, gt=0, description="adaptive: a cycle has at least this many slow steps (ours)")
    max_steps: int = Field(12, gt=0, description="adaptive: and at most this many (ours)")


class FSTConfig(_Strict):
    """The `fst` node of a run's config."""

    enabled: bool = Field(True, description="false: the run is plain RL, its prompts byte for byte the data's")
    population: int = Field(4, ge=1, description="K, prompts per group (paper §settings: 4 or 8)")
    slow_steps: int = Field(6, ge=1, description="T, RL steps per cycle (paper §settings)")
    seed_prompt: str | None = Field(
        None,
        description=f"first prompt; null: the data's one system message, else {TASK_AGNOSTIC_SEED!r} (ours)",
    )
    max_prompt_tokens: int | None = Field(
        None,
        ge=8,
        description="cap of a prompt in the policy's tokens; null: half of the rollout's prompt length (ours)",
    )
    components: tuple[Literal["instructions", "examples"], ...] = Field(
        ("instructions",),
        description="what of a prompt evolves, in turn: instructions by reflection; examples: up to 4 solved problems,"
        " sent as turns of the chat before the question (paper §settings: instructions; examples: ours)",
    )
    validate_seed: bool = Field(True, description="validate under the seed prompt too, side by side (ours)")
    drift: bool = Field(
        False,
        description="log KL to the starting weights per token on the validation problems, which costs another rollout"
        " of each; needs actor.use_kl_loss=true (paper §evaluation; off: ours)",
    )
    seed: int = Field(0, description="of everything random in the fast phase (ours)")
    schedule: ScheduleConfig = ScheduleConfig()
    context: ContextConfig = ContextConfig()
    fast: FastPhaseConfig = FastPhaseConfig()
    reflection: ReflectionConfig = ReflectionConfig()

    @property
    def shows_examples(self) -> bool:
        return "examples" in self.components


DEFAULTS = FSTConfig()
"""Every default of the method."""


def check(config: FSTConfig) -> list[ConfigProblem]:
    """Problems that the config alone shows; empty if there are none."""
    problems = []
    if config.reflection.kind == "lm" and not config.reflection.model and not config.reflection.path:
        problems.append(
            ConfigProblem(
                "fst.reflection.model",
                "kind=lm needs a reflection LM: set it to a DSPy model string such as openai/<model>, or set"
                " fst.reflection.kind=policy (the trained model reflects) or =offline (no LM)",
            )
        )
    if config.context.name == "fixed" and not config.context.path and not config.context.kwargs.get("text"):
        problems.append(ConfigProblem("fst.context.kwargs.text", "context 'fixed' needs the prompt's text here"))
    if config.schedule.kind == "adaptive" and config.schedule.min_steps > config.schedule.max_steps:
        problems.append(
            ConfigProblem(
                "fst.schedule.min_steps", f"is above fst.schedule.max_steps={config.schedule.max_steps}: lower it"
            )
        )
    if config.fast.crossover and config.fast.parents == "frontier":
        problems.append(
            ConfigProblem(
                "fst.fast.crossover", "goes with fst.fast.parents=thompson or mean, not with frontier: set it to false"
            )
        )
    if "instructions" not in config.components or len({*config.components}) < len(config.components):
        problems.append(ConfigProblem("fst.components", "must hold instructions, and each component once"))
    if config.seed_prompt is not None and not config.seed_prompt.strip():
        problems.append(
            ConfigProblem("fst.seed_prompt", "is empty: give the first prompt a text, or null for the default")
        )
    return [*problems, *_hybrid_problems(config)]


def _hybrid_problems(config: FSTConfig) -> list[ConfigProblem]:
    fast = config.fast
    if fast.when == "before":
        return []
    found = []
    if config.schedule.kind == "adaptive":
        message = "adaptive does not know when a cycle ends, and what evolves beside it must: set it to fixed, or"
        found.append(ConfigProblem("fst.schedule.kind", f"{message} fst.fast.when=before"))
    elif config.slow_steps < least_steps():
        message = f"is {config.slow_steps}, and fst.fast.when=hybrid needs {least_steps()} steps or more: one shows how"
        message += " the carried prompts do, one tests new ones, one compares the best: raise it, or set when=before"
        found.append(ConfigProblem("fst.slow_steps", message))
    if fast.parents == "frontier" and not fast.path:
        message = "frontier scores whole populations on all anchors, for which there is no room beside slow steps: set"
        found.append(ConfigProblem("fst.fast.parents", f"{message} thompson or mean, or fst.fast.when=before"))
    if not fast.free_scores:
        message = "false leaves nothing to compare with beside slow steps: set it to true, or fst.fast.when=before"
        found.append(ConfigProblem("fst.fast.free_scores", message))
    return found


def inspect(data: Mapping[str, Any]) -> tuple[FSTConfig, list[ConfigProblem]]:
    """The config and every problem in it at once. Values that cannot be used stand at their default in the config, so
    that what depends on the rest can still be looked at."""
    problems: list[ConfigProblem] = []
    usable: dict[str, Any] = copy.deepcopy(dict(data))
    for place in list(_undecoded(usable)):
        problems.append(ConfigProblem(".".join(["fst", *map(str, place)]), "is not valid text: write it as UTF-8"))
        _drop(usable, place)
    while True:
        try:
            config = FSTConfig.model_validate(usable)
            return config, [*problems, *check(config)]
        except ValidationError as error:
            for one in error.errors():
                problems.append(_readable(one))
                _drop(usable, one["loc"])


def parse(data: Mapping[str, Any]) -> FSTConfig:
    """Builds the config. Raises ConfigError with every problem at once: wrong types, unknown keys, missing parts."""
    config, problems = inspect(data)
    if problems:
        raise ConfigError(problems)
    return config


def _undecoded(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where texts with lone surrogates stand: bytes that were not UTF-8, which no file or log can hold."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _undecoded(value, (*place, key))
    elif isinstance(node, str) and any("\ud800" <= char <= "\udfff" for char in node):
        yield place
    elif isinstance(node, (list, tuple)) and any(True for value in node for _ in _undecoded(value)):
        yield place


def _drop(data: dict[str, Any], loc: tuple[Any, ...]) -> None:
    """Removes what stands at `loc`, or as much of it as there is."""
    node: Any = data
    for part in loc[:-1]:
        if not isinstance(node[part], dict):
            del node[part]
            return
        node = node[part]
    del node[loc[-1]]


def _readable(error: Mapping[str, Any]) -> ConfigProblem:
    key = ".".join(["fst", *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        return ConfigProblem(key, f"unknown key; known keys here: {', '.join(_siblings(error['loc']))}")
    return ConfigProblem(key, f"{error['msg']} (got {_shown(error)})")


def _shown(error: Mapping[str, Any]) -> str:
    return HIDDEN if names_a_secret(str(error["loc"][-1])) else redact(repr(without_secrets(error["input"])))


def _siblings(loc: tuple[Any, ...]) -> list[str]:
    model: Any = FSTConfig
    for part in loc[:-1]:
        model = model.model_fields[part].annotation
    return sorted(model.model_fields)
