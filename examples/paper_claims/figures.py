"""results.json: the figures of the claims, from the runs' own logs. A figure that cannot be had is null, with why.

A figure is {"median", "low", "high", "n"} over seeds (fst_plugin.analysis); "never" stands for a peak never reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fst_envs.task_schedule import task_names
from fst_verl.experiments.demo import Setup
from plan import ABLATIONS, EQUAL, GEPA, MEANING, PROBED, SEARCHES, ZERO, Plan, stage_tasks

from fst_plugin.analysis import attribution, compare, curves, read
from fst_plugin.analysis.costs import costs
from fst_plugin.analysis.run import Run, RunError
from fst_plugin.record.atomic import write_json

DONE = "result.json"
AGAINST_RL = ("steps_ratio", "rollouts_ratio", "asymptote_gain", "kl_ratio_at_matched_reward")
REASONS = {"asymptote_gain": "asymptote", "kl_ratio_at_matched_reward": "kl", "rollouts_ratio": "rollouts"}
NOT_ASKED = "was not asked for"
ENOUGH = 2
"""Seeds that have to be finished for a figure, where more were asked for (ours)."""
Figure = dict[str, Any]


def load(folder: Path, arm: str, seed: int) -> Run | None:
    """A finished run; None if it is not finished or cannot be read."""
    if not (folder / DONE).exists():
        return None
    try:
        return read.read(f"{arm}_{seed}={folder}")
    except RunError:
        return None


def reward(folder: Path) -> dict[int, float]:
    """Step -> validation reward of a finished run; empty if it is not finished."""
    run = load(folder, "any", 0)
    return run.reward() if run else {}


def write_results(path: Path, plan: Plan, rate: float, out: Path, failed: Mapping[str, str]) -> None:
    write_json(path, results(plan, rate, out, failed))


def results(plan: Plan, rate: float, out: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """Every figure, by the claim's key, then by task."""
    found: dict[str, Any] = {key: {} for key in AGAINST_RL}
    compared = {task: _against_rl(plan, task, rate, out) for task in plan.tasks}
    for key in AGAINST_RL:
        found[key] = {task: _pick(figures, key) for task, figures in compared.items()}
    found["plasticity_ratio"], found["starts"] = _plasticity(plan, rate, out)
    found["continual_ratio"], found["stages"] = _continual(plan, out)
    found["star_graph_ratio"] = {task: _leaves_zero(plan, task, rate, out) for task in ZERO}
    found["attribution"] = {plan.first: _attribution(plan, out)}
    found["arms"] = {task: figures.get("arms", {}) for task, figures in compared.items()}
    found["ablations"] = _ablations(plan, rate, out)
    found["search"] = {task: _searches(plan, task, rate, out) for task in plan.tasks if "search" in plan.claims}
    found["learning_rates"] = {plan.first: _rates(plan, rate, out)}
    found["failed"] = dict(failed)
    found["settings"] = {
        "seeds": list(plan.seeds),
        "claims": list(plan.claims),
        "lengths": asdict(plan.lengths),
        "extra": list(plan.extra),
        "model": plan.model,
    }
    return found


def _missing(reason: str) -> Figure:
    return {"median": None, "low": None, "high": None, "n": 0, "reason": reason}


def _figure(interval: curves.Interval) -> Figure:
    def plain(value: float | None) -> Any:
        return value if value is None or math.isfinite(value) else compare.NEVER

    return {"median": plain(interval.value), "low": plain(interval.low), "high": plain(interval.high), "n": interval.n}


def _over_seeds(
    plan: Plan, folders: Callable[[int], Sequence[str]], out: Path, figure: Callable[..., float], claim: str
) -> Figure:
    """Median of figure(run, run, ...) over the seeds, `ENOUGH` of them at least; `missing` has the runs that others
    lack. folders: those of the runs, by seed."""
    values, missing = [], []
    for seed in plan.seeds:
        runs = {folder: load(out / folder, "any", seed) for folder in folders(seed)}
        if lacking := [folder for folder, run in runs.items() if run is None]:
            missing += lacking
            continue
        value = figure(*runs.values())
        if math.isnan(value):
            return _missing(f"no ratio: both scored 0 with seed {seed}")
        values.append(value)
    if len(values) < min(ENOUGH, len(plan.seeds)):
        asked = claim in plan.claims
        return _missing(f"not finished: {', '.join(missing)}" if asked else f"{claim} {NOT_ASKED}")
    return {**_figure(curves.bootstrap(values)), "missing": missing}


