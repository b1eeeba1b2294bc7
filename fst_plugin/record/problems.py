"""The texts of the problems that a cycle's prompts are scored on, so that a router can know like problems again.

One line a problem in `cycle_NNNN/problems.jsonl`. The texts come from the data's rows and are data: never executed, and
escaped wherever they are shown. `evolution.json` has the file's digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..prompts import Population
from ..reflection.base import RECORD_CHARS
from ..reflection.text import shorten
from ..rollouts import Problem, content_text
from . import sealed

PROBLEMS_FILE = "problems.jsonl"
MOST_COMING = 512
"""Problems of a cycle whose texts are kept although its fast phase scored no prompt on them: slow steps do (ours)."""


@dataclass(frozen=True)
class ProblemText:
    """A problem by its id, and what of it the user says, at most `RECORD_CHARS` characters."""

    id: str
    text: str


def text_of(problem: Problem) -> str:
    """What the user says in a problem: its messages without the system's."""
    said = [content_text(m.get("content")) for m in problem.messages if m.get("role") != "system"]
    return shorten("\n\n".join(said), RECORD_CHARS)


def write_problems(
    folder: Path, population: Population, met: Iterable[Problem], coming: Sequence[Problem] = ()
) -> dict[str, str]:
    """Writes those of `met` that a prompt of `population` has a score on, and `coming`, on which the slow steps will
    score it, at most `MOST_COMING`. Returns the file's digest by name."""
    scored = {problem for prompt in population.prompts for problem in prompt.scores}
    known = {problem.id: problem for problem in met if problem.id in scored}
    known |= {problem.id: problem for problem in coming[:MOST_COMING]}
    rows = (asdict(ProblemText(problem.id, text_of(problem))) for problem in known.values())
    sealed.write_lines(folder / PROBLEMS_FILE, rows)
    return sealed.digests(folder, [PROBLEMS_FILE])


def read_problems(live: Path) -> dict[str, str]:
    """Problem id -> text, over all cycles of a run's live folder. Raises UnusableFile for a damaged file."""
    paths = sorted(live.glob(f"cycle_*/{PROBLEMS_FILE}"))
    return {one.id: one.text for path in paths for one in sealed.read_lines(path, ProblemText)}


__all__ = ["PROBLEMS_FILE", "ProblemText", "read_problems", "text_of", "write_problems"]
