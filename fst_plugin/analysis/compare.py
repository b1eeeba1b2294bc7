"""Several runs, arm against baseline: one plain dict of every figure, and its rows for a table.

Runs of the same arm are its seeds. Figures against the baseline pair the seeds that both have; medians and intervals
are over seeds (curves.bootstrap). A figure that cannot be had is None, and `reasons` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from statistics import median
from typing import Any

from . import asymptote, curves
from .costs import Costs, costs
from .curves import Interval
from .numbers import written
from .run import Run, RunError

NEVER = "never"
"""Stands for infinity in the figures: the arm never reached it."""


def by_arm(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Arm -> its runs by seed, arms in the order of the runs."""
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    return {arm: sorted(members, key=lambda r: r.seed) for arm, members in arms.items()}


def choose_baseline(runs: Sequence[Run], name: str | None = None) -> str | None:
    """The arm to compare with: `name`, else "rl", else the one arm without fast weights; None if there is none.
    Raises RunError if `name` is no arm."""
    arms = by_arm(runs)
    if name is not None:
        if name not in arms:
            raise RunError(f"no run of arm {name!r}: the arms are {', '.join(arms)}; name a run {name}_0=PATH")
        return name
    if "rl" in arms:
        return "rl"
    plain = [arm for arm, members in arms.items() if not any(m.population or m.cycles for m in members)]
    return plain[0] if len(plain) == 1 else None


def compare(
    runs: Sequence[Run], baseline: str | None = None, source: str | None = None, ceiling: float | None = None
) -> dict[str, Any]:
    """Every figure of every arm. source: one validated data source; None: the mean over them. ceiling: highest reward
    there can be, for the asymptotes.

    {"baseline", "source", "samples", "arms": {arm: {figure: interval or number, "by_seed": ..., "reasons": ...}}}; an
    interval is {"value", "low", "high", "n"}. Raises RunError if nothing was validated, `source` is unknown, or a
    reward is above the ceiling.
    """
    known = list(dict.fromkeys(s for run in runs for s in run.sources))
    if source is not None and source not in known:
        raise RunError(f"no run validated {source!r}: the sources are {', '.join(known) or 'none'}")
    silent = [run.name for run in runs if not run.reward(source)]
    if silent:
        raise RunError(f"{silent[0]} has no validation in its log: set trainer.test_freq, or leave it out")
    arms = by_arm(runs)
    base = choose_baseline(runs, baseline)
    fits = {arm: _fit(members, source, ceiling) for arm, members in arms.items()}
    found = {arm: _own(members, source, fits[arm]) for arm, members in arms.items()}
    for arm, members in arms.items():
        if base is not None:
            _against(found[arm], members, arms[base], source, fits[arm], fits[base])
        else:
            found[arm]["reasons"]["ratios"] = "no arm 'rl' to compare with: name one as rl_0=PATH, or give --baseline"
    return _plain({"baseline": base, "source": source, "samples": runs[0].samples, "arms": found})


def _own(members: list[Run], source: str | None, fit: asymptote.Fit | None) -> dict[str, Any]:
    books = [costs(run) for run in members]
    rewards = [run.reward(source) for run in members]
    ends = [kl[max(kl)] for run in members if (kl := run.kl())]
    own: dict[str, Any] = {
        "seeds": [run.seed for run in members],
        "steps": [max(reward) for reward in rewards],
        "peak": curves.bootstrap([curves.peak(reward)[1] for reward in rewards]),
        "final": curves.bootstrap([reward[max(reward)] for reward in rewards]),
        "kl_at_end": curves.bootstrap(ends) if len(ends) == len(members) else None,
        "asymptote": fit.asymptote if fit else None,
        "reasons": {},
    }
    spent = [_costs(book) for book in books]
    own |= {name: _seeds([one[name] for one in spent]) for name in spent[0]}
    if fit is None:
        own["reasons"]["asymptote"] = _missing_scipy()
    elif fit.reason:
        own["reasons"]["asymptote"] = fit.reason
    if missing := max(book.missing for book in books):
        own["reasons"]["costs"] = (
            f"{missing} slow steps are in no log (a resumed run's log starts anew): totals that the run did not count"
            " itself are left out, and what is per step or per rollout is of the logged steps"
        )
    if lines := [f"{run.name}: {line}" for run in members for line in run.left_out]:
        own["reasons"]["left_out"] = "; ".join(lines)
    return own