def _ratio(ours: float, theirs: float) -> float:
    """Infinite if only theirs is 0; nan if both are."""
    return ours / theirs if theirs else math.inf if ours > 0 else math.nan


def _final(run: Run, source: str | None = None, step: int | None = None) -> float:
    """The validation at `step`, or the last one; nan if there is none."""
    curve = run.reward(source)
    return curve.get(max(curve) if step is None else step, math.nan) if curve else math.nan


# -------------------------------------------------------------------------------------------------------- efficiency


def _runs(plan: Plan, task: str, rate: float, out: Path) -> list[Run]:
    found = []
    for seed in plan.seeds:
        for arm in ("rl", "fst", "prompts"):
            job = plan.main_job(task, arm, seed, rate if arm == "rl" else None)
            if run := load(out / job.name, arm, seed):
                found.append(run)
    return found


def _against_rl(plan: Plan, task: str, rate: float, out: Path) -> dict[str, Any]:
    """`compare` of the seeds with which both RL and FST are finished; `missing`: the other seeds."""
    runs = _runs(plan, task, rate, out)
    both = set.intersection(*({r.seed for r in runs if r.arm == arm} for arm in ("rl", "fst")))
    if len(both) < min(ENOUGH, len(plan.seeds)):
        asked = task in plan.compared
        return {"reason": "RL or FST is not finished with every seed" if asked else f"efficiency {NOT_ASKED}"}
    found = compare.compare([r for r in runs if r.seed in both], "rl", ceiling=1.0)
    return {**found, "missing": [f"{task}, seed {seed}" for seed in plan.seeds if seed not in both]}


def _pick(figures: Mapping[str, Any], key: str) -> Figure:
    if "arms" not in figures:
        return _missing(figures["reason"])
    fst, rl = figures["arms"]["fst"], figures["arms"]["rl"]
    found = fst.get(key)
    if found is None:
        name = REASONS.get(key, key)
        why = [f"{arm}: {own['reasons'][name]}" for arm, own in (("FST", fst), ("RL", rl)) if name in own["reasons"]]
        return _missing("; ".join(why) or "no figure with every seed")
    return {**_renamed(found), "missing": figures["missing"]}


def _leaves_zero(plan: Plan, task: str, rate: float, out: Path) -> Figure:
    """First validation above 0, FST over RL: 0 if only RL never leaves it, infinite if FST never does, whatever
    RL does. `first` has the steps by arm, a seed each."""
    first: dict[str, list[Any]] = {"fst": [], "rl": []}

    def leaves(run: Run) -> float:
        return min((step for step, value in run.reward().items() if value > 0), default=math.inf)

    def ratio(fst: Run, rl: Run) -> float:
        ours, theirs = leaves(fst), leaves(rl)
        for arm, step in (("fst", ours), ("rl", theirs)):
            first[arm].append(step if math.isfinite(step) else compare.NEVER)
        return math.nan if theirs == 0 else ours / theirs if math.isfinite(ours) else math.inf

    def folders(seed: int) -> list[str]:
        return [plan.zero_job(task, arm, seed, rate).name for arm in first]

    found = _over_seeds(plan, folders, out, ratio, "zero_start")
    if (found.get("reason") or "").startswith("no ratio"):
        found["reason"] = "no ratio: RL was above 0 before its first step"
    return {**found, "first": first}


# ------------------------------------------------------------------------------------------- other weights and tasks


STARTS = {"base": "plasticity", "rl": "plasticity", "fst": "plasticity", EQUAL: "equal_rate"}
"""Whose weights the probe starts from -> the claim that asks for it."""
PAIRS = (("fst", "rl"), ("fst", "base"), ("rl", "base"), ("fst", EQUAL), (EQUAL, "base"))


