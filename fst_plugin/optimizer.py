"""The fast phase behind one verb: `evolve`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .prompts import Population, Prompt
from .rollouts import Evaluate, Problem, Rollout, Trace


@dataclass(frozen=True)
class Evidence:
    """A comparison on problems that no reflection saw: the best new prompt against the old one that leads. Beside slow
    steps against the whole old population, less what the lead is known to be ahead of it by.

    problems: how many there were.
    margin: mean difference of the two prompts' rewards, new less old.
    error: its standard error.
    adopted: did the new one take the lead?
    why: the condition that it did not meet; empty if it took the lead.
    """

    challenger: str
    incumbent: str
    problems: int
    margin: float
    error: float
    adopted: bool
    why: str = ""


@dataclass(frozen=True)
class Candidate:
    """A new prompt in the accounts of its phase.

    verdict: "refused" (it leaks an answer), "rejected" (no better than its parent on the test), "outranked" (better,
        but beaten by others in its round), "scored" (scored on the anchors), "carried" (in the population), "leads".
    margin: mean difference to its parent on the test problems, None if it was never tested.
    records: what the reflection that made it was shown: problem id and rollout.
    tested: how many problems `margin` rests on.
    error: standard error of `margin`; None if it rests on fewer than two problems.
    """

    prompt: Prompt
    verdict: str
    margin: float | None = None
    records: tuple[tuple[str, Rollout], ...] = ()
    tested: int = 0
    error: float | None = None


@dataclass(frozen=True)
class Evolution:
    """What a fast phase hands back.

    population: the K prompts to carry on; the old one if nothing better was found.
    metrics: figures of this phase, name -> number; logged as `fst/<name>`.
    warnings: lines a person should see.
    candidates: every new prompt and what became of it.
    evidence: the comparison that decided the lead, if one was made.
    dropped: prompts that were carried until now and are not any more, with the scores that they were dropped by.
    """

    population: Population
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    evidence: Evidence | None = None
    dropped: tuple[Prompt, ...] = ()


class Beside(Protocol):
    """What a phase that runs beside slow steps knows of them (`fst.fast.when=hybrid`): each of its calls of `evaluate`
    goes out with one slow step, also a call without cells, and is answered at its end, or where the stack rolls out
    ahead, at the end of the next."""

    def problems(self) -> list[Problem]:
        """Those of the slow step that the next call of `evaluate` goes out with; waits until they are known."""
        ...

    def left(self) -> int:
        """How many calls of `evaluate` this cycle still has room for, that of `problems` included."""
        ...

    def traces(self) -> list[Trace]:
        """How the carried prompts did on the problems of the slow steps so far, free of charge."""
        ...


class PromptOptimizer(Protocol):
    """Fast phase: better prompts from textual feedback, with the slow weights frozen (paper Algorithm 1, step 2).

    A user's own is any object with this method, named in the config by its dotted path (`fst.fast.path`) and
    built with `fst.fast.kwargs` (`+fst.fast.kwargs.x=1` on the command line):

        class KeepBest:
            def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
                rollouts = evaluate([Cell(p, q) for p in population.prompts for q in problems])
                ...
                return Evolution(Population((best,)))

    An `evolve` that also has the parameter `archived: Sequence[Prompt] = ()` gets the run's earlier prompts
    (`fst.fast.archive`): leads that lost the lead and prompts that were dropped, each with the scores of the problems
    that it held. Their texts are candidates like any other; test them on a few anchors first. What of them is in the
    outcome's population is carried again.

    With `fst.fast.when=hybrid`, from the second cycle on, `evolve` runs in a thread of its own and each call of
    `evaluate` is answered by one slow step, with whose rollouts it goes out; what it still asks for when the cycle ends
    is rolled out before the next one begins. An `evolve` that also has the parameter `beside: Beside | None = None` is
    told of these steps.
    """

    def evolve(
        self,
        population: Population,
        problems: Sequence[Problem],
        evaluate: Evaluate,
        *,
        cycle: int,
        seed: int,
        traces: Sequence[Trace] = (),
    ) -> Evolution:
        """Evolves `population` on the coming cycle's `problems` and returns 1..K prompts, best first.

        cycle: 0-based number of the fast phase.
        seed: differs in every cycle; the only source of randomness.
        traces: the last slow phase's problems and how the carried prompts did on them; free of charge. Their problems
            can be evaluated too. Empty in the first cycle.
        """
        ...


def takes(optimizer: Any, name: str) -> bool:
    """Does this optimizer's `evolve` have a parameter of this name?"""
    parameters = inspect.signature(optimizer.evolve).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


__all__ = ["Beside", "Candidate", "Evidence", "Evolution", "PromptOptimizer", "takes"]
