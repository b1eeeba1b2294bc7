"""What the controls' finished runs say, in numbers: scores of one run, and arms compared seed by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fst_envs.house.rules import draw_book
from trl_plan import CYCLE, RATES, TUNING_SEED, Job, Runs, Setting, best, claims_sweep, tuned, validations

from fst_plugin.analysis import curves

Record = Mapping[str, Any]
Figure = Callable[[Record], float | None]
"""A figure of one run; None if it was not measured."""


class Found:
    """The finished runs. runs: name -> record, as `trl_runs` keeps it."""

    def __init__(self, runs: Runs):
        self.runs = runs
        self.jobs = [Job.of(record["job"]) for record in runs.values()]

    def setting(self, task: str, arm: str) -> tuple[Setting | None, bool]:
        """The settings of a control on a task, and whether they were tuned: as long as its sweep is not finished,
        those that most of its runs have."""
        own = [job for job in self.jobs if (job.part, job.task, job.arm) == ("controls", task, arm)]
        if not own:
            return None, False
        if found := tuned(task, arm, own[0].sizes, self.runs):
            return found, True
        return Counter(job.setting for job in own).most_common(1)[0][0], False

    def claims_sweep(self) -> list[Job]:
        """RL's runs of the claims that its rate is chosen by, the finished ones."""
        own = [job for job in self.jobs if job.part == "claims"]
        jobs = claims_sweep(min(job.seed for job in own), own[0].sizes) if own else []
        return [job for job in jobs if job.name in self.runs]

    def rl_of_claims(self) -> Setting | None:
        """RL's settings in the claims; None as long as its sweep is not finished."""
        jobs = self.claims_sweep()
        return best(jobs, self.runs) if len(jobs) == len(RATES) else None

    def tried(self, task: str, arm: str) -> list[tuple[Setting, float]]:
        """Settings that a control was tried with for its tuning on a task, and the score of each."""
        own = (TUNING_SEED, "controls", task, arm)
        jobs = [job for job in self.jobs if (job.seed, job.part, job.task, job.arm) == own]
        return [(job.setting, score(self.runs[job.name])) for job in jobs]

    def of(self, part: str, task: str, arm: str, setting: Setting | None) -> dict[int, Record]:
        """Seed -> record, of the runs with these settings."""
        wanted = (part, task, arm, setting)
        jobs = [job for job in self.jobs if (job.part, job.task, job.arm, job.setting) == wanted]
        return {job.seed: self.runs[job.name] for job in sorted(jobs, key=lambda job: job.seed)}


# ------------------------------------------------------------------------------------------------------------- one run


def score(record: Record) -> float:
    """The last validation, under the prompt that the run ends with."""
    return validations(record)[-1]


def under_seed_prompt(record: Record) -> float:
    """The last validation under the seed prompt; of a run without fast weights the last one."""
    found = [v for _, data in record["stages"][-1] for name, v in data.items() if "/seed_prompt/reward/" in name]
    return found[-1] if found else score(record)


def _of_one_prompt(record: Record) -> float | None:
    """The score of a run with one prompt; of one with several it says nothing."""
    return score(record) if len(record["prompts"]) <= 1 else None


def of_prompts(record: Record) -> float | None:
    """Mean over all prompts, as training deals them; of a run with one prompt its score."""
    if not record.get("tries"):
        return _of_one_prompt(record)
    return fmean(value for prompt in record["tries"] for problem in prompt for value in problem)


def routed(record: Record) -> float | None:
    """Every problem under the prompt that the router picks; of a run that has nothing to route by its score."""
    if not record.get("tries"):
        return _of_one_prompt(record)
    if not record["picks"]:
        return score(record)
    return fmean(value for place, pick in enumerate(record["picks"]) for value in record["tries"][pick][place])


def best_of_each(record: Record) -> float | None:
    """Every problem under its best prompt, which half of the tries pick and the other half scores, and the other way
    round, so that luck does not count; of a run with one prompt its score."""
    if not record.get("tries"):
        return _of_one_prompt(record)
    found = []
    for problem in zip(*record["tries"], strict=True):  # the tries of every prompt
        for half in (0, 1):
            pick = max(problem, key=lambda tries: fmean(tries[half::2]))
            found.append(fmean(pick[1 - half :: 2]))
    return fmean(found)