def _plasticity(plan: Plan, rate: float, out: Path) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """Score of a fresh plain RL pass on the other rule family, at the probe's end: ratios of two starts, and the score
    by the weights it started from."""

    def over_seeds(starts: Sequence[str], figure: Callable[..., float]) -> Figure:
        claim = next((STARTS[s] for s in starts if STARTS[s] not in plan.claims), "plasticity")

        def folders(seed: int) -> list[str]:
            return [plan.plasticity_job(start, seed, rate).name for start in starts]

        return _over_seeds(plan, folders, out, figure, claim)

    def score(run: Run) -> float:
        return _final(run, step=plan.lengths.probe)

    def ratio(ours: Run, theirs: Run) -> float:
        return _ratio(score(ours), score(theirs))

    ratios = {f"{PROBED}: {ours} over {theirs}": over_seeds((ours, theirs), ratio) for ours, theirs in PAIRS}
    return ratios, {start: over_seeds((start,), score) for start in STARTS}


def _continual(plan: Plan, out: Path) -> tuple[dict[str, Figure], dict[str, dict[str, Figure]]]:
    """Score at the end of each stage on its task, FST over RL; and by stage and arm that score itself, and what of it
    was lost by the end of the run."""
    ratios: dict[str, Figure] = {}
    stages: dict[str, dict[str, Figure]] = {}
    for i, (_, last) in enumerate(plan.lengths.steps_of_stages):

        def score(run: Run, last: int | None = last, i: int = i) -> float:
            return _final(run, task_names(stage_tasks(run.seed, plan.lengths))[i], last)

        def over_seeds(arms: Sequence[str], figure: Callable[..., float]) -> Figure:
            claim = "equal_rate" if EQUAL in arms else "continual"
            return _over_seeds(plan, lambda seed: [f"continual/{arm}_{seed}" for arm in arms], out, figure, claim)

        stage = f"stage_{i + 1}"
        for name, theirs in ((stage, "rl"), (f"{stage}, equal rates", EQUAL)):
            ratios[name] = over_seeds(("fst", theirs), lambda fst, rl, score=score: _ratio(score(fst), score(rl)))
        for arm in ("fst", "rl", EQUAL):
            stages[f"{stage}: {arm}"] = {
                "score": over_seeds((arm,), score),
                "lost": over_seeds((arm,), lambda run, score=score: score(run) - score(run, None)),
            }
    return ratios, stages


def _attribution(plan: Plan, out: Path) -> Figure:
    """The 2x2 over all seeds' problems, what each part adds to neither, and whether both beat each alone, and each
    alone the base. Its own figure is the cell of both."""
    counts = {cell: {"passed": 0, "of": 0} for cell in attribution.CELLS}
    problems, missing = plan.lengths.val_size, list[str]()
    for seed in plan.seeds:
        fst = plan.main_job(plan.first, "fst", seed).name
        run, prompted = load(out / fst, "fst", seed), load(out / f"attribution/base_evolved_{seed}", "any", seed)
        if run is None or prompted is None:
            missing.append(f"seed {seed}")
            continue
        seed_prompt = run.reward(seed_prompt=True)
        shares = {
            "base/seed": seed_prompt[0],
            "base/evolved": _final(prompted),
            "trained/seed": seed_prompt[max(seed_prompt)],
            "trained/evolved": _final(run),
        }
        own = {cell: {"passed": round(share * problems), "of": problems} for cell, share in shares.items()}
        counts = {c: {key: counts[c][key] + own[c][key] for key in ("passed", "of")} for c in attribution.CELLS}
        write_json(out / fst / read.ATTRIBUTION_FILE, own)  # fst report shows it
    if len(plan.seeds) - len(missing) < min(ENOUGH, len(plan.seeds)):
        asked = "attribution" in plan.claims
        return _missing(f"not finished: {', '.join(missing)}" if asked else f"attribution {NOT_ASKED}")
    found = attribution.attribution(counts)
    cells = {cell: {**_figure(interval), "n": counts[cell]["of"]} for cell, interval in found.cells.items()}
    base, fast, slow, both = (found.cells[c].value for c in attribution.CELLS)
    return {
        **cells["trained/evolved"],
        "missing": missing,
        "cells": cells,
        "gain": {name: _figure(getattr(found, name)) for name in ("fast", "slow", "both")},
        "interaction": found.interaction,
        "holds": both > max(fast, slow) and min(fast, slow) > base,
    }


# ------------------------------------------------------------------------------------------------- sweep, ablations


