"""One run as plain data (`read.read` makes it), and what can be asked of it: reward, drift, cost, prompts.

Works for any verl run, with fast weights or without. What a run did not record is None or empty here, never a guess.
Texts of prompts are carried as they are: whoever shows them escapes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..prompts import Prompt
from ..record.cycles import Cycle, PromptRow, prompt_rows
from ..record.steps import is_trained

KL_KEYS = ("fst/kl_to_base", "actor/kl_loss")
"""Metric names of KL(trained || base) per token, the preferred one first. `actor/kl_loss` is verl's own estimate on the
step's rollouts, before the step's update, each arm under its own prompts."""
SEED_SUFFIX = "/seed_prompt"
"""Ending of a data source's name if its problems were validated under the seed prompt."""
PHASE_FIGURES = {"rollouts_fast": "rollouts", "reflection_calls": "reflection_calls", "tokens_fast": "tokens"}
"""Running total `fst/<name>_total` -> `fst/<name>` of the fast phase that ran before the step."""
_VALIDATION = re.compile(r"val-core/(?P<source>.+)/(?P<variable>[^/]+)/mean@(?P<n>\d+)")


class RunError(ValueError):
    """A run's files cannot be used; the text names the file and how to fix it."""


@dataclass(frozen=True)
class Step:
    """What was logged at one step. step: slow steps done. data: metric name -> finite number."""

    step: int
    data: Mapping[str, float]

    @property
    def trained(self) -> bool:
        """Was the step itself logged, and not only a validation?"""
        return is_trained(self.step, self.data)


