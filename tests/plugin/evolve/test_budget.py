"""How a budget is divided."""

import pytest

from fst_plugin.config import FastPhaseConfig
from fst_plugin.evolve.budget import split_budget

FAST = FastPhaseConfig(parents="frontier")
POOLS = {"anchor_pool": 192, "held_out_pool": 192}


def test_the_papers_budget_bears_ten_new_candidates_and_stock_gepa_one():
    """192 anchors, K=4, 960 calls (paper §settings)."""
    anchors, k, budget = 192, 4, 960
    assert (budget - k * anchors) // anchors == 1  # stock: the carried prompts are scored anew
    plan = split_budget(budget, FAST, 256, fresh_carried=0, shared=False, **POOLS)
    assert plan.scored_candidates(budget, 0) >= 10
    assert plan.evidence >= 50  # and the lead is decided on this many problems more
    without = split_budget(budget, FAST, 256, fresh_carried=k, shared=True, **POOLS)
    assert without.scored_candidates(budget, k) >= 10 and without.anchors < plan.anchors  # paid for with anchors


def test_a_round_fills_the_engine_if_the_budget_bears_it():
    for width in (16, 32, 64):
        plan = split_budget(960, FAST, width, fresh_carried=0, shared=False, **POOLS)
        assert plan.proposals * plan.test >= min(width, plan.proposals * 3)
    wide = split_budget(960, FAST, 4096, fresh_carried=0, shared=False, **POOLS)
    assert wide.proposals * wide.test >= 100  # as wide as three rounds of two batches allow
    once = split_budget(960, FAST.model_copy(update={"rounds": 1}), 4096, fresh_carried=0, shared=False, **POOLS)
    assert once.proposals * once.test >= 380 and once.scored_candidates(960, 0) >= 10


@pytest.mark.parametrize("budget", [2, 3, 7, 20, 63, 240, 961])
@pytest.mark.parametrize("carried", [0, 1, 4])
@pytest.mark.parametrize("problems", [1, 5, 48, 192])
def test_whatever_the_sizes_the_parts_fit_the_budget(budget, carried, problems):
    plan = split_budget(
        budget,
        FAST,
        256,
        fresh_carried=carried,
        anchor_pool=problems,
        held_out_pool=problems,
        shared=carried > 0,
    )
    if plan is None:
        assert budget < carried + 1 or problems < 1
        return
    assert 1 <= plan.test <= max(1, plan.anchors)
    assert carried * plan.anchors + plan.anchors + 2 * plan.evidence <= budget
    assert plan.anchors + (plan.evidence if carried else 0) <= problems
    assert plan.evidence == 0 or plan.evidence >= 3