def _ablations(plan: Plan, rate: float, out: Path) -> dict[str, Any]:
    """Ablation, or arm of the claims -> what it is, its last validation, and its steps and rollouts to RL's peak over
    RL's."""
    if "ablations" not in plan.claims:
        return {}
    main = _runs(plan, plan.first, rate, out)
    rl = [run for run in main if run.arm == "rl"]
    known = {name: [run for run in main if run.arm == name] for name in ("fst", "prompts")}
    for name in ABLATIONS:
        known[name] = [r for seed in plan.seeds if (r := load(out / f"ablations/{name}_{seed}", name, seed))]
    return {name: {"what": MEANING[name], **_beside_rl(plan, name, runs, rl)} for name, runs in known.items()}


KEPT = ("final", "peak", "steps_ratio", "rollouts_ratio", "kl_ratio_at_matched_reward", "fast_rollouts")


def _beside_rl(plan: Plan, name: str, runs: Sequence[Run], rl: Sequence[Run]) -> dict[str, Any]:
    """An arm's figures of `KEPT` over the seeds with which RL is finished, too."""
    both = {run.seed for run in runs} & {run.seed for run in rl}
    if len(both) < min(ENOUGH, len(plan.seeds)):
        return {"reason": "not finished"}
    arm = compare.compare([run for run in (*rl, *runs) if run.seed in both], "rl", ceiling=1.0)["arms"][name]
    missing = {"missing": [f"{name}, seed {seed}" for seed in plan.seeds if seed not in both]}
    return {key: arm.get(key) and {**_renamed(arm[key]), **missing} for key in KEPT}


# ------------------------------------------------------------------------------------------------- search and clock


PARTS = ("fast phase", "rollouts", "log-probabilities", "update", "weight sync", "other")
"""Of a step; validation and checkpoints are none of its parts."""


def _searches(plan: Plan, task: str, rate: float, out: Path) -> dict[str, Any]:
    """Search -> its figures beside RL's, and the seconds of a step after the first cycle, by part; and those of hybrid
    over those of before."""
    rl = [r for seed in plan.seeds if (r := load(out / plan.main_job(task, "rl", seed, rate).name, "rl", seed))]
    found: dict[str, Any] = {}
    seconds: dict[str, dict[int, dict[str, float]]] = {}
    for name in SEARCHES:
        jobs = {s: plan.search_job(task, name, s) for s in plan.seeds}
        runs = [run for seed, job in jobs.items() if (run := load(out / job.name, name, seed))]
        found[name] = _beside_rl(plan, name, runs, rl)
        seconds[name] = {run.seed: _seconds_a_step(run) for run in runs}
        if name != GEPA and "reason" not in found[name]:  # the two that differ in their clock alone
            found[name]["seconds"] = _over(seconds[name].values())
    pairs = [(seconds["hybrid"][seed], own) for seed, own in seconds["before"].items() if seed in seconds["hybrid"]]
    ratios = [{part: h[part] / b[part] for part in b if b[part]} for h, b in pairs]
    return {**found, "hybrid over before": _over(ratios) if len(ratios) >= min(ENOUGH, len(plan.seeds)) else {}}


def _seconds_a_step(run: Run) -> dict[str, float]:
    """Part -> mean seconds of a step after the first cycle; "slow": without its fast phase, "all": with it."""
    rows = [row.seconds for row in costs(run).rows if row.step > Setup.slow_steps]
    parts = {part: sum(row.get(part, 0.0) for row in rows) / len(rows) for part in PARTS}
    whole = sum(parts.values())
    return {**parts, "slow": whole - parts["fast phase"], "all": whole}


def _over(seeds: Iterable[Mapping[str, float]]) -> dict[str, Figure]:
    found = list(seeds)
    known = [key for key in found[0] if all(key in one for one in found)]
    return {key: _figure(curves.bootstrap([one[key] for one in found])) for key in known}


def _renamed(figure: Mapping[str, Any]) -> Figure:
    return {"median": figure["value"], **{k: figure[k] for k in ("low", "high", "n")}}


def _rates(plan: Plan, rate: float, out: Path) -> dict[str, Any]:
    """The chosen rate, and the peak and last validation of RL at each, with the first seed."""
    tried = {}
    for one in plan.rates:
        if curve := reward(out / plan.main_job(plan.first, "rl", plan.seeds[0], one).name):
            tried[f"{one:g}"] = {"peak": max(curve.values()), "final": curve[max(curve)]}
    return {"chosen": rate, "swept": len(tried) > 1, "tried": tried}