@dataclass(frozen=True)
class Run:
    """One run.

    name: shown to people.
    arm, seed: which method, and which repetition of it.
    where: the path that it was read from.
    steps: ordered, each step once.
    population: the prompts it stands with now, best first; empty for plain RL.
    seed_digest: of its seed prompt.
    cycles: its fast phases, ordered.
    config, overrides: Hydra's own record of the run, if its folder has one.
    attribution: counts of a 2x2, if the folder has them (see attribution.py).
    left_out: what the logs hold and no figure counts, as lines for a person.
    rollouts_per_step: slow rollouts a step, for `slow_rollouts`.
    """

    name: str
    arm: str
    seed: int
    where: str
    steps: tuple[Step, ...]
    population: tuple[Prompt, ...] = ()
    seed_digest: str | None = None
    cycles: tuple[Cycle, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    attribution: Mapping[str, Any] = field(default_factory=dict)
    rollouts_per_step: int | None = None
    left_out: tuple[str, ...] = ()

    # ------------------------------------------------------------------------------------------------------- reward

    @property
    def sources(self) -> tuple[str, ...]:
        """Data sources that were validated, in the order of the log."""
        return tuple(dict.fromkeys(source for step in self.steps for source, _, _ in _validations(step, seed=False)))

    @property
    def samples(self) -> int | None:
        """n of mean@n; None if nothing was validated."""
        return max((n for step in self.steps for _, n, _ in _validations(step, seed=False)), default=None)

    def reward(self, source: str | None = None, seed_prompt: bool = False) -> dict[int, float]:
        """Slow step -> validation reward mean@n; the mean over the sources where `source` is None.

        seed_prompt: under the seed prompt in place of the arm's own (empty if the run did not validate so).
        """
        found = {}
        for step in self.steps:
            values = [v for s, _, v in _validations(step, seed_prompt) if source in (None, s)]
            if values:
                found[step.step] = sum(values) / len(values)
        return found

    # -------------------------------------------------------------------------------------------------------- drift

    @property
    def kl_key(self) -> str | None:
        """The metric that `kl` reads; None if the log has none."""
        return next((key for key in KL_KEYS if any(key in s.data for s in self.steps)), None)

    @property
    def weights_moved(self) -> bool:
        """False where verl timed its steps but never an update of the actor; TRL logs a loss with every update."""
        timed = [s for s in self.steps if "timing_s/gen" in s.data or "timing_s/step" in s.data]
        return not timed or any({"timing_s/update_actor", "loss"} & set(s.data) for s in timed)

    def kl(self) -> dict[int, float]:
        """Slow step -> KL to the starting weights, nats per token; 0 at step 0. Empty if it was not logged."""
        if not self.weights_moved:
            return {s.step: 0.0 for s in self.steps}
        key = self.kl_key
        return {0: 0.0, **{s.step: s.data[key] for s in self.steps if key in s.data}} if key else {}

    # --------------------------------------------------------------------------------------------------------- cost

    @property
    def trained(self) -> tuple[Step, ...]:
        """The steps that were trained and logged, ordered."""
        return tuple(step for step in self.steps if step.trained)

    @property
    def missing(self) -> int:
        """Slow steps of the run that no log holds; 0 if its logs are whole."""
        return max((step.step for step in self.steps), default=0) - len(self.trained)

    def slow_sizes(self) -> dict[int, int | None]:
        """Trained step -> its slow rollouts, None if they are not known.

        From the run's own counter, where the step before was logged too; else `rollouts_per_step` (given, or batch
        times G of the config); else from verl's token counts: tokens of the step over the mean length of a trajectory.
        """
        counted = self.increments("rollouts_slow")
        found: dict[int, int | None] = {}
        for step in self.trained:
            risen = counted.get(step.step)
            found[step.step] = self.rollouts_per_step or _trajectories(step) if risen is None else int(risen)
        return found

    def slow_rollouts(self) -> dict[int, int]:
        """Slow step -> slow rollouts asked for up to and with it; empty if the logs do not let it be known."""
        counted, sizes = self.total("rollouts_slow"), self.slow_sizes()
        found, last, total = {0: 0}, 0, 0
        for step, size in sizes.items():
            unlogged = step - last - 1
            if step in counted:
                total = int(counted[step])
            elif size is None or (unlogged and self.rollouts_per_step is None):
                return {}
            else:
                total += size + unlogged * (self.rollouts_per_step or 0)
            found[step], last = total, step
        return found if len(found) > 1 else {}

    def increments(self, counter: str) -> dict[int, float]:
        """Trained step -> what the running total `fst/<counter>_total` rose by. Where the step before was not logged,
        by what the step's own fast phase says; not in the answer where that says nothing."""
        totals, found = {0: 0.0, **self.total(counter)}, {}
        for step in self.trained:
            at, own = step.step, PHASE_FIGURES.get(counter)
            if at in totals and at - 1 in totals:
                found[at] = totals[at] - totals[at - 1]
            elif at in totals and own is not None:
                found[at] = step.data.get(f"fst/{own}", 0.0)
        return found

    def total(self, counter: str) -> dict[int, float]:
        """Slow step -> a running total that is logged as `fst/<counter>_total`; empty if it is not."""
        key = f"fst/{counter}_total"
        return {s.step: s.data[key] for s in self.steps if key in s.data}

    def rollouts(self) -> dict[int, int]:
        """Slow step -> total rollouts, slow and fast, up to and with it. Validation is in neither."""
        fast = self.total("rollouts_fast")
        found, paid = {}, 0
        for step, slow in self.slow_rollouts().items():
            paid = int(fast.get(step, paid))
            found[step] = slow + paid
        return found

    # ------------------------------------------------------------------------------------------------------ prompts

    def prompts(self) -> dict[str, Prompt]:
        """Digest -> prompt, for every prompt that the run recorded, oldest first; with its latest scores."""
        found: dict[str, Prompt] = {}
        for cycle in self.cycles:
            for prompt in (*(c.prompt for c in cycle.candidates), *cycle.dropped, *cycle.population):
                if prompt.scores or prompt.digest not in found:
                    found[prompt.digest] = prompt
        for prompt in self.population:
            found.setdefault(prompt.digest, prompt)
        return found

    def outcomes(self) -> dict[str, PromptRow]:
        """Digest -> what became of a prompt, in the last finished cycle that had it."""
        finished = (cycle for cycle in self.cycles if cycle.finished)
        return {row.prompt.digest: row for cycle in finished for row in prompt_rows(cycle)}


def _validations(step: Step, seed: bool) -> list[tuple[str, int, float]]:
    """(source, n, mean@n) of one logged step, under the seed prompt or not; the largest n of each source."""
    best: dict[str, tuple[int, float]] = {}
    for key, value in step.data.items():
        match = _VALIDATION.fullmatch(key) if key.startswith("val-core/") else None  # of hundreds of keys, a few
        if match is None or match["source"].endswith(SEED_SUFFIX) is not seed:
            continue
        source, n = match["source"].removesuffix(SEED_SUFFIX), int(match["n"])
        if source not in best or n > best[source][0]:
            best[source] = (n, value)
    return [(source, n, value) for source, (n, value) in best.items()]


def _trajectories(step: Step) -> int | None:
    """Trajectories of a step from verl's own figures: all tokens over the mean length of prompt and response."""
    try:
        length = step.data["prompt_length/mean"] + step.data["response_length/mean"]
        return round(step.data["perf/total_num_tokens"] / length)
    except (KeyError, ZeroDivisionError):
        return None


__all__ = ["KL_KEYS", "SEED_SUFFIX", "Run", "RunError", "Step"]
