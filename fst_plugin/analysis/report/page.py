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
from ...prompts import text_digest
from ...record.atomic import write_text
from ...record.cycles import Cycle
from ...secrets import redact, without_secrets
from .. import attribution, compare
from ..costs import costs
from ..run import Run, RunError
from . import charts, lineage

COLUMN, ROW = 108, 40
"""Size of the tree's cells, in SVG units (ours)."""


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
    write_text(out, page)
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
            " first prompt.",
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


def _run(run: Run, index: int, drawn: Sequence[Chart]) -> dict[str, Any]:
    return {
        "id": f"run-{index}",
        "name": run.name,
        "arm": run.arm,
        "seed": run.seed,
        "last_step": run.steps[-1].step,
        "tree": _tree(run, index),
        "heat": next((chart for chart in drawn if chart.name == f"frontier_{index}"), None),
        "cycles": [_cycle(cycle) for cycle in run.cycles],
        "costs": _costs(run),
        "overrides": [redact(o) for o in run.overrides],
        "config": json.dumps(without_secrets(run.config), indent=1, default=str, ensure_ascii=False)
        if run.config
        else "",
    }


def _tree(run: Run, index: int) -> dict[str, Any] | None:
    try:
        found = lineage.tree(run)
    except ValueError as error:
        raise RunError(f"{run.where}: {error}") from error
    if not found.nodes:
        return None
    places = {n.digest: (34 + n.column * COLUMN, 26 + n.row * ROW) for n in found.nodes}
    known = {n.digest: n.prompt for n in found.nodes}
    margins = {c.prompt.digest: c.margin for cycle in run.cycles for c in cycle.candidates}
    ranks = {p.digest: rank for rank, p in enumerate(run.population)}
    nodes: list[dict[str, Any]] = []
    for node in found.nodes:
        prompt = node.prompt
        parent = next((known[p] for p in node.parents if known.get(p)), None)
        score, margin = prompt.mean_score if prompt and prompt.scores else None, margins.get(node.digest)
        facts = [f"score {score:.3f} on {len(prompt.scores)} problems"] if prompt and score is not None else []
        facts += [f"made in cycle {prompt.cycle} ({prompt.origin})"] if prompt else []
        facts += [node.verdict] if node.verdict else []
        facts += [f"{margin:+.2f} against its parent on its test"] if margin is not None else []
        nodes.append(
            {
                "id": _id(index, node.digest),
                "digest": node.digest,
                "x": places[node.digest][0],
                "y": places[node.digest][1],
                "rank": ranks.get(node.digest),
                "cycle": prompt.cycle if prompt else -1,
                "verdict": node.verdict,
                "facts": facts,
                "text": prompt.text if prompt else None,
                "score": score,
                "fill": "#ffffff" if score is None else _fill(score),
                "parents": [(p, _id(index, p)) for p in node.parents],
                "compared_with": parent.digest if parent else None,
                "difference": lineage.difference(parent.text, prompt.text) if parent and prompt else None,
            }
        )
    nodes.sort(key=lambda n: (n["rank"] is None, n["rank"] or 0, -n["cycle"]))
    return {
        "nodes": nodes,
        "edges": [(*places[a], *places[b], first) for a, b, first in found.edges],
        "width": 34 + found.columns * COLUMN,
        "height": 52 + (found.rows - 1) * ROW,
        "selected": nodes[0]["id"],
    }


def _id(index: int, digest: str) -> str:
    """An element's id; whatever a record has for a digest, only letters and digits reach the page's ids."""
    plain = digest if digest.isalnum() and digest.isascii() else text_digest(digest)
    return f"run-{index}-prompt-{plain}"


def _fill(score: float) -> str:
    """From pale to dark blue as a score goes from 0 to 1; dark enough to see, light enough for dark text on it."""
    share = min(1.0, max(0.0, score))
    start, end = (232, 238, 247), (18, 78, 150)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(start, end, strict=True))


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
    spread = f" ± {evidence.error:.3f}" if math.isfinite(evidence.error) else ""
    outcome = "took the lead" if evidence.adopted else "did not take the lead"
    return f"{evidence.challenger} {outcome}: {evidence.margin:+.3f}{spread} on {evidence.problems} held out"


def _costs(run: Run) -> dict[str, Any]:
    book = costs(run)
    totals = [
        ("slow rollouts", book.sum("slow_rollouts")),
        ("fast rollouts", book.sum("fast_rollouts")),
        ("tokens generated, slow rollouts", book.sum("tokens_slow")),
        ("tokens generated, fast rollouts", book.sum("tokens_fast")),
        ("reflection calls", book.sum("reflection_calls")),
        *((f"seconds: {phase}", seconds) for phase, seconds in book.seconds().items()),
    ]
    return {
        "before": book.before,
        "totals": [(name, total, *book.per(total).values()) for name, total in totals],
        "rows": [asdict(row) for row in book.rows],
        "phases": list(book.seconds()),
    }


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
