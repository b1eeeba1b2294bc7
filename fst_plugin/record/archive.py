"""Prompts that a run has let go of, kept so that a later fast phase can try them again.

A cycle's population forgets: once a task is over, its prompts are outranked on the next one, and nothing brings them
back when the task returns. An archive keeps leads that lost the lead, and dropped prompts that were alone in solving
some problem, with the problems that each held. It is bounded in both directions and spread over the whole run. It is
plain data in the run's state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from ..prompts import Population, Prompt, Score
from ..rollouts import Problem, Rollout, merged
from .slow_scores import SlowScores

MOST_PROBLEMS = 64
"""Problems kept of an archived prompt, those with the highest scores (ours)."""

Known = Mapping[str, Mapping[str, Score]]
"""Prompt digest -> problem id -> what is known of that prompt on that problem."""


@dataclass(frozen=True)
class Archived:
    """One prompt that was let go.

    prompt: its `scores` are on the problems that it held, at most `MOST_PROBLEMS`.
    retired: 0-based number of the last cycle whose fast phase took the lead from it, or dropped it.
    tasks: those of the cycle before; empty where the data names none.
    """

    prompt: Prompt
    retired: Annotated[int, Field(ge=0)]
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Archive:
    """What a run keeps of its earlier prompts.

    entries: each prompt once, earliest retirement first.
    """

    entries: tuple[Archived, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def candidates(self, population: Population, problems: Sequence[Problem]) -> tuple[Prompt, ...]:
        """The prompts that a fast phase may try again: all that `population` does not hold. First those of a task of
        `problems`, and of these the ones that held most of `problems`, then those that held most at all, then those
        retired last."""
        carried, coming = {p.digest for p in population.prompts}, {p.id for p in problems}
        tasks = {p.task for p in problems}

        def rank(entry: Archived) -> tuple[bool, int, int, int]:
            scores = entry.prompt.scores
            return bool(tasks.intersection(entry.tasks)), len(scores.keys() & coming), len(scores), entry.retired

        free = [entry for entry in self.entries if entry.prompt.digest not in carried]
        return tuple(entry.prompt for entry in sorted(free, key=rank, reverse=True))

    def after(
        self,
        old: Population,
        new: Population,
        known: Known,
        *,
        cycle: int,
        floor: float,
        most: int,
        tasks: Iterable[str] = (),
    ) -> Archive:
        """The archive once the fast phase of `cycle` has put `new` in the place of `old`.

        known: the prompts of `old` on the problems of the last cycle, see `known_scores`.
        floor: the lowest reward that the run has seen; a problem with no more than that is not held.
        most: prompts that it holds at most.
        tasks: of the last cycle's problems.

        The lead of `old` goes in if it lost the lead, with the problems on which no other prompt is known to be better;
        any other dropped prompt only if it held some alone. A prompt that was in the archive keeps what it held before.
        """
        everyone = {**{p.digest: p.scores for p in new.prompts}, **known}
        carried, found = {p.digest for p in new.prompts}, {e.prompt.digest: e for e in self.entries}
        for prompt in old.prompts:
            led = prompt is old.best
            if prompt.digest == new.best.digest or (prompt.digest in carried and not led):
                continue
            held = _held(prompt.digest, everyone, floor, alone=not led)
            if held or led:
                before = found.pop(prompt.digest, None)
                scores = _best({**(before.prompt.scores if before else {}), **held})
                found[prompt.digest] = Archived(
                    replace(prompt, scores=scores), cycle, tuple(sorted(filter(None, tasks)))
                )
        return Archive(_spread(found.values(), most))


def known_scores(population: Population, slow: SlowScores) -> Known:
    """What is known of the population's prompts before a fast phase: the slow phase's scores over those of the last
    fast phase."""
    known = {prompt.digest: dict(prompt.scores) for prompt in population.prompts}
    cells: dict[tuple[str, str], list[Rollout]] = {}
    for entry in slow.entries:
        if entry.prompt in known:
            cells.setdefault((entry.prompt, entry.problem), []).append(entry.rollout)
    for (prompt, problem), rollouts in cells.items():
        one = merged(rollouts)
        known[prompt][problem] = Score(one.score, one.of)
    return known


def _held(digest: str, known: Known, floor: float, alone: bool) -> dict[str, Score]:
    """The problems on which a prompt scored above `floor` and no other prompt did better. alone: nor as well."""
    others = [scores for other, scores in known.items() if other != digest]
    found = {}
    for problem, score in known[digest].items():
        best = max((scores[problem].mean for scores in others if problem in scores), default=floor)
        if score.mean > max(floor, best) or (not alone and score.mean == best > floor):
            found[problem] = score
    return found


def _best(scores: Mapping[str, Score]) -> dict[str, Score]:
    """At most `MOST_PROBLEMS`, the highest first; among equal ones the ids decide, which are as good as drawn."""
    return dict(sorted(scores.items(), key=lambda item: (-item[1].mean, item[0]))[:MOST_PROBLEMS])


def _spread(entries: Iterable[Archived], most: int) -> tuple[Archived, ...]:
    """At most `most` of them: the last one to retire, and the others spread over the run's cycles, so that every part
    of it stays. Of the two that retired closest to each other, the earliest such pair, the one that held fewer problems
    goes; the later one if both held as many."""
    ordered = sorted(entries, key=lambda entry: (entry.retired, len(entry.prompt.scores)))
    kept, last = ordered[:-1], ordered[-1:]
    if most < 2:
        return tuple(last if most else ())
    while len(kept) > most - 1:
        left = min(range(len(kept) - 1), key=lambda i: kept[i + 1].retired - kept[i].retired)
        fewer = len(kept[left].prompt.scores) < len(kept[left + 1].prompt.scores)
        del kept[left if fewer else left + 1]
    return (*kept, *last)


__all__ = ["MOST_PROBLEMS", "Archive", "Archived", "known_scores"]
