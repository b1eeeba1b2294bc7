"""What became of a run's prompts, and by what evidence: in words, and as the table of `fst prompts`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import stdev

from rich.table import Table
from rich.text import Text

from ..prompts import Prompt, shown
from ..record.archive import Archived
from ..record.cycles import PromptRow
from .numbers import written

LINE_CHARS = 200
"""The table shows this much of a prompt's last line; the rest is counted (ours)."""
SHORT = 8
"""Hex digits of a digest where it only refers to another row; `fst prompts --diff` takes them (ours)."""
KEY = (
    "test: gain over its parent on new problems; score: mean on the anchors; held out: gain on problems that no"
    " reflection saw, which decides the lead; ±: standard error; rank 2>0: was 2, is 0, - is out"
)
"""What the words of `facts` and the ranks of `table` mean."""

ARCHIVE_KEY = (
    "retired: cycle that took the lead from it or dropped it; held: mean score on the problems that it was best on"
)


def score(prompt: Prompt) -> str:
    """Mean over the problems that a prompt was scored on, its standard error, and how many they are; empty if it was
    scored on none."""
    means = [score.mean for score in prompt.scores.values()]
    if not means:
        return ""
    return f"{margin(prompt.mean_score, stdev(means) / len(means) ** 0.5 if len(means) > 1 else None)} on {len(means)}"


def margin(value: float, error: float | None, sign: str = "") -> str:
    """A figure with its standard error, if it has one. sign: "+" to show it of positive figures too."""
    return written(value, 3, sign) + ("" if error is None or error == float("inf") else f" ± {written(error, 3)}")


def facts(row: PromptRow) -> list[str]:
    """The evidence by which a prompt is where it is, in the order in which it was gathered; never empty."""
    found, tried, decided = [], row.candidate, row.evidence
    if tried is not None and tried.margin is not None:
        on = f" on {tried.tested}" if tried.tested else ""
        found.append(f"test {margin(tried.margin, tried.error, '+')}{on}")
    if row.prompt.scores:
        found.append(f"score {score(row.prompt)}")
    if decided is not None:
        new = decided.challenger == row.prompt.digest
        other = decided.incumbent if new else decided.challenger
        value = margin(decided.margin if new else -decided.margin, decided.error, "+")
        won = "leads" if decided.adopted == new else "does not lead"
        found.append(f"held out {value} on {decided.problems}, against {other[:SHORT]}: {won}")
    if found:
        return found
    return ["never scored: it carried a problem's own answer" if row.verdict == "refused" else "no score was recorded"]


def table(rows: Sequence[PromptRow]) -> Table:
    """One row a prompt and cycle. Nothing is cut to the width of the terminal: what does not fit is folded."""
    found = Table("cycle", "rank", "prompt", "parent", "verdict", box=None, padding=(0, 2, 0, 0), caption=KEY)
    found.caption_justify = "left"
    found.add_column("evidence, last line", overflow="fold", ratio=1)
    for row in rows:
        told = Text("\n".join(facts(row)))
        told.append(f"\n{_last_line(row.prompt)}", style="dim")
        cells = [str(row.cycle), _rank(row), row.prompt.digest, row.parent[:SHORT], row.verdict]
        found.add_row(*map(Text, cells), told)
    return found


def archive_table(entries: Sequence[Archived]) -> Table:
    """One row for each archived prompt, the one retired last first; folded like `table`."""
    found = Table("retired", "prompt", "made", "held", box=None, padding=(0, 2, 0, 0), caption=ARCHIVE_KEY)
    found.caption_justify = "left"
    found.add_column("last line", overflow="fold", ratio=1)
    for entry in reversed(entries):
        prompt = entry.prompt
        made = f"{prompt.origin}, cycle {prompt.cycle}"
        cells = [str(entry.retired), prompt.digest, shown(made), score(prompt) or "nothing known", _last_line(prompt)]
        found.add_row(*map(Text, cells))
    return found


def _rank(row: PromptRow) -> str:
    """The rank, and the one before if it changed: "2", "3>2", "1>-" if it was dropped; empty if it never had one."""
    now = "" if row.rank is None else str(row.rank)
    return now if row.was in (None, row.rank) else f"{row.was}>{now or '-'}"


def _last_line(prompt: Prompt) -> str:
    line = next((shown(line) for line in reversed(prompt.text.splitlines()) if line.strip()), "")
    more = len(line) - LINE_CHARS
    return f"{line[:LINE_CHARS]} (and {more} more characters)" if more > 0 else line


__all__ = ["archive_table", "facts", "margin", "score", "table"]
