"""The fast phase behind one verb: `evolve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .prompts import Population
from .rollouts import Evaluate, Problem


@dataclass(frozen=True)
class Evolution:
    """What a fast phase hands back.

    population: the K prompts to carry on; the old one where nothing better was found.
    metrics: figures of this phase, name -> number; logged as `fst/<name>`.
    warnings: lines a person should see.
    """

    population: Population
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class PromptOptimizer(Protocol):
    """Fast phase: better prompts from textual feedback, with the slow weights frozen (paper Algorithm 1, step 2).

    A user's own is any object with this method, named in the config by its dotted path (`fst.optimizer.path`) and
    built with `fst.optimizer.kwargs`:

        class KeepBest:
            def evolve(self, population, problems, evaluate, *, cycle, seed):
                rollouts = evaluate([Cell(p, q) for p in population.prompts for q in problems])
                ...
                return Evolution(Population((best,)))
    """

    def evolve(
        self, population: Population, problems: Sequence[Problem], evaluate: Evaluate, *, cycle: int, seed: int
    ) -> Evolution:
        """Evolves `population` on the anchor set `problems` and returns 1..K prompts, best first.

        cycle: 0-based number of the fast phase. seed: differs in every cycle; the only source of randomness.
        """
        ...


__all__ = ["Evolution", "PromptOptimizer"]