def _costs(book: Costs) -> dict[str, float | None]:
    """What a run cost, and tokens and seconds per slow step and per rollout."""
    names = ("slow_rollouts", "fast_rollouts", "rollouts", "tokens_slow", "tokens_fast", "reflection_calls", "seconds")
    sums = {name: book.sum(name) for name in names}
    per = {f"{name}_{unit}": rate for name in ("tokens_slow", "seconds") for unit, rate in book.rates(name).items()}
    return {"slow_steps": float(len(book.rows) + book.missing), **sums, **per}


def _against(
    own: dict[str, Any],
    members: list[Run],
    baseline: list[Run],
    source: str | None,
    fit: asymptote.Fit | None,
    base_fit: asymptote.Fit | None,
) -> None:
    theirs = {run.seed: run for run in baseline}
    pairs = [(run, theirs[run.seed]) for run in members if run.seed in theirs]
    reasons = own["reasons"]
    if not pairs:
        reasons["ratios"] = f"no seed in common with {baseline[0].arm}"
        return
    reached = {
        run.seed: curves.to_peak(other.reward(source), run.reward(source), other.rollouts(), run.rollouts())
        for run, other in pairs
    }
    matched = {
        run.seed: curves.matched_kl((other.reward(source), other.kl()), (run.reward(source), run.kl()))
        for run, other in pairs
    }
    own["by_seed"] = {
        run.seed: {
            **asdict(reached[run.seed]),
            "steps_ratio": reached[run.seed].steps_ratio,
            "rollouts_ratio": reached[run.seed].rollouts_ratio,
            "kl_ratio_at_matched_reward": matched[run.seed].ratio,
            "kl_ratio_at_highest_matched_reward": matched[run.seed].at_top,
        }
        for run, _ in pairs
    }
    rose = all(r.baseline > 0 for r in reached.values())  # else there is no peak to reach
    until = [math.inf if r.arm is None else r.arm_cost for r in reached.values()]
    own["steps_to_peak"] = _seeds([math.inf if r.arm is None else r.arm for r in reached.values()]) if rose else None
    own["rollouts_to_peak"] = _seeds(until) if rose else None
    own["steps_ratio"] = _seeds([r.steps_ratio for r in reached.values()])
    own["rollouts_ratio"] = _seeds([r.rollouts_ratio for r in reached.values()])
    own["kl_ratio_at_matched_reward"] = _seeds([m.ratio for m in matched.values()])
    if rose and own["rollouts_to_peak"] is None:
        reasons["rollouts"] = "rollouts are not known from the log: give --rollouts-per-step"
    if not rose:
        reasons["steps_ratio"] = f"{baseline[0].arm} was best before its first step"
    if members is baseline:
        if any(r.at_end for r in reached.values()):
            reasons["peak"] = "best at its last validation: it may not have levelled off, and its peak be higher"
        return
    unmatched = next((m.reason for m in matched.values() if m.reason), "")
    if unmatched:
        reasons["kl"] = unmatched
    if fit is not None and base_fit is not None:
        own["asymptote_gain"] = asymptote.gain(fit, base_fit)


def _seeds(values: Sequence[float | None]) -> Interval | None:
    """Median over seeds; None if a seed has no figure: leaving it out would choose among the seeds."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    return curves.bootstrap(known) if known and len(known) == len(values) else None


def _fit(members: list[Run], source: str | None, ceiling: float | None) -> asymptote.Fit | None:
    points = [(float(step), reward) for run in members for step, reward in run.reward(source).items()]
    try:
        return asymptote.fit(points, ceiling=ceiling)
    except ModuleNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"{members[0].arm}: {error}") from None


def _missing_scipy() -> str:
    from . import EXTRA

    return f"not fitted: needs scipy ({EXTRA})"


def _plain(value: Any) -> Any:
    """JSON's own types; infinity as "never", nan as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return NEVER if value > 0 else None
    return value


# ------------------------------------------------------------------------------------------------------------- table

