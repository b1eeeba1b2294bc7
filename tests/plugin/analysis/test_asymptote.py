"""Fits on curves whose parameters are known, and the curves that must not be fitted."""

import math
import random
import sys

import pytest

from fst_plugin.analysis import asymptote
from fst_plugin.analysis.asymptote import curve, fit, gain

STEPS = (0, 6, 12, 18, 24, 30, 40, 50, 60, 80, 100, 120)


@pytest.fixture
def scipy():
    return pytest.importorskip("scipy")


def points(a, r0, cmid, b, noise=0.0, seed=0, steps=STEPS):
    rng = random.Random(seed)
    return [(c, curve(c, a, r0, cmid, b) + rng.gauss(0, noise)) for c in steps]


def test_the_curve_itself():
    assert curve(0, 0.8, 0.1, 20, 2) == 0.1
    assert curve(20, 0.8, 0.1, 20, 2) == pytest.approx(0.45)  # half of the rise at Cmid
    assert curve(1e9, 0.8, 0.1, 20, 2) == pytest.approx(0.8)
    assert curve(40, 0.8, 0.1, 20, 2) == pytest.approx(0.1 + 0.7 * 0.8)  # 1/(1 + (1/2)^2)


@pytest.mark.parametrize(
    "a, r0, cmid, b", [(0.8, 0.1, 20, 2), (0.474, 0.2, 12, 1.5), (1.0, 0.0, 30, 4), (35, 5, 15, 3)]
)
def test_exact_curves_give_their_parameters_back(scipy, a, r0, cmid, b):
    found = fit(points(a, r0, cmid, b))
    assert found.reason == ""
    assert (found.asymptote.value, found.start, found.midpoint, found.steepness) == pytest.approx(
        (a, r0, cmid, b), rel=1e-3, abs=1e-4
    )
    assert found.asymptote.low == pytest.approx(a, rel=1e-3) and found.asymptote.high == pytest.approx(a, rel=1e-3)


def test_the_interval_holds_the_true_ceiling_as_often_as_it_says(scipy):
    held = fitted = 0
    for seed in range(40):
        found = fit(points(0.8, 0.1, 20, 2, noise=0.02, seed=seed))
        if found.asymptote is not None:
            fitted += 1
            held += found.asymptote.low <= 0.8 <= found.asymptote.high
    assert fitted >= 38 and held / fitted >= 0.85


def test_more_noise_means_a_wider_interval(scipy):
    quiet, loud = (fit(points(0.8, 0.1, 20, 2, noise=n)).asymptote for n in (0.005, 0.03))
    assert quiet.high - quiet.low < loud.high - loud.low


def test_seeds_can_be_pooled(scipy):
    pooled = [p for seed in range(3) for p in points(0.8, 0.1, 20, 2, noise=0.02, seed=seed)]
    one, three = fit(pooled[: len(STEPS)]).asymptote, fit(pooled).asymptote
    assert three.low <= 0.8 <= three.high and three.high - three.low < one.high - one.low
    assert three.n == 3 * len(STEPS)


def test_a_ceiling_bounds_what_has_not_levelled_off(scipy):
    rising = [(c, c / 300 + noise(c)) for c in STEPS]
    assert fit(rising).reason.startswith("not levelled off")
    found = fit(rising, ceiling=1.0).asymptote
    assert found.high == 1.0 and max(r for _, r in rising) - 0.05 < found.low < found.value <= 1.0


def test_a_ceiling_far_above_changes_nothing(scipy):
    level = points(0.6, 0.1, 20, 4, noise=0.01)
    free, bounded = fit(level).asymptote, fit(level, ceiling=1.0).asymptote
    assert (bounded.value, bounded.high) == (pytest.approx(free.value), pytest.approx(free.high, abs=1e-3))
    assert bounded.high < 1
    with pytest.raises(ValueError, match="ceiling=0.5: a reward of 0.6.* is above it"):
        fit(level, ceiling=0.5)


def noise(c, seed=3):
    return random.Random(f"{seed}-{c}").gauss(0, 0.02)


@pytest.mark.parametrize(
    "data, reason",
    [
        ([(c, 0.1 * c) for c in range(5)], "5 points"),
        ([(c % 3, 0.1 * c) for c in range(9)], "at 3 steps"),
        ([(c, 0.4) for c in STEPS], "same everywhere"),
        ([(c, 0.5 + noise(c)) for c in STEPS], "noise"),
        ([(c, 0.5 - c / 300) for c in STEPS], "falls"),
        ([(c, c / 300) for c in STEPS], "not levelled off"),
        ([(c, c / 300 + noise(c)) for c in STEPS], "not levelled off"),
        ([(c, 0.1 + math.exp((c - 120) / 40) / 2 + noise(c) / 2) for c in STEPS], "not levelled off"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(scipy, data, reason):
    found = fit(data)
    assert found.asymptote is None and reason in found.reason


@pytest.mark.parametrize("bad", [(-1.0, 0.5), (3.0, math.nan), (math.inf, 0.5)])
def test_points_that_are_no_points_are_errors(scipy, bad):
    with pytest.raises(ValueError, match="finite"):
        fit([*points(0.8, 0.1, 20, 2), bad])


def test_the_gain_of_one_arm_over_another(scipy):
    ours, theirs = fit(points(0.9, 0.1, 15, 2, noise=0.01)), fit(points(0.7, 0.1, 20, 2, noise=0.01, seed=1))
    found = gain(ours, theirs)
    assert found.low <= 0.2 <= found.high and found.low > 0
    assert gain(ours, asymptote.Fit(reason="not levelled off")) is None


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ModuleNotFoundError, match=r"fst-plugin\[analysis\]"):
        fit(points(0.8, 0.1, 20, 2))
