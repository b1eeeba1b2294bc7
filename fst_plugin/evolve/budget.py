"""How a fast phase divides its rollouts. Plain arithmetic, so that a budget can be judged before it is spent.

A new candidate costs its test (m problems) and, if it passes, the other anchors (a - m). At most half of a round's
children pass, so one scored candidate costs a + m. Carried prompts that the slow phase has scored cost nothing; others
cost a each. The best new prompt and the old one that leads meet once more on e problems held out, which costs 2e.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import FastPhaseConfig

MIN_ANCHORS = 16
"""Anchors below which the number of new candidates is cut rather than the anchors (ours)."""
EVIDENCE_SHARE = 0.15
"""Share of the budget that goes to the comparison on held-out problems (ours)."""


@dataclass(frozen=True)
class BudgetSplit:
    """What a phase does with its rollouts.

    anchors: a, problems that prompts are scored on.
    evidence: e, problems held out, 0 if none can be.
    test: m, problems that a child is tested on.
    proposals: children per round.
    """

    anchors: int
    evidence: int
    test: int
    proposals: int

    def scored_candidates(self, budget: int, fresh_carried: int) -> int:
        """New candidates that `budget` rollouts bear on all anchors, `fresh_carried` old prompts being scored anew."""
        search = budget - 2 * self.evidence - fresh_carried * self.anchors
        return max(0, search // (self.anchors + self.test))


def split_budget(
    budget: int,
    fast: FastPhaseConfig,
    width: int,
    *,
    fresh_carried: int,
    anchor_pool: int,
    held_out_pool: int,
    shared: bool,
) -> BudgetSplit | None:
    """Divides `budget` rollouts; None if it cannot score the old prompts and one child.

    fast: how many new candidates there shall be, in how many rounds, and what a test has at least. Two children are
        proposed for each that is scored; fewer, wider rounds fill a large engine better and learn less from each other.
    width: rollouts that the engine runs at a time; a round's tests are as wide if the budget bears it.
    fresh_carried: old prompts that must be scored anew.
    anchor_pool, held_out_pool: how many problems there are for either.
    shared: both are the same problems.
    """
    held = min(int(budget * EVIDENCE_SHARE) // 2, held_out_pool // 3 if shared else held_out_pool)
    held = held if held >= 3 else 0
    pool = anchor_pool - held if shared else anchor_pool
    search = budget - 2 * held
    rounds = fast.generations
    for new in range(fast.new_candidates, 0, -1):
        children = fast.proposals or -(-2 * new // rounds)
        wide = max(fast.test, min(width, search // (2 * rounds)) // children)
        size = (search - new * wide) // (fresh_carried + new)
        if size >= min(MIN_ANCHORS, pool):
            break
    if size < 1:  # a budget for one child on few problems
        size = search // (fresh_carried + 1)
    size = min(size, pool)
    return BudgetSplit(size, held, min(wide, max(1, size // 2)), children) if size >= 1 else None
