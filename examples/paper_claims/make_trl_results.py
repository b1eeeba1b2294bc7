"""RESULTS_TRL.md from the finished runs through TRL, next to the committed figures of verl.

python examples/paper_claims/make_trl_results.py [runs/results_trl.json.gz] [-o examples/paper_claims/RESULTS_TRL.md]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trl_plan import (
    ARMS,
    CAP,
    CLAIM_TASKS,
    CONTROL_TASKS,
    FIRST,
    FST_RATE,
    LONG,
    MEANING,
    ONE_PROMPT,
    RATE_OF,
    RATES,
    SWEPT,
    Job,
    Sizes,
    sweep,
)
from trl_runs import best_rate, read_results, validations

from fst_plugin.analysis import compare, curves, read
from fst_plugin.analysis.run import KL_KEYS, Run, Step
from fst_plugin.record.atomic import write_text

HERE = Path(__file__).resolve().parent
RUNS = HERE / "results_trl.json.gz"
COMPARED = (
    ("steps_ratio", "slow steps to RL's peak, FST over RL"),
    ("rollouts_ratio", "total rollouts to RL's peak, FST over RL"),
    ("kl_ratio_at_matched_reward", "KL at matched reward, FST over RL"),
)
OWN = (("peak", "highest validation"), ("final", "last validation"), ("kl_at_end", "KL at the end, nats a token"))
ROUNDING = 1e-5
"""The records are kept to six digits."""
Runs = Mapping[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)] + [""]


def figure(values: Sequence[float], digits: int = 2) -> str:
    """The median over seeds with its interval."""
    return compare.text(asdict(curves.bootstrap(values)), digits) if values else "-"


class Found:
    """The finished runs, as the analysis reads runs.

    runs: name -> record, as `trl_runs` keeps it.
    """

    def __init__(self, runs: Runs):
        self.runs = runs
        self.jobs = [Job.of(record["job"]) for record in runs.values()]
        swept = [("claims", "rl"), *(("controls", arm) for arm in SWEPT)]
        self.rates = {(part, arm): self._best(part, arm) for part, arm in swept} | {("claims", "fst"): FST_RATE}
        self.rates |= {("controls", arm): self.rates["controls", whose] for arm, whose in RATE_OF.items()}

    def sweep(self, part: str, arm: str) -> list[Job]:
        first = min((job.seed for job in self.jobs if job.part == part), default=0)
        sizes = next((job.sizes for job in self.jobs if job.part == part), Sizes())
        return [job for job in sweep(part, [arm], first, sizes) if job.name in self.runs]

    def _best(self, part: str, arm: str) -> float | None:
        jobs = self.sweep(part, arm)
        return best_rate(jobs, self.runs) if len(jobs) == len(RATES) else None

    def of(self, part: str, task: str, arm: str) -> dict[int, Any]:
        """Seed -> record, of the runs at the arm's chosen rate."""
        rate = self.rates[part, arm]
        jobs = [j for j in self.jobs if (j.part, j.task, j.arm, j.rate) == (part, task, arm, rate)]
        return {job.seed: self.runs[job.name] for job in sorted(jobs, key=lambda job: job.seed)}


def run_of(arm: str, seed: int, record: Mapping[str, Any]) -> Run:
    """A record of one stage as a run."""
    return Run(f"{arm}_{seed}", arm, seed, "", tuple(Step(step, data) for step, data in record["stages"][-1]))


# --------------------------------------------------------------------------------------------------------------- claims