ROWS = (
    ("reward: highest validation", "peak", 3),
    ("reward: last validation", "final", 3),
    ("reward: asymptote A", "asymptote", 3),
    ("asymptote, less the baseline's", "asymptote_gain", 3),
    ("slow steps to the baseline's peak", "steps_to_peak", 0),
    ("total rollouts to the baseline's peak", "rollouts_to_peak", 0),
    ("... steps, over the baseline's", "steps_ratio", 2),
    ("... total rollouts, over the baseline's", "rollouts_ratio", 2),
    ("KL to the base at the end (nats/token)", "kl_at_end", 4),
    ("KL at matched reward, over the baseline's", "kl_ratio_at_matched_reward", 2),
    ("slow rollouts", "slow_rollouts", 0),
    ("fast rollouts", "fast_rollouts", 0),
    ("reflection calls", "reflection_calls", 0),
    ("tokens generated, slow", "tokens_slow", 0),
    ("tokens generated, fast", "tokens_fast", 0),
    ("... slow, per slow step", "tokens_slow_per_slow_step", 1),
    ("... slow, per rollout", "tokens_slow_per_rollout", 1),
    ("wall seconds", "seconds", 0),
    ("... per slow step", "seconds_per_slow_step", 2),
    ("... per rollout", "seconds_per_rollout", 4),
)
"""Label, figure, digits: the table that people see."""


def table(figures: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Rows of (label, one text an arm); rows that no arm has are left out."""
    arms = figures["arms"].values()
    rows = [(label, [text(arm.get(name), digits) for arm in arms]) for label, name, digits in ROWS]
    return [row for row in rows if any(cell != "-" for cell in row[1])]


def text(figure: Any, digits: int) -> str:
    """A figure as people read it: "0.82 [0.80, 0.85]", without the interval if that has one end only as it is written;
    "-" if there is none."""
    if figure is None:
        return "-"
    number, low, high = (_number(figure[name], digits) for name in ("value", "low", "high"))
    return number if low == high else f"{number} [{low}, {high}]"


def _number(value: Any, digits: int) -> str:
    if value is None:
        return "?"
    return value if value == NEVER else written(value, digits)


def by_step(runs: Sequence[Run], source: str | None = None) -> tuple[list[int], dict[str, list[str]]]:
    """The validated steps; and arm -> its reward at each, the median over the seeds that validated there."""
    rewards = {arm: [run.reward(source) for run in members] for arm, members in by_arm(runs).items()}
    steps = sorted({step for curves_ in rewards.values() for curve in curves_ for step in curve})
    rows = {}
    for arm, members in rewards.items():
        at = [[curve[step] for curve in members if step in curve] for step in steps]
        rows[arm] = [f"{median(values):.2f}" if values else "-" for values in at]
    return steps, rows


def notes(figures: Mapping[str, Any]) -> list[str]:
    """What a reader of the table must know: why figures are missing, and what the intervals are."""
    seeds = max(len(arm["seeds"]) for arm in figures["arms"].values())
    lines = [
        f"median over {seeds} seeds, with a 95% bootstrap interval over them" if seeds > 1 else "one seed: no intervals"
    ]
    if figures["samples"]:
        lines[0] += f"; reward: validation mean@{figures['samples']}, the asymptote's interval from its fit"
    lengths = {step for arm in figures["arms"].values() for step in arm["steps"]}
    if len(lengths) > 1:
        lines.append(f"the runs are not equally long: their last validations are at steps {sorted(lengths)}")
    for arm, found in figures["arms"].items():
        lines += [f"{arm}: {name.replace('_', ' ')}: {why}" for name, why in found["reasons"].items()]
    return lines


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The comparison in words, one sentence an arm and figure; nothing that the figures do not say."""
    base = found["baseline"]
    if base is None:
        return []
    lines = [f"{base} reached a validation reward of {text(found['arms'][base]['peak'], 3)} at its best."]
    for arm, own in found["arms"].items():
        if arm == base:
            continue
        if own.get("steps_to_peak") is None:
            lines.append(f"{arm} reached {text(own['peak'], 3)} at its best.")
            continue
        steps, ratio = own["steps_to_peak"], own.get("steps_ratio")
        if steps["value"] == NEVER:
            lines.append(f"{arm} did not reach that within its run.")
            continue
        line = f"{arm} reached it after {text(steps, 0)} RL steps"
        if ratio is not None:
            line += f", {text(ratio, 2)} of {base}'s"
        rollouts = own.get("rollouts_ratio")
        if rollouts is not None:
            line += f"; counting every rollout, slow and fast, {text(rollouts, 2)} of {base}'s"
        drift = own.get("kl_ratio_at_matched_reward")
        if drift is not None:
            line += f"; at equal reward its weights had moved {text(drift, 2)} as far (KL)"
        lines.append(line + ".")
    return lines


__all__ = ["by_arm", "by_step", "choose_baseline", "compare", "notes", "sentences", "table", "text"]
