"""Trajectories with answers known by hand."""

import math
import random

import pytest

from fst_plugin.analysis.curves import (
    Interval,
    bootstrap,
    difference,
    first_reaching,
    kl_at,
    matched_kl,
    peak,
    to_peak,
)


def test_the_peak_is_the_maximum_and_its_first_step():
    curve = {0: 0.1, 6: 0.5, 12: 0.7, 18: 0.6, 24: 0.7}
    assert peak(curve) == (12, 0.7)


def test_steps_and_rollouts_to_the_baselines_peak():
    rl, fst = {0: 0.1, 6: 0.3, 12: 0.6, 18: 0.5}, {0: 0.1, 6: 0.7, 12: 0.4, 18: 0.9}
    found = to_peak(rl, fst, {6: 60, 12: 120, 18: 180}, {6: 90, 12: 150, 18: 240})
    assert (found.peak, found.baseline, found.arm, found.spacing) == (0.6, 12, 6, 6)
    assert found.steps_ratio == 0.5 and found.rollouts_ratio == 90 / 120
    assert not found.at_end


def test_an_arm_that_never_gets_there_is_infinite_and_not_left_out():
    found = to_peak({0: 0.1, 6: 0.6}, {0: 0.1, 6: 0.5}, {6: 60}, {6: 90})
    assert found.arm is None and found.steps_ratio == math.inf and found.rollouts_ratio == math.inf
    assert found.at_end


def test_rollouts_that_are_not_known_give_no_ratio():
    assert to_peak({0: 0.1, 6: 0.6}, {6: 0.6}).rollouts_ratio is None


def test_a_baseline_that_was_best_at_its_start_gives_no_ratio():
    assert math.isnan(to_peak({0: 0.6, 6: 0.5}, {0: 0.7}).steps_ratio)


def test_no_step_between_two_validations_is_claimed():
    assert first_reaching({0: 0.0, 10: 1.0}, 0.5) == 10
    assert first_reaching({0: 0.0}, 0.5) is None


def test_an_empty_curve_is_told():
    with pytest.raises(ValueError, match="never validated"):
        to_peak({0: 1.0}, {})


def test_kl_is_interpolated_between_validations():
    rewards, kl = {0: 0.0, 10: 0.4, 20: 0.3, 30: 0.8}, {0: 0.0, 10: 0.1, 20: 0.3, 30: 0.5}
    assert kl_at(0.2, rewards, kl) == pytest.approx(0.05)  # halfway to 0.4
    assert kl_at(0.4, rewards, kl) == pytest.approx(0.1)
    assert kl_at(0.55, rewards, kl) == pytest.approx(0.4)  # halfway from 0.3 (step 20) to 0.8
    assert kl_at(0.0, rewards, kl) == 0.0
    assert kl_at(0.9, rewards, kl) is None


def test_kl_at_matched_reward_of_two_straight_trajectories():
    steps = range(0, 60, 10)
    rl = ({s: s / 100 for s in steps}, {s: s / 100 for s in steps})  # KL = reward
    fst = ({s: s / 50 for s in steps}, {s: 0.3 * s / 50 for s in steps})  # KL = 0.3 reward
    found = matched_kl(rl, fst)
    assert found.ratio == pytest.approx(0.3) and found.at_top == pytest.approx(0.3)
    assert max(found.rewards) == pytest.approx(0.5) and found.reason == ""


def test_no_reward_in_common_gives_the_reason():
    found = matched_kl(({0: 0.1, 6: 0.2}, {0: 0.0, 6: 0.1}), ({0: 0.5, 6: 0.9}, {0: 0.0, 6: 0.1}))
    assert found.ratio is None and "no reward that both rise to" in found.reason
    assert "not logged" in matched_kl(({0: 0.1}, {}), ({0: 0.1}, {})).reason
    still = ({0: 0.1, 6: 0.5}, {0: 0.0, 6: 0.0})
    assert "have not moved" in matched_kl(still, ({0: 0.1, 6: 0.5}, {0: 0.0, 6: 0.2})).reason


def test_few_seeds_are_resampled_exhaustively():
    found = bootstrap([1.0, 2.0, 3.0])
    # of 27 resamples one is all 1, and the median of 7 is 1: the 2.5% point lies among them
    assert (found.value, found.low, found.high, found.n) == (2.0, 1.0, 3.0, 3)
    assert bootstrap([0.5]) == Interval(0.5, None, None, 1)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


def test_never_stays_never_in_an_interval():
    found = bootstrap([0.2, 0.3, math.inf])
    assert found.value == 0.3 and found.low == 0.2 and found.high == math.inf
    assert bootstrap([0.2, math.inf, math.inf]).value == math.inf


def test_the_bootstrap_covers_as_often_as_it_says():
    """Percentile intervals of a median of 15 normal values, 200 times: 95% named; far less or always would be wrong."""
    rng = random.Random(7)
    held = 0
    for trial in range(200):
        found = bootstrap([rng.gauss(1.0, 0.5) for _ in range(15)], resamples=300, seed=trial)
        held += found.low <= 1.0 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_the_difference_of_two_figures():
    found = difference(Interval(0.8, 0.7, 0.9, 10), Interval(0.5, 0.4, 0.6, 8))
    assert found.value == pytest.approx(0.3) and found.n == 8
    assert found.low == pytest.approx(0.3 - math.hypot(0.1, 0.1)) and found.high == pytest.approx(
        0.3 + math.hypot(0.1, 0.1)
    )
    assert difference(Interval(0.8, None, None, 1), Interval(0.5, 0.4, 0.6, 8)).low is None
