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
from itertools import product
from pathlib import Path
from typing import Any

from trl_figures import (
    AGAINST,
    FIGURES,
    OF_A_RETURN,
    Found,
    Gap,
    by_verdict,
    compared,
    rules_stated,
    spent,
)
from trl_plan import (
    ARCHIVES,
    ARMS,
    CAP,
    CLAIM_TASKS,
    CONTROL_TASKS,
    CYCLE,
    FIRST,
    FST_RATE,
    LONG,
    MEANING,
    ONE_PROMPT,
    RATES,
    RETURN_TASKS,
    RETURNS,
    TUNING_SEED,
    Runs,
    Setting,
    controls,
    validations,
)
from trl_runs import read_results

from fst_plugin.analysis import compare, curves, read
from fst_plugin.analysis.run import KL_KEYS, Run, Step
from fst_plugin.record.atomic import write_text
from fst_plugin.record.state import BEST_PROMPT_FILE

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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)] + [""]


def figure(values: Sequence[float | None], digits: int = 2) -> str:
    """The median over seeds with its interval; "-" if one has none."""
    return compare.text(asdict(curves.bootstrap(values)), digits) if values and None not in values else "-"


def run_of(arm: str, seed: int, record: Mapping[str, Any]) -> Run:
    """A record of one stage as a run."""
    return Run(f"{arm}_{seed}", arm, seed, "", tuple(Step(step, data) for step, data in record["stages"][-1]))


# --------------------------------------------------------------------------------------------------------------- claims


