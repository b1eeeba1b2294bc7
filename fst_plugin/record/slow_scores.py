"""What the slow phase has already paid for: scores and feedback of the carried prompts on the cycle's problems.

Every slow step rolls each problem out G/K times under each of K prompts. The next fast phase takes these as the carried
prompts' scores instead of making them again, and its reflections learn from their feedback. Each entry is bound to its
prompt's digest, its problem's id and the slow step (and so the weights) that made it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..prompts import Population, text_digest
from ..reflection.base import RECORD_CHARS
from ..reflection.text import shorten
from ..rewards import RewardBar
from ..rollouts import Problem, Rollout, Trace, merged, worst
from . import sealed

TRACES_FILE = "traces.jsonl"
REFLECTIONS = 2
"""How many reflections' records a slow step leaves of each prompt, each with others, if an adapter asks for no more
responses than are enough (ours). A cycle has several steps, and a prompt bears few children."""


@dataclass(frozen=True)
class Entry:
    """The merged rollouts of one problem under one prompt in one slow step, done with `weights`."""

    problem: str
    prompt: str
    step: int
    weights: str
    rollout: Rollout


@dataclass
class SlowScores:
    """The entries of the running cycle, in the order that they were made."""

    entries: list[Entry] = field(default_factory=list)

    def add(
        self, step: int, weights: str, rollouts: Sequence[tuple[str, str, Rollout]], solutions: bool = False
    ) -> list[Entry]:
        """Returns the new entries.

        rollouts: (problem id, prompt digest, rollout) of one slow step. Failed ones are left out.
        solutions: keep the best response beside the worst.
        """
        before = len(self.entries)
        for (problem, prompt), places in _cells(rollouts).items():
            one = merged([rollouts[place][2] for place in places])
            response, feedback = shorten(one.response, RECORD_CHARS), shorten(one.feedback, RECORD_CHARS)
            short = replace(one, response=response, feedback=feedback, tokens=None)
            if not solutions or len(one.solution) > RECORD_CHARS:  # a cut one is no use
                short = replace(short, solution="", solution_score=0.0)
            self.entries.append(Entry(problem, prompt, step, weights, short))
        return self.entries[before:]

    def traces(
        self, population: Population, problems: Sequence[Problem], *, step: int, max_age: int | None
    ) -> list[Trace]:
        """Per problem how the prompts of `population` did, before `step`. max_age: slow steps after which a score is
        too stale to use; None: never within a cycle."""
        carried = {prompt.digest for prompt in population.prompts}
        found: dict[str, dict[str, list[Rollout]]] = {}
        for entry in self.entries:
            if entry.prompt in carried and (max_age is None or step - entry.step <= max_age):
                found.setdefault(entry.problem, {}).setdefault(entry.prompt, []).append(entry.rollout)
        by_id = {problem.id: problem for problem in problems}
        return [
            Trace(by_id[problem], {digest: merged(rollouts) for digest, rollouts in by_prompt.items()})
            for problem, by_prompt in found.items()
            if problem in by_id
        ]

    def save(self, folder: Path) -> None:
        sealed.write_lines(folder / TRACES_FILE, map(asdict, self.entries))

    @classmethod
    def load(cls, folder: Path) -> SlowScores:
        """Inverse of `save`. Raises FileNotFoundError if the folder has none, ValueError if they cannot be used."""
        return cls(sealed.read_lines(folder / TRACES_FILE, Entry))


def _cells(rollouts: Sequence[tuple[str, str, Rollout]]) -> dict[tuple[str, str], list[int]]:
    """Problem id and prompt digest -> places of their rollouts; failed ones are left out."""
    cells: dict[tuple[str, str], list[int]] = {}
    for place, (problem, prompt, rollout) in enumerate(rollouts):
        if rollout.error is None and math.isfinite(rollout.score):
            cells.setdefault((problem, prompt), []).append(place)
    return cells


def shown_places(
    rollouts: Sequence[tuple[str, str, Rollout]],
    most: int | None = None,
    bar: RewardBar = RewardBar(),  # noqa: B008  frozen
    solutions: bool = False,
) -> list[int]:
    """Places of the rollouts whose response a reflection may be shown: one for each problem and prompt. An adapter that
    has to decode responses needs no others.

    most: of each prompt, problems that it solves last, as a reflection has them; which of the others is drawn by their
        ids. None: all.
    bar: from which reward on a problem is solved, as known before these.
    solutions: also one that solved the problem, of as many problems a prompt.
    """
    cells, by_prompt = _cells(rollouts), dict[str, list[tuple[bool, str, int]]]()
    bar = bar.after(rollouts[place][2].score for places in cells.values() for place in places)
    for (problem, prompt), places in cells.items():
        some = [rollouts[place][2] for place in places]
        solved = bar.solved(statistics.fmean(one.score for one in some))
        by_prompt.setdefault(prompt, []).append((solved, problem, places[worst(some)]))
    shown = {place for found in by_prompt.values() for *_, place in sorted(found)[:most]}
    return sorted(shown | _solutions(rollouts, cells, bar, most) if solutions else shown)


def _solutions(
    rollouts: Sequence[tuple[str, str, Rollout]],
    cells: Mapping[tuple[str, str], Sequence[int]],
    bar: RewardBar,
    most: int | None,
) -> set[int]:
    """Places of the best rollouts of problems that were solved, `most` of each prompt, drawn by their ids."""
    found: dict[str, list[tuple[str, int]]] = {}
    for (problem, prompt), places in cells.items():
        best = max(places, key=lambda place: rollouts[place][2].score)
        if bar.solved(rollouts[best][2].score):
            found.setdefault(prompt, []).append((problem, best))
    return {place for some in found.values() for _, place in sorted(some)[:most]}


def traces_digest(traces: Sequence[Trace]) -> str:
    """Names some traces by their content."""
    data = [[t.problem.id, {k: asdict(r) for k, r in sorted(t.rollouts.items())}] for t in traces]
    return text_digest(json.dumps(data, ensure_ascii=True))


__all__ = ["REFLECTIONS", "TRACES_FILE", "Entry", "SlowScores", "shown_places", "traces_digest"]