def rules_stated(record: Record) -> tuple[int, int, int]:
    """Rules of the book that the best prompt states, that all prompts together state, and that there are."""
    rules = draw_book(**record["job"]["env"]).rules()
    first, together = record["prompts"][:1], record["prompts"]
    counts = [sum(any(rule in text.splitlines() for text in texts) for rule in rules) for texts in (first, together)]
    return counts[0], counts[1], len(rules)


def spent(record: Record, kind: str) -> float:
    """Rollouts over all stages. kind: "slow" or "fast"."""
    return sum(
        max((data.get(f"fst/rollouts_{kind}_total", 0.0) for _, data in stage), default=0.0)
        for stage in record["stages"]
    )


def _on(record: Record, task: str, step: int) -> float:
    """The validation of a return on one of its tasks, "first" or "second", after this step."""
    data = dict(record["stages"][-1])[step]
    return next(value for name, value in data.items() if name.startswith(f"val-core/eval_{task}/reward/"))


def _stage(record: Record) -> int:
    return record["job"]["sizes"]["stage"]


def before_it_is_left(record: Record) -> float:
    return _on(record, "first", _stage(record))


def a_cycle_after_its_return(record: Record) -> float:
    return _on(record, "first", 2 * _stage(record) + CYCLE)


def share_back(record: Record) -> float | None:
    """Of what the first task had before it was left; None if it had nothing."""
    before = before_it_is_left(record)
    return a_cycle_after_its_return(record) / before if before else None


def cost_of_archive(record: Record) -> float:
    """Fast rollouts under earlier prompts before the first task comes back."""
    steps = record["stages"][-1]
    return sum(data.get("fst/archived_rollouts", 0.0) for step, data in steps if step <= 2 * _stage(record))


def taken_up_again(record: Record) -> float:
    """Earlier prompts that are in the population which the fast phase of the return leaves."""
    return dict(record["stages"][-1])[2 * _stage(record) + 1]["fst/archived_revived"]


# ------------------------------------------------------------------------------------------------------------- two arms


@dataclass(frozen=True)
class Gap:
    """One arm less another, seed by seed, over the seeds that both have finished."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, one: Mapping[int, Record], other: Mapping[int, Record], figure: Figure) -> Gap:
        pairs = {seed: (figure(one[seed]), figure(other[seed])) for seed in sorted(one.keys() & other.keys())}
        gaps = {seed: a - b for seed, (a, b) in pairs.items() if a is not None and b is not None}
        return cls(tuple(gaps), tuple(gaps.values()))

    @property
    def interval(self) -> curves.Interval:
        return curves.bootstrap(self.values)

    @property
    def counts(self) -> str:
        return f"{sum(v > 0 for v in self.values)} won, {sum(v < 0 for v in self.values)} lost"

    @property
    def verdict(self) -> str:
        """Either "ahead" or "behind" if the interval over seeds is on one side of 0, else "open"."""
        low, high = self.interval.low, self.interval.high
        if low is None or high is None or low <= 0 <= high:
            return "open"
        return "ahead" if low > 0 else "behind"


def compared(one: Mapping[int, Record], others: Mapping[str, Mapping[int, Record]], figure: Figure) -> dict[str, Gap]:
    """Arm -> the gap of `one` to it, for those that have a seed with it in common."""
    gaps = {arm: Gap.of(one, records, figure) for arm, records in others.items()}
    return {arm: gap for arm, gap in gaps.items() if gap.seeds}


def by_verdict(gaps: Mapping[str, Gap]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"ahead": [], "behind": [], "open": []}
    for arm, gap in gaps.items():
        found[gap.verdict].append(arm)
    return found


FIGURES: Mapping[str, Figure] = {
    "score": score,
    "routed": routed,
    "mean of the prompts": of_prompts,
    "best of each problem": best_of_each,
    "under the seed prompt": under_seed_prompt,
}
"""Heading -> figure of a run."""
AGAINST = ("score", "routed", "under the seed prompt")
"""Those that FST is compared by."""
OF_A_RETURN: Mapping[str, Figure] = {
    "before it is left": before_it_is_left,
    "after the other task": lambda record: _on(record, "first", 2 * _stage(record)),
    "a cycle after its return": a_cycle_after_its_return,
    "share back": share_back,
    "at the end": lambda record: _on(record, "first", 3 * _stage(record)),
    "the other task, at its end": lambda record: _on(record, "second", 2 * _stage(record)),
    "earlier prompts taken up": taken_up_again,
    "fast rollouts": lambda record: spent(record, "fast"),
    "under earlier prompts, before the return": cost_of_archive,
}
"""Heading -> figure of a return."""
