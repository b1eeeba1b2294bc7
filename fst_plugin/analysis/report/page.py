"""What the page says, as plain data, and the writing of it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ... import __version__
from ...optimizer import Evidence
from ...record.atomic import write_text
from ...record.cycles import Cycle
from ...secrets import redact, without_secrets
from .. import attribution, compare, prompts
from ..costs import Row, costs
from ..run import Run, RunError
from . import charts, lineage, tree

STEP_ROWS = 200
"""Rows of the table of steps; of a longer run, several steps make a row (ours)."""


def write(
    out: Path,
    runs: Sequence[Run],
    baseline: str | None = None,
    source: str | None = None,
    title: str = "Fast-Slow Training: report",
    pictures: Path | None = None,
) -> list[Path]:
    """Writes the page, and its charts as PNG files if a folder is given; returns what was written.

    Raises RunError if a run has nothing to show, or its record was edited.
    """
    found = compare.compare(runs, baseline, source)
    drawn = _charts(runs, source)
    members = [_run(run, i, drawn) for i, run in enumerate(runs)]
    script = _part("report.js")
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=title,
            version=__version__,
            runs=members,
            arms=list(found["arms"]),
            sentences=compare.sentences(found),
            table=compare.table(found),
            notes=compare.notes(found),
            charts=drawn[:3],
            attributions=[_attribution(run) for run in runs if run.attribution],
            samples=found["samples"],
            style=Markup(_part("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    write_text(out, page.encode("utf-8", "backslashreplace").decode("utf-8"))  # half a character is shown escaped
    written = [out]
    if pictures is not None:
        for chart in (chart for chart in drawn if chart.figure is not None):
            written.append(pictures / f"{chart.name}.png")
            charts.png(chart.figure, written[-1])
    return written


# -------------------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class Chart:
    """figure: None if it cannot be drawn; `missing` then says why."""

    name: str
    title: str
    how: str
    figure: Any
    missing: str = ""

    @property
    def svg(self) -> Markup | None:
        return Markup(charts.svg(self.figure, self.title)) if self.figure is not None else None


def _charts(runs: Sequence[Run], source: str | None) -> list[Chart]:
    """The page's three charts, then one heat map for each run with a population."""
    drawn = [
        Chart(
            "reward_by_steps",
            "Reward against RL steps",
            "Higher is better; further left is sooner. One line a run, one colour an arm; dashed: the same under the"
            f" first prompt.{_thinned(runs, source)}",
            charts.reward_by_steps(runs, source),
        ),
        Chart(
            "reward_by_rollouts",
            "Reward against total rollouts",
            "The same with every rollout counted, those of prompt evolution too: the honest price.",
            charts.reward_by_rollouts(runs, source),
            "The rollouts of a run are not known from its log: give --rollouts-per-step.",
        ),
        Chart(
            "reward_by_kl",
            "Reward against drift",
            "How far the weights moved from where they began. Left and high is best: much learnt, little moved.",
            charts.reward_by_kl(runs, source),
            "No run logged its KL: actor_rollout_ref.actor.use_kl_loss=true logs it.",
        ),
    ]
    for i, run in enumerate(runs):
        if any(p.scores for p in run.population):
            figure, title = charts.heat_map(lineage.frontiers(run.population)), "Who is best on which problem"
            how = f"Rewards of the prompts of {run.name} on its last anchor problems; grey: not scored."
            drawn.append(Chart(f"frontier_{i}", title, how, figure))
    return drawn


def _thinned(runs: Sequence[Run], source: str | None) -> str:
    most = max((len(run.reward(source)) for run in runs), default=0)
    each = math.ceil(most / charts.MAX_POINTS)
    return f" Of {most} validations, one in {each} and the highest are drawn." if each > 1 else ""


def _run(run: Run, index: int, drawn: Sequence[Chart]) -> dict[str, Any]:
    return {
        "id": f"run-{index}",
        "name": run.name,
        "arm": run.arm,
        "seed": run.seed,
        "last_step": run.steps[-1].step,
        "tree": tree.draw(run, index),
        "heat": next((chart for chart in drawn if chart.name == f"frontier_{index}"), None),
        "cycles": [_cycle(cycle) for cycle in run.cycles],
        "costs": _costs(run),
        "overrides": [redact(o) for o in run.overrides],
        "config": json.dumps(without_secrets(run.config), indent=1, default=str, ensure_ascii=False)
        if run.config
        else "",
    }


def _cycle(cycle: Cycle) -> dict[str, Any]:
    return {
        "number": cycle.number,
        "finished": cycle.finished,
        "rollouts": cycle.rollouts,
        "reflections": cycle.reflections,
        "prompts": len(cycle.population),
        "candidates": len(cycle.candidates) or cycle.metrics.get("candidates"),
        "best": cycle.metrics.get("anchor_best"),
        "warnings": cycle.warnings,
        "evidence": _evidence(cycle.evidence),
    }


def _evidence(evidence: Evidence | None) -> str:
    """The comparison that decided a cycle's lead, in words; empty if there was none."""
    if evidence is None:
        return ""
    gain = prompts.margin(evidence.margin, evidence.error, "+")
    outcome = "took the lead" if evidence.adopted else "did not take the lead"
    why = f"; {evidence.why}" if evidence.why else ""
    return f"{evidence.challenger} {outcome}: {gain} on {evidence.problems} held out{why}"


def _costs(run: Run) -> dict[str, Any]:
    book = costs(run)
    rows = [
        ("slow rollouts", "slow_rollouts"),
        ("fast rollouts", "fast_rollouts"),
        ("tokens generated, slow rollouts", "tokens_slow"),
        ("tokens generated, fast rollouts", "tokens_fast"),
        ("reflection calls", "reflection_calls"),
        ("seconds", "seconds"),
        *((f"seconds: {phase}", f"seconds: {phase}") for phase in book.seconds()),
    ]
    return {
        "missing": book.missing,
        "totals": [(label, book.sum(name), *book.rates(name).values()) for label, name in rows],
        "rows": _step_rows(book.rows),
        "phases": list(book.seconds()),
    }


def _step_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One a step, or of a long run one for several, with their sums."""
    each = math.ceil(len(rows) / STEP_ROWS)
    groups = [rows[i : i + each] for i in range(0, len(rows), each or 1)]
    names = ("slow_rollouts", "fast_rollouts", "tokens_slow", "reflection_calls")
    found = []
    for group in groups:
        first, last = group[0].step, group[-1].step
        figures = {name: [row.figure(name) for row in group] for name in names}
        sums = {name: None if None in values else sum(filter(None, values)) for name, values in figures.items()}
        phases = {phase for row in group for phase in row.seconds}
        seconds = {phase: sum(row.seconds.get(phase, 0.0) for row in group) for phase in phases}
        found.append({"step": str(first) if first == last else f"{first}-{last}", **sums, "seconds": seconds})
    return found


def _attribution(run: Run) -> dict[str, Any]:
    try:
        found = attribution.attribution(run.attribution)
    except ValueError as error:
        raise RunError(f"{run.where}: attribution.json: {error}") from error
    return {
        "name": run.name,
        "cells": {cell: {**asdict(share), "counts": found.counts[cell]} for cell, share in found.cells.items()},
        "gains": [("prompt alone", found.fast), ("weights alone", found.slow), ("both", found.both)],
        "interaction": found.interaction,
    }


# -------------------------------------------------------------------------------------------------------------- page


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["figure"] = _figure
    return found


def _part(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _figure(value: Any, digits: int = 0) -> str:
    return "not recorded" if value is None else f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no "-0"


__all__ = ["write"]
