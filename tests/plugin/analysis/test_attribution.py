"""Intervals that are in the textbooks, and a 2x2 counted by hand."""

import pytest

from fst_plugin.analysis.attribution import attribution, wilson
from fst_plugin.analysis.curves import difference


def counts(**cells):
    return {name.replace("_", "/"): {"passed": passed, "of": 100} for name, passed in cells.items()}


def test_wilson_intervals():
    found = wilson(8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20).low == 0.0 and wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20).high == 1.0


def test_the_difference_is_newcombes():
    """56/70 against 48/80, from his paper (1998), method 10: 0.2, 0.0524 to 0.3339."""
    found = difference(wilson(56, 70), wilson(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize("passed, of", [(-1, 10), (11, 10), (0, 0), (0.5, 10)])
def test_impossible_counts_are_refused(passed, of):
    with pytest.raises(ValueError, match="passed of"):
        wilson(passed, of)


def test_what_each_part_adds():
    found = attribution(counts(base_seed=2, base_evolved=11, trained_seed=12, trained_evolved=21))
    assert found.fast.value == pytest.approx(0.09) and found.slow.value == pytest.approx(0.10)
    assert found.both.value == pytest.approx(0.19) and found.interaction == pytest.approx(0.0)
    assert found.both.low > 0 and found.cells["trained/evolved"].value == 0.21


def test_a_gain_within_the_noise_has_an_interval_over_zero():
    found = attribution(counts(base_seed=20, base_evolved=22, trained_seed=47, trained_evolved=48))
    assert found.fast.low < 0 < found.fast.high and found.slow.low > 0


def test_a_cell_that_is_wrong_is_named():
    whole = counts(base_seed=2, base_evolved=11, trained_seed=12, trained_evolved=21)
    with pytest.raises(ValueError, match="missing.*base/seed"):
        attribution({k: v for k, v in whole.items() if k != "base/seed"})
    with pytest.raises(ValueError, match="unknown.*other"):
        attribution({**whole, "other": {}})
    with pytest.raises(ValueError, match="trained/seed"):
        attribution({**whole, "trained/seed": {"passed": 5}})