def claim_rows(found: Found, verl: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    """verl: task -> its runs there."""
    rows = []
    for task in CLAIM_TASKS:
        records = {arm: found.of("claims", task, arm) for arm in ("rl", "fst")}
        seeds = sorted(records["rl"].keys() & records["fst"].keys())
        if not seeds:
            rows.append([task, "not finished", "-", "-", ""])
            continue
        runs = [run_of(arm, seed, records[arm][seed]) for arm in records for seed in seeds]
        both = min(max(run.steps[-1].step for run in stack) for stack in (runs, verl[task]))
        rows += [[task, *row] for row in _claim_rows(*([_up_to(run, both) for run in s] for s in (runs, verl[task])))]
    return rows


def _up_to(run: Run, step: int) -> Run:
    """The run as it stood after this many steps: rates are constant, so a short run is how a long one begins."""
    return replace(run, steps=tuple(one for one in run.steps if one.step <= step))


def _claim_rows(*stacks: Sequence[Run]) -> list[list[str]]:
    arms = [compare.compare(runs, "rl", ceiling=1.0)["arms"] for runs in stacks]
    pairs = [(what, [own["fst"].get(key) for own in arms]) for key, what in COMPARED]
    ratios = [[what, *_pair(pair)] for what, pair in pairs if any(pair)]
    above = [[f"first validation above 0: {arm}", *(_above_zero(r, arm) for r in stacks), ""] for arm in ("rl", "fst")]
    ends = [
        [f"{what}: {arm}", *_pair([own[arm].get(key) for own in arms])] for arm in ("rl", "fst") for key, what in OWN
    ]
    return [*(ratios or above), *ends]  # without a peak of RL there is no ratio


def _pair(pair: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Both figures, and "yes" if their intervals have nothing in common."""
    ends = [(_number(one["low"]), _number(one["high"])) for one in pair if one and one["low"] is not None]
    apart = len(ends) == 2 and (ends[0][1] < ends[1][0] - ROUNDING or ends[1][1] < ends[0][0] - ROUNDING)
    return [compare.text(pair[0], 2), compare.text(pair[1], 2), "yes" if apart else ""]


def _number(value: Any) -> float:
    return math.inf if value == compare.NEVER else float(value)


def _above_zero(runs: Sequence[Run], arm: str) -> str:
    """The first step whose validation is above 0, a seed each."""
    above = [[step for step, value in run.reward().items() if value > 0] for run in runs if run.arm == arm]
    return ", ".join(str(min(steps)) if steps else compare.NEVER for steps in above)


def verl_runs() -> dict[str, list[Run]]:
    """Task -> the runs behind RESULTS.md. TRL does not log KL on the validation problems: without it what is left is
    verl's estimate on each step's own rollouts, as TRL has it."""
    settings = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    rate = settings["learning_rates"][FIRST]["chosen"]
    plain = {task: f"rl_lr{rate:g}" if task in settings["arms"] else "rl" for task in CLAIM_TASKS}
    with tempfile.TemporaryDirectory() as folder, tarfile.open(HERE / "runs.tar.gz") as archive:
        archive.extractall(folder, [m for m in archive if m.name.split("/")[0] in plain], filter="data")
        return {
            task: [
                _without_validation_kl(read.read(f"{arm}_{seed}={folder}/{task}/{own}_{seed}"))
                for arm, own in (("rl", plain[task]), ("fst", "fst"))
                for seed in settings["settings"]["seeds"]
            ]
            for task in CLAIM_TASKS
        }


def _without_validation_kl(run: Run) -> Run:
    kept = [{name: value for name, value in step.data.items() if name != KL_KEYS[0]} for step in run.steps]
    return replace(run, steps=tuple(Step(step.step, data) for step, data in zip(run.steps, kept, strict=True)))


# ------------------------------------------------------------------------------------------------------------- controls


def score(record: Mapping[str, Any], seed_prompt: bool = False) -> float:
    """The last validation, under the prompt that the run ends with or under the seed prompt; of a run without fast
    weights they are one."""
    if seed_prompt:
        run = run_of("any", 0, record)
        curve = run.reward(seed_prompt=True) or run.reward()
        return curve[max(curve)]
    return validations(record)[-1]


def spent(record: Mapping[str, Any], kind: str) -> float:
    """Rollouts over all stages. kind: "slow" or "fast"."""
    return sum(
        max((data.get(f"fst/rollouts_{kind}_total", 0.0) for _, data in stage), default=0.0)
        for stage in record["stages"]
    )


def control_tables(found: Found, task: str) -> list[str]:
    """Two tables: every arm over the seeds that are finished, and FST against it over those that both have."""
    arms = [*ARMS, *([ONE_PROMPT] if task == LONG else [])]
    records = {arm: own for arm in arms if (own := found.of("controls", task, arm))}
    lines = [f"### {task}", ""]
    if missing := [arm for arm in arms if arm not in records]:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    rows = []
    for arm, by_seed in records.items():
        own = list(by_seed.values())
        scores = [figure([score(one, seed) for one in own]) for seed in (False, True)]
        rollouts = [figure([spent(one, kind) for one in own], 0) for kind in ("slow", "fast")]
        rows.append([arm, _seeds(by_seed), f"{found.rates['controls', arm]:g}", *scores, *rollouts])
    head = ["arm", "seeds", "rate", "score", "score under the seed prompt", "slow rollouts", "fast rollouts"]
    lines += table(head, rows)
    fst = records.get("fst", {})
    rows = [_against(arm, fst, own) for arm, own in records.items() if arm != "fst" and fst.keys() & own.keys()]
    if not rows:
        return lines
    lines += ["FST less each of the others, seed by seed:", ""]
    return lines + table(["FST against", "seeds", "score", "score under the seed prompt"], rows)


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _against(arm: str, fst: Mapping[int, Any], other: Mapping[int, Any]) -> list[str]:
    both, cells = sorted(fst.keys() & other.keys()), []
    for prompt in (False, True):
        gaps = [score(fst[seed], prompt) - score(other[seed], prompt) for seed in both]
        won, lost = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
        cells.append(f"{figure(gaps)}; {won} won, {lost} lost")
    return [arm, _seeds(both), *cells]


def rate_rows(found: Found) -> list[list[str]]:
    rows = []
    for part, arm in (("claims", "rl"), *(("controls", arm) for arm in SWEPT)):
        tried, chosen = found.sweep(part, arm), found.rates[part, arm]
        if tried:
            cells = {job.rate: f"{max(validations(found.runs[job.name])):.2f}" for job in tried}
            shown = [cells.get(r, "-") + (" (chosen)" if r == chosen else "") for r in RATES]
            rows.append([part, arm, *shown])
    return rows


# ----------------------------------------------------------------------------------------------------------------- text


def _at_rate_of(arm: str) -> str:
    return ", ".join(name for name, whose in RATE_OF.items() if whose == arm)


def make(runs: Runs, verl: Mapping[str, Sequence[Run]]) -> str:
    """The whole text. verl: as `verl_runs` has them."""
    found = Found(runs)
    facts = [{name: one["made"][name] for name in one["made"] if name != "date"} for one in runs.values()]
    if any(one != facts[0] for one in facts):
        raise ValueError("the runs were made by different versions: make them anew, into another file")
    dates = sorted({one["made"]["date"] for one in runs.values()})
    sizes = next(iter(found.jobs)).sizes
    hours = sum(one["seconds"] for one in runs.values()) / 3600
    lines = [
        "# Results through TRL",
        "",
        "Made by `examples/paper_claims/make_trl_results.py` from results_trl.json.gz, which"
        f" `examples/paper_claims/trl_runs.py` wrote: {len(runs)} runs, {hours:.1f} hours, {' to '.join(dates)}, with "
        + ", ".join(f"{name} {value}" for name, value in facts[0].items())
        + ". Tiny policy, on CPU. Medians over seeds, in brackets a 95% bootstrap interval over them.",
        "",
        "As through verl, RL sees rewards alone, and the reflection composes prompts from feedback sentences that state"
        " the rule which was broken; no language model reflects. [How to read them](README.md#through-trl).",
        "",
        "## Claims, next to verl's",
        "",
        f"{sizes.steps} steps a run, validated every {sizes.every} steps on {sizes.problems} problems, each tried once;"
        f" RL at the best of four learning rates, FST untuned at {FST_RATE:g}. verl: the runs behind"
        " [RESULTS.md](RESULTS.md), of an earlier version; on house_rules_format they have 12 steps, of which every"
        " second was validated, and so both stacks are compared there at step 12. KL is the stacks' own estimate on"
        " each step's rollouts, each arm under its own prompts (that of RESULTS.md is on the validation problems)."
        " Apart: the two intervals have nothing in common.",
        "",
        *table(["task", "figure", "TRL", "verl", "apart"], claim_rows(found, verl)),
        "## Controls at one budget",
        "",
        f"Every run ends with the step at which its rollouts, slow and fast together, reach {sizes.budget};"
        " a fast phase counts whole, so a run may end with up to one phase more. Two seeds' interval is their range."
        " Score: the"
        f" last validation, {sizes.problems} problems tried {sizes.samples} times each, under the prompt that the run"
        " ends with, and under the seed prompt.",
        "",
        *table(["arm", "what"], [[arm, MEANING[arm]] for arm in (*ARMS, ONE_PROMPT)]),
    ]
    for task in CONTROL_TASKS:
        lines += control_tables(found, task)
    lines += [
        f"A prompt of {LONG} may have {CAP[LONG]} tokens, less than half of its 24 rules of five tokens each.",
        "",
        "## Learning rates",
        "",
        "Highest validation with the first seed on the first task; the best rate serves on all tasks. The other"
        f" controls run at the rate of RL ({_at_rate_of('rl')}) or, if their weights learn under prompts that state"
        f" rules, of FST ({_at_rate_of('fst')}).",
        "",
        *table(["part", "arm", *(f"{rate:g}" for rate in RATES)], rate_rows(found)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", default=RUNS)
    parser.add_argument("-o", "--out", type=Path, default=HERE / "RESULTS_TRL.md")
    args = parser.parse_args(given)
    write_text(args.out, make(read_results(args.runs)["runs"], verl_runs()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