def claim_rows(
    found: Found, verl: Mapping[str, Sequence[Run]], prompts: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """verl: task -> its runs there. prompts: task -> what FST's ended with, seed by seed."""
    rows = []
    for task in CLAIM_TASKS:
        settings = {"rl": found.rl_of_claims(), "fst": Setting(FST_RATE, CYCLE, 1.0)}
        records = {arm: found.of("claims", task, arm, setting) for arm, setting in settings.items()}
        seeds = sorted(records["rl"].keys() & records["fst"].keys())
        if not seeds:
            rows.append([task, "not finished", "-", "-", ""])
            continue
        runs = [run_of(arm, seed, records[arm][seed]) for arm in records for seed in seeds]
        both = min(max(run.steps[-1].step for run in stack) for stack in (runs, verl[task]))
        rows += [[task, *row] for row in _claim_rows(*([_up_to(run, both) for run in s] for s in (runs, verl[task])))]
        stated = [rules_stated(records["fst"][seed]) for seed in seeds]
        if prompts.get(task) and all(records["fst"][seed]["prompts"] for seed in seeds):
            pairs = zip(seeds, prompts[task], strict=False)
            theirs = [rules_stated(records["fst"][seed] | {"prompts": [text]}) for seed, text in pairs]
            counts = [", ".join(str(first) for first, _, _ in stack) for stack in (stated, theirs)]
            rows.append([task, f"rules that the last prompt states, of {stated[0][2]}: fst", *counts, ""])
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


def verl_prompts() -> dict[str, list[str]]:
    """Task -> the prompts that FST's runs of `verl_runs` ended with, as far as they are kept."""
    settings = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    with tarfile.open(HERE / "runs.tar.gz") as archive:
        for task in settings["search"]:
            names = [f"search/{task}_frontier_{seed}/{BEST_PROMPT_FILE}" for seed in settings["settings"]["seeds"]]
            files = [archive.extractfile(name) for name in names]
            found[task] = [file.read().decode() for file in files if file]
    return found


def verl_runs() -> dict[str, list[Run]]:
    """Task -> the runs behind RESULTS.md, FST's those of the newest version. TRL does not log KL on the validation
    problems: without it what is left is verl's estimate on each step's own rollouts, as TRL has it."""
    settings = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    rate = settings["learning_rates"][FIRST]["chosen"]
    folders = {task: _of_verl(task, rate, task in settings["search"]) for task in CLAIM_TASKS}
    kept = tuple(f"{own}_" for both in folders.values() for own in both.values())
    with tempfile.TemporaryDirectory() as folder, tarfile.open(HERE / "runs.tar.gz") as archive:
        archive.extractall(folder, [m for m in archive if m.name.startswith(kept)], filter="data")
        return {
            task: [
                _without_validation_kl(read.read(f"{arm}_{seed}={folder}/{own}_{seed}"))
                for arm, own in both.items()
                for seed in settings["settings"]["seeds"]
            ]
            for task, both in folders.items()
        }


def _of_verl(task: str, rate: float, searched: bool) -> dict[str, str]:
    """Arm -> its runs, less the seed. searched: does the claim `search` have the task?"""
    if not searched:
        return {"rl": f"{task}/rl", "fst": f"{task}/fst"}
    return {"rl": f"{task}/rl_lr{rate:g}", "fst": f"search/{task}_frontier"}


def _without_validation_kl(run: Run) -> Run:
    kept = [{name: value for name, value in step.data.items() if name != KL_KEYS[0]} for step in run.steps]
    return replace(run, steps=tuple(Step(step.step, data) for step, data in zip(run.steps, kept, strict=True)))


# ------------------------------------------------------------------------------------------------------------- controls


def control_records(found: Found, task: str) -> dict[str, dict[int, Any]]:
    """Arm -> seed -> record, of those that have a run to report."""
    arms = [arm for own, arm in controls() if own == task]
    records = {arm: found.of("controls", task, arm, found.setting(task, arm)[0]) for arm in arms}
    reported = {arm: {s: one for s, one in own.items() if s != TUNING_SEED} for arm, own in records.items()}
    return {arm: own for arm, own in reported.items() if own}


def control_tables(found: Found, task: str) -> list[str]:
    """Every arm over the seeds that are finished, FST against it over those that both have, and both in words."""
    records, lines = control_records(found, task), [f"### {task}", ""]
    if missing := [arm for own, arm in controls() if own == task and arm not in records]:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    rows = []
    for arm, by_seed in records.items():
        own = list(by_seed.values())
        setting, is_tuned = found.setting(task, arm)
        figures = [figure([of(one) for one in own]) for of in FIGURES.values()]
        rollouts = [figure([spent(one, kind) for one in own], 0) for kind in ("slow", "fast")]
        rows.append([arm, _seeds(by_seed), str(setting) + ("" if is_tuned else " (not tuned)"), *figures, *rollouts])
    lines += table(["arm", "seeds", "settings", *FIGURES, "slow rollouts", "fast rollouts"], rows)
    fst = records.pop("fst", {})
    gaps = {name: compared(fst, records, FIGURES[name]) for name in AGAINST}
    rows = [
        [arm, _seeds(gap.seeds), *(_gap(gaps[name].get(arm)) for name in AGAINST)]
        for arm, gap in gaps[AGAINST[0]].items()
    ]
    if not rows:
        return lines
    lines += ["FST less each of the others, seed by seed:", ""]
    lines += table(["FST against", "seeds", *AGAINST], rows)
    lines += [_in_words(name, gaps[name]) for name in AGAINST if gaps[name]] + [""]
    return lines + _four_or_one(fst, records.get(ONE_PROMPT, {}), gaps)


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _gap(gap: Gap | None) -> str:
    return f"{figure(gap.values)}; {gap.counts}" if gap else "-"


def _in_words(name: str, gaps: Mapping[str, Gap]) -> str:
    """Who wins, as far as the intervals tell."""
    said = {"ahead": "ahead of", "behind": "behind", "open": "not told apart from"}
    parts = [f"{said[verdict]} {', '.join(arms)}" for verdict, arms in by_verdict(gaps).items() if arms]
    return f"- {name.capitalize()}: FST is {'; '.join(parts)}."


def _four_or_one(four: Mapping[int, Any], one: Mapping[int, Any], gaps: Mapping[str, Mapping[str, Gap]]) -> list[str]:
    """K=4 against K=1 in words; nothing if the two have no seed in common."""
    if not four.keys() & one.keys():
        return []
    stated = [[rules_stated(record) for record in own.values()] for own in (four, one)]
    said = {"ahead": "beats K=1", "behind": "loses to K=1", "open": "is not told apart from K=1"}
    where = {"score": "under the best prompt", "routed": "with the router"}
    parts = [
        f"{where[name]} it {said[gap.verdict]} ({_gap(gap)})" for name in where if (gap := gaps[name].get(ONE_PROMPT))
    ]
    return [
        f"K=4 against K=1: {', '.join(parts)}. Its best prompt states {_spread(first for first, _, _ in stated[0])} of"
        f" the {stated[0][0][2]} rules, its prompts together {_spread(both for _, both, _ in stated[0])}; the one of"
        f" K=1 states {_spread(first for first, _, _ in stated[1])}.",
        "",
    ]


def _spread(counts: Iterable[int]) -> str:
    ordered = sorted(counts)
    return str(ordered[0]) if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def return_tables(found: Found) -> list[str]:
    """Every task's returns, with the archive and without, and the gap between the two seed by seed."""
    rows, gaps = [], []
    for task, setting in product(RETURN_TASKS, RETURNS):
        arms = {arm: found.of("returns", task, arm, setting) for arm in ARCHIVES}
        for arm, own in arms.items():
            digits = {name: 0 if "rollouts" in name or "under" in name else 2 for name in OF_A_RETURN}
            cells = [figure([of(one) for one in own.values()], digits[name]) for name, of in OF_A_RETURN.items()]
            rows += [[task, str(setting), arm, _seeds(own), *cells]] if own else []
        both = [Gap.of(arms["fst"], arms["no_archive"], of) for of in OF_A_RETURN.values()]
        gaps += [[task, str(setting), *(_gap(gap) if gap.seeds else "-" for gap in both)]] if any(arms.values()) else []
    if not rows:
        return ["Not finished.", ""]
    lines = table(["task", "settings", "arm", "seeds", *OF_A_RETURN], rows)
    return lines + ["fst less no_archive, seed by seed:", ""] + table(["task", "settings", *OF_A_RETURN], gaps)


def tuning_rows(found: Found) -> list[list[str]]:
    rows = []
    for task, arm in controls():
        tried = found.tried(task, arm)
        chosen = found.setting(task, arm)[0]
        cells = [f"{own}: {value:.2f}" + (" (chosen)" if own == chosen else "") for own, value in tried]
        rows += [[task, arm, "; ".join(cells)]] if cells else []
    return rows


def claims_sweep_row(found: Found) -> list[str]:
    tried = {job.setting.rate: job for job in found.claims_sweep()}
    chosen = found.rl_of_claims()
    return [
        f"{max(validations(found.runs[tried[rate].name])):.2f}" + (" (chosen)" if chosen == Setting(rate) else "")
        if rate in tried
        else "-"
        for rate in RATES
    ]


# ----------------------------------------------------------------------------------------------------------------- text


def make(runs: Runs, verl: Mapping[str, Sequence[Run]], prompts: Mapping[str, Sequence[str]]) -> str:
    """The whole text. verl, prompts: as `verl_runs` and `verl_prompts` have them."""
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
        " [RESULTS.md](RESULTS.md), FST's those of its claim `search`; those on house_rules_format are of an earlier"
        " version and have 12 steps, of which every second was validated, and so both stacks are compared there at step"
        " 12. KL is the stacks' own estimate on each step's rollouts, each arm under its own prompts (that of"
        " RESULTS.md is on the validation problems). Apart: the two intervals have nothing in common.",
        "",
        *table(["task", "figure", "TRL", "verl", "apart"], claim_rows(found, verl, prompts)),
        "## Controls at one budget",
        "",
        f"Every run ends before the step that would take its rollouts, slow and fast together, past {sizes.budget}."
        f" Every control is tuned on each task by itself, with seed {TUNING_SEED}, whose rule book is not among those"
        " reported. The last validation, "
        f"{sizes.problems} problems tried {sizes.samples} times each:",
        "",
        *table(
            ["figure", "what"],
            [
                ["score", "under the prompt that the run ends with"],
                [
                    "routed",
                    "of a run with several prompts that were scored: every problem under the one that"
                    " `fst export --router` picks; else the score",
                ],
                ["mean of the prompts", "every problem under every prompt"],
                [
                    "best of each problem",
                    "every problem under the prompt that half of its tries pick, scored by the"
                    " other half: what a perfect router would reach",
                ],
                ["under the seed prompt", "what the weights know by themselves"],
            ],
        ),
        *table(["arm", "what"], [[arm, MEANING[arm]] for arm in ARMS]),
        "Settings: learning rate, T, and rollouts of a fast phase as a multiple of"
        f" {sizes.fast}. Ahead and behind: the 95% interval over seeds is on one side of 0.",
        "",
    ]
    for task in CONTROL_TASKS:
        lines += control_tables(found, task)
    lines += [
        f"A prompt of {LONG} may have {CAP[LONG]} tokens, less than half of its 24 rules of five tokens each.",
        "",
        "## A task that comes back",
        "",
        f"{sizes.stage} steps on a rule book, {sizes.stage} on another of its kind, {sizes.stage} on the first again,"
        " settings as above; the weights go on from book to book."
        f" Validations of {sizes.problems} problems of each book, each tried once. fst: with its archive of earlier"
        " prompts. no_archive: `fst.fast.archive=0`. Share back: the third column over the first."
        f" Under earlier prompts: of at most {round(RETURNS[0].fast * sizes.fast) * 2 * sizes.stage // CYCLE} and"
        f" {round(RETURNS[1].fast * sizes.fast) * 2 * sizes.stage // CYCLE} rollouts.",
        "",
        *return_tables(found),
        "## Tuning",
        "",
        f"The controls' score with seed {TUNING_SEED}, by settings: first at three rates, then the best rate with other"
        " fast phases.",
        "",
        *table(["task", "arm", "score"], tuning_rows(found)),
        f"RL of the claims, highest validation on {FIRST} with the first seed; the best rate serves on all tasks:",
        "",
        *table([f"{rate:g}" for rate in RATES], [claims_sweep_row(found)]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", default=RUNS)
    parser.add_argument("-o", "--out", type=Path, default=HERE / "RESULTS_TRL.md")
    args = parser.parse_args(given)
    write_text(args.out, make(read_results(args.runs)["runs"], verl_runs(), verl_prompts()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
