"""The charts, drawn with matplotlib: as SVG inside the page, as PNG next to it.

Names of runs are drawn as they are, never as formulas; SVG keeps text as text, so that it scales and can be searched.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from ..compare import by_arm
from ..run import Run
from .lineage import Frontier

SIZE = (5.0, 3.3)
"""Inches, without the legend: at 72 points an inch about as wide as a phone, so that text is legible there (ours)."""
NOT_SCORED = "#cccccc"
COLORS = ("#1f5fa8", "#d9661f", "#2e8540", "#8a3fa0", "#a03040", "#6b6b00", "#007a87", "#555555")
LINES: tuple[tuple[str, Any], ...] = (("o", "-"), ("^", ":"), ("s", "-."), ("D", (0, (6, 1, 1, 1, 1, 1))))
MAX_POINTS, MAX_MARKERS = 400, 60
"""Points of a line that are drawn; up to how many of them have a marker (ours)."""
LEGEND_CHARS = 48
"""About as many characters fit into a row of the legend (ours)."""
LEGEND_ROW = 0.21
"""Inches (ours)."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fst",
    "text.parse_math": False,
    "font.size": 11,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def color(arms: Sequence[str], arm: str) -> str:
    return COLORS[list(arms).index(arm) % len(COLORS)]


def line(arms: Sequence[str], arm: str) -> dict[str, Any]:
    """How an arm's line is drawn: of more arms than colours, those that share one differ in marker and dots."""
    marker, style = LINES[list(arms).index(arm) // len(COLORS) % len(LINES)]
    return {"color": color(arms, arm), "marker": marker, "linestyle": style}


def reward_by_steps(runs: Sequence[Run], source: str | None) -> Any:
    """Dashed: the same weights under the seed prompt, if the run validated so."""
    figure = _reward(runs, source, "RL steps", lambda run, step: step)
    arms, (axes,) = list(by_arm(runs)), figure.axes
    for run in runs:
        plain = thinned(list(run.reward(source, seed_prompt=True).items()))
        axes.plot(
            [a for a, _ in plain],
            [b for _, b in plain],
            color=color(arms, run.arm),
            linestyle="--",
            linewidth=1,
            alpha=0.6,
        )
    return figure


def reward_by_rollouts(runs: Sequence[Run], source: str | None) -> Any | None:
    """None if some run's rollouts are not known."""
    costs = {id(run): run.rollouts() for run in runs}
    if not all(costs.values()):
        return None
    return _reward(runs, source, "total rollouts, slow and fast", lambda run, step: costs[id(run)].get(step))


def reward_by_kl(runs: Sequence[Run], source: str | None) -> Any | None:
    """None if no run logged its KL."""
    drifts = {id(run): run.kl() for run in runs}
    if not any(drifts.values()):
        return None
    known = [run for run in runs if drifts[id(run)]]
    name = "KL to the starting weights, nats per token"
    return _reward(known, source, name, lambda run, step: drifts[id(run)].get(step), every=runs, whole=False)


def thinned(points: Sequence[Any]) -> list[Any]:
    """At most about MAX_POINTS of them, evenly, with the first, the last and the highest (by its second value)."""
    if len(points) <= MAX_POINTS:
        return list(points)
    each = math.ceil(len(points) / MAX_POINTS)
    best = max(range(len(points)), key=lambda i: points[i][1])
    return [points[i] for i in sorted({*range(0, len(points), each), best, len(points) - 1})]


def _reward(
    runs: Sequence[Run],
    source: str | None,
    name: str,
    x: Any,
    every: Sequence[Run] | None = None,
    whole: bool = True,
) -> Any:
    """whole: x counts something, and its ticks are whole numbers."""
    arms = list(by_arm(every or runs))
    with matplotlib.rc_context(STYLE):
        figure, axes = _new()
        for arm, members in by_arm(runs).items():
            for i, run in enumerate(members):
                points = [(x(run, step), reward) for step, reward in run.reward(source).items()]
                known = [(a, b) for a, b in points if a is not None]
                points_drawn = thinned(known)
                xs, ys = [a for a, _ in points_drawn], [b for _, b in points_drawn]
                style = line(arms, arm) | {"markersize": 3.5, "linewidth": 1.6}
                style |= {"marker": ""} if len(xs) > MAX_MARKERS else {}
                told = arm if len(arm) <= LEGEND_CHARS else f"{arm[:LEGEND_CHARS]}…"
                axes.plot(xs, ys, label=told if i == 0 else None, alpha=0.9 if len(members) == 1 else 0.6, **style)
        axes.set_xlabel(name)
        samples = runs[0].samples if runs else None
        axes.set_ylabel("validation reward" + (f" (mean@{samples})" if samples else ""))
        axes.grid(alpha=0.25)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=whole, min_n_ticks=1))
        if whole:
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        _legend(figure, arms)
    return figure


def _legend(figure: Any, arms: Sequence[str]) -> None:
    """Above the axes, where it covers no line; as many names to a row as fit, and the figure grows with the rows."""
    columns = max(1, LEGEND_CHARS // (4 + max(map(len, arms), default=0)))
    figure.set_figheight(SIZE[1] + LEGEND_ROW * math.ceil(len(arms) / columns))
    figure.legend(loc="outside upper left", frameon=False, ncols=columns, fontsize=10)


def heat_map(frontier: Frontier) -> Any:
    """Rewards of a population's prompts on its anchor problems."""
    import numpy as np

    values = np.array([[np.nan if v is None else v for v in row] for row in frontier.rows], dtype=float)
    with matplotlib.rc_context(STYLE):
        figure, axes = _new((SIZE[0], 1.3 + 0.32 * len(frontier.rows)))
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        shades = matplotlib.colormaps["viridis"].with_extremes(bad=NOT_SCORED)
        colors = axes.pcolormesh(
            np.ma.masked_invalid(values), cmap=shades, vmin=min(0.0, low), vmax=max(1.0, high), edgecolors="face"
        )
        axes.set_yticks(
            [i + 0.5 for i in range(len(frontier.held))],
            [f"rank {i} · best on {held}" for i, held in enumerate(frontier.held)],
        )
        axes.tick_params(labelsize=9)
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.set_xlabel(f"{len(frontier.problems)} anchor problems, hardest first")
        figure.colorbar(colors, ax=axes, label="reward", pad=0.02).ax.tick_params(labelsize=9)
    return figure


def _new(size: tuple[float, float] = SIZE) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no screen

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def svg(figure: Any, label: str) -> str:
    """The figure as an <svg> element that scales to its place and names itself to screen readers."""
    from markupsafe import escape

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has its own fonts
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", text, count=1), count=1
    )
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def png(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, format="png", dpi=160)


__all__ = ["heat_map", "png", "reward_by_kl", "reward_by_rollouts", "reward_by_steps", "svg"]
