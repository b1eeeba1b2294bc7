"""Which K prompts to carry on: the best one, and those that are best where it is not (paper Algorithm 1, step 2).

Scores are per problem; a problem that a prompt was not scored on counts neither for nor against it. Ties everywhere:
higher mean score, then shorter, then older (earlier in the sequence), so the outcome is a function of its input.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..prompts import Prompt


def frontier(candidates: Sequence[Prompt]) -> dict[str, tuple[int, ...]]:
    """Problem id -> indices of the candidates with the highest score on it: the per-problem Pareto frontier."""
    best: dict[str, float] = {}
    holders: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        for problem, score in candidate.scores.items():
            if problem not in best or score.mean > best[problem]:
                best[problem], holders[problem] = score.mean, [index]
            elif score.mean == best[problem]:
                holders[problem].append(index)
    return {problem: tuple(indices) for problem, indices in holders.items()}


def select(candidates: Sequence[Prompt], k: int) -> tuple[Prompt, ...]:
    """At most `k` of the candidates, best mean score first: the best one, and a greedy cover of the frontier.

    Every further pick is the candidate that holds most of the problems which no pick holds yet; when all are held, the
    next by mean score. A text comes up once. Raises ValueError for no candidates or k < 1. Cover and ties are ours; the
    paper carries K prompts of the frontier and does not say which.
    """
    if k < 1 or not candidates:
        raise ValueError(f"cannot select {k} of {len(candidates)} candidates")
    holders = frontier(candidates)
    held: list[set[str]] = [set() for _ in candidates]
    for problem, indices in holders.items():
        for index in indices:
            held[index].add(problem)

    def rank(index: int) -> tuple[float, int, int]:
        return (-candidates[index].mean_score, len(candidates[index].text), index)

    first: dict[str, int] = {}
    for index, candidate in enumerate(candidates):
        first.setdefault(candidate.text, index)
    left = sorted(first.values(), key=rank)
    picked = [left.pop(0)]
    open_problems = set(holders) - held[picked[0]]
    while left and len(picked) < k:
        index = min(left, key=lambda i: (-len(held[i] & open_problems), *rank(i)))
        left.remove(index)
        picked.append(index)
        open_problems -= held[index]
    return tuple(candidates[index] for index in sorted(picked, key=rank))


__all__ = ["frontier", "select"]
