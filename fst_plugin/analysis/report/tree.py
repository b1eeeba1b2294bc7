"""The tree of a run's prompts as it is drawn: where its dots, lines and labels go, and what is said of each prompt.

Labels stand under their dots. Lines leave a dot to its right, turn in the gap between two columns, and go on level: so
none crosses a label, however many rows it spans.
"""

from __future__ import annotations

import math
from typing import Any

from ...prompts import Prompt, text_digest
from ...record.cycles import PromptRow
from .. import prompts
from ..numbers import written
from ..run import Run, RunError
from . import changes, lineage

COLUMN, ROW = 108, 56
"""Size of the tree's cells, in SVG units (ours)."""
SIDE, TOP, BOTTOM = 46, 22, 38
"""From the frame to the nearest dots' middles (ours)."""
LABEL = 18
"""From a dot's middle to the top of its label (ours)."""
MAX_TEXT = 50_000
"""Characters of one prompt that are shown (ours)."""


def draw(run: Run, index: int) -> dict[str, Any] | None:
    """Everything that the page says of a run's prompts; None if it has none. index: of the run on the page.

    Raises RunError if the record cannot be a tree.
    """
    try:
        found = lineage.tree(run)
    except ValueError as error:
        raise RunError(f"{run.where}: {error}") from error
    if not found.nodes:
        return None
    places = {n.digest: (SIDE + n.column * COLUMN, TOP + round(n.row * ROW)) for n in found.nodes}
    texts = {n.digest: n.prompt for n in found.nodes}
    ranks = {p.digest: rank for rank, p in enumerate(run.population)}
    nodes = [_node(n, index, places[n.digest], ranks.get(n.digest), texts) for n in found.nodes]
    nodes.sort(key=lambda n: (n["rank"] is None, n["rank"] or 0, -n["cycle"]))
    return {
        "nodes": nodes,
        "edges": [(line(places[a], places[b]), first) for a, b, first in found.edges],
        "width": 2 * SIDE + (found.columns - 1) * COLUMN,
        "height": TOP + BOTTOM + math.ceil((found.rows - 1) * ROW),
        "label": LABEL,
        "selected": nodes[0]["id"],
        "lead": lead(run),
        "left_out": found.left_out,
    }


def line(start: tuple[int, int], end: tuple[int, int]) -> str:
    """An edge as an SVG path of level and upright lines."""
    return f"M{start[0]} {start[1]}H{start[0] + COLUMN // 2}V{end[1]}H{end[0]}"


def lead(run: Run) -> list[str]:
    """Why rank 0 leads, in sentences; the more so where another prompt has the higher mean."""
    finished = [cycle for cycle in run.cycles if cycle.finished]
    if not finished or not run.population:
        return []
    best, decided = run.population[0], finished[-1].evidence
    if decided is None:
        said = ["Rank 0 leads unchallenged: the last fast phase compared no new prompt with it."]
    else:
        gain = f"{prompts.margin(decided.margin, decided.error, '+')} on {decided.problems} problems"
        sides = f"prompt {decided.challenger} against {decided.incumbent}: {gain} that no reflection saw"
        keeps, end = ("leads", ".") if decided.adopted else ("still leads", ", too little to take the lead.")
        said = [f"Rank 0 {keeps} by the evidence of the last fast phase: {sides}{end}"]
    above = [p for p in run.population[1:] if best.scores and p.scores and p.mean_score > best.mean_score]
    if above:
        first = max(above, key=lambda p: p.mean_score)
        said.append(
            f"Its mean on the anchors, {prompts.score(best)}, is below rank {run.population.index(first)}'s,"
            f" {prompts.score(first)}: prompts were chosen by the anchors, so their means are partly luck."
        )
    return said


def label(prompt: Prompt | None, outcome: PromptRow | None) -> str:
    """What stands under a dot: its score; else its gain over its parent on its test; else what became of it."""
    if prompt is not None and prompt.scores:
        return f"{prompt.mean_score:.2f}"
    if outcome is None:
        return "?"
    tried = outcome.candidate
    return outcome.verdict if tried is None or tried.margin is None else f"Δ{written(tried.margin, 2, '+')}"


def _node(
    node: lineage.Node, index: int, place: tuple[int, int], rank: int | None, texts: dict[str, Prompt | None]
) -> dict[str, Any]:
    prompt, outcome = node.prompt, node.outcome
    parent = next((known for p in node.parents if (known := texts.get(p)) is not None), None)
    score = prompt.mean_score if prompt and prompt.scores else None
    facts = [f"made in cycle {prompt.cycle} ({prompt.origin})"] if prompt else []
    facts += [outcome.verdict, *prompts.facts(outcome)] if outcome else []
    told = f"#{rank} {label(prompt, outcome)}" if rank is not None else label(prompt, outcome)
    difference = changes.shortened(changes.difference(parent.text, prompt.text)) if parent and prompt else []
    return {
        "id": _id(index, node.digest),
        "digest": node.digest,
        "x": place[0],
        "y": place[1],
        "rank": rank,
        "cycle": prompt.cycle if prompt else -1,
        "label": told,
        "verdict": outcome.verdict if outcome else "",
        "facts": facts,
        "text": prompt.text[:MAX_TEXT] if prompt else None,
        "more": max(0, len(prompt.text) - MAX_TEXT) if prompt else 0,
        "fill": "#ffffff" if score is None else fill(score),
        "parents": [(p, _id(index, p)) for p in node.parents],
        "compared_with": parent.digest if parent else None,
        "difference": [(kind, _cut(piece)) for kind, piece in difference],
    }


def _cut(piece: str) -> str:
    more = len(piece) - MAX_TEXT
    return f"{piece[:MAX_TEXT]} (and {more} more characters)" if more > 0 else piece


def _id(index: int, digest: str) -> str:
    """An element's id; whatever a record has for a digest, only letters and digits reach the page's ids."""
    plain = digest if digest.isalnum() and digest.isascii() else text_digest(digest)
    return f"run-{index}-prompt-{plain}"


def fill(score: float) -> str:
    """From pale to dark blue as a score goes from 0 to 1; light enough for a dark ring around it."""
    share = min(1.0, max(0.0, score))
    start, end = (232, 238, 247), (18, 78, 150)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(start, end, strict=True))


__all__ = ["draw", "fill", "label", "lead", "line"]
