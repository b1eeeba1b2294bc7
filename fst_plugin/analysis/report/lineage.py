"""Where a run's prompts came from: a tree that can be drawn, and which problems each holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...evolve.selection import frontier
from ...prompts import Prompt
from ...record.cycles import PromptRow
from ..run import Run

MAX_NODES = 300
"""Prompts of a run that are drawn, about (ours)."""


@dataclass(frozen=True)
class Node:
    """One prompt in the tree. column, row: its place, in units. prompt: None if only its digest was recorded.

    outcome: what became of it; None if that was not recorded.
    """

    digest: str
    column: int
    row: float
    prompt: Prompt | None
    outcome: PromptRow | None
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """nodes: parents before children. edges: (parent, child, is the child's first parent). left_out: prompts beyond
    MAX_NODES, of which no prompt of the population comes."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, bool], ...]
    left_out: int = 0

    @property
    def columns(self) -> int:
        return 1 + max((node.column for node in self.nodes), default=0)

    @property
    def rows(self) -> float:
        return 1 + max((node.row for node in self.nodes), default=0.0)


def tree(run: Run) -> Tree:
    """The lineage of every prompt that a run recorded. A node stands one column right of its furthest parent; first
    parents make it a tree, further ones are extra edges. Prompts that refer to each other in a ring cannot be: a
    prompt's parents are older."""
    prompts = run.prompts()
    parents: dict[str, tuple[str, ...]] = {d: tuple(dict.fromkeys(p.parents)) for d, p in prompts.items()}
    for known in list(parents.values()):
        for digest in known:
            parents.setdefault(digest, ())
    every = len(parents)
    parents = _bounded(parents, [prompt.digest for prompt in run.population], list(reversed(prompts)))
    order = _parents_first(parents)
    column: dict[str, int] = {}
    children: dict[str, list[str]] = {digest: [] for digest in order}
    for digest in order:
        column[digest] = 1 + max((column[p] for p in parents[digest] if p in column), default=-1)
        if parents[digest]:
            children[parents[digest][0]].append(digest)
    row: dict[str, float] = {}
    next_row = 0
    stack = [(digest, False) for digest in reversed([d for d in order if not parents[d]])]
    while stack:  # leaves from top to bottom, parents at the middle of their children
        digest, seen = stack.pop()
        below = children[digest]
        if seen and below:
            row[digest] = (row[below[0]] + row[below[-1]]) / 2
        elif seen:
            row[digest], next_row = float(next_row), next_row + 1
        else:
            stack += [(digest, True), *((child, False) for child in reversed(below))]
    outcomes = run.outcomes()
    nodes = tuple(Node(d, column[d], row[d], prompts.get(d), outcomes.get(d), parents[d]) for d in order)
    edges = tuple((p, d, i == 0) for d in order for i, p in enumerate(parents[d]))
    return Tree(nodes, edges, every - len(parents))


def _bounded(
    parents: Mapping[str, tuple[str, ...]], population: Sequence[str], newest: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The population, then about as many of the newest as MAX_NODES allows, each with all that it comes from."""
    kept: set[str] = set()
    for i, digest in enumerate((*population, *newest)):
        if len(kept) >= MAX_NODES and i >= len(population):
            break
        above = [digest]
        while above:
            if (one := above.pop()) not in kept:
                kept.add(one)
                above += parents.get(one, ())
    return {digest: of for digest, of in parents.items() if digest in kept}


def _parents_first(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Digests so that parents precede children; raises ValueError if that cannot be."""
    order: list[str] = []
    left = dict(parents)
    done: set[str] = set()
    while left:
        ready = [d for d, above in left.items() if done.issuperset(above)]
        if not ready:
            raise ValueError(f"prompts {sorted(left)} are each other's parents: the record was edited")
        for digest in ready:
            del left[digest]
        done.update(ready)
        order += ready
    return order


@dataclass(frozen=True)
class Frontier:
    """Who is best on which problem. rows: one a prompt, by rank; a score each problem, None if it has none.
    problems: ids, from the one that most prompts fail to the one that most pass. held: per prompt, how many problems it
    is (among) the best on."""

    problems: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    held: tuple[int, ...]


def frontiers(prompts: Sequence[Prompt]) -> Frontier:
    """The per-problem frontier of a population on the problems that any of its prompts was scored on."""
    holders = frontier(prompts)
    means: dict[str, list[float]] = {problem: [] for problem in holders}
    for prompt in prompts:
        for problem, score in prompt.scores.items():
            means[problem].append(score.mean)
    problems = tuple(sorted(means, key=lambda p: (sum(means[p]) / len(means[p]), p)))
    rows = tuple(tuple(p.scores[q].mean if q in p.scores else None for q in problems) for p in prompts)
    held = tuple(sum(i in indices for indices in holders.values()) for i in range(len(prompts)))
    return Frontier(problems, rows, held)


__all__ = ["Frontier", "Node", "Tree", "frontiers", "tree"]
