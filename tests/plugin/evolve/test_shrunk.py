"""What is believed of a prompt that was picked because it did best."""

import random
import statistics

import pytest

from fst_plugin.evolve.evidence import Margin, shrunk
from fst_plugin.evolve.search import Search
from fst_plugin.prompts import Prompt


def test_where_samples_differ_by_no_more_than_noise_the_best_is_as_good_as_all():
    samples = [[0.0, 1.0], [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    found = shrunk(samples, 2)
    every = [x for sample in samples for x in sample]
    within = 0.5 + 1.0 + 2 / 3
    assert found.mean == pytest.approx(statistics.fmean(every))
    assert found.error == pytest.approx((within / 6 / 9) ** 0.5)


def test_where_they_differ_by_far_more_it_is_its_own_mean():
    found = shrunk([[0.0, 0.1] * 10, [1.0, 1.1] * 10, [-1.0, -0.9] * 10], 1)
    assert found.mean == pytest.approx(1.05, abs=0.001)
    assert found.error == pytest.approx(statistics.pstdev([1.0, 1.1]) / 19**0.5, rel=0.05)


def test_the_mean_and_its_error_are_those_of_the_formulas():
    """Noise 6/4; weights 4/3 and 8/3 about the common mean 2/3: variance (32/9 - 1) / (16/9) = 23/16; with it the
    common mean is 29/32, and 12/35 of the way there is taken."""
    found = shrunk([[1.0, 3.0], [-1.0, 1.0, -1.0, 1.0]], 0)
    assert found == Margin(pytest.approx(13 / 8), pytest.approx((39 / 64) ** 0.5))


def test_what_is_earned_is_less_what_the_old_prompt_has():
    old, rival, new = Prompt("old"), Prompt("rival"), Prompt("new")
    search = Search([old], explore=False, seed=0)
    search.tell(old, {"a": 0.5, "b": 0.0, "c": 0.25, "d": 0.25})
    for prompt, gains in ((rival, {"a": -1.0, "b": 1.0, "c": -1.0, "d": 1.0}), (new, {"a": 1.0, "b": 3.0})):
        search.add(prompt, old, [])
        search.tell(prompt, gains)
    earned = search.earned(search.contenders["new"], search.contenders["old"])
    alone = shrunk([[-1.0, 1.0, -1.0, 1.0], [1.0, 3.0]], 1)
    assert earned.mean == pytest.approx(alone.mean - 0.25) and earned.error > alone.error


def test_of_one_sample_nothing_was_picked():
    assert shrunk([[0.0, 1.0, 0.5]], 0) == Margin(pytest.approx(0.5), pytest.approx(0.5 / 3**0.5))


@pytest.mark.parametrize("samples", [[[1.0], [0.5]], [[0.1 + 0.2, 0.3], [0.5, 0.5]]])
def test_where_nothing_varies_within_a_sample_it_cannot_be_told(samples):
    assert shrunk(samples, 0) is None


def test_what_is_far_behind_does_not_make_the_others_look_told_apart():
    alike = [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]
    assert shrunk([*alike, [-5.0, -5.0, -5.0, -5.0]], 1) == shrunk(alike, 1)
    assert shrunk([*alike, [0.0, 0.0, 0.0, 0.0]], 1).mean < shrunk(alike, 1).mean, "not so far"


@pytest.mark.parametrize("broken", [0.0, 0.5])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.25])
def test_over_many_searches_luck_is_not_taken_for_merit(spread, broken):
    """Rewards of 0 or 1, in some searches with prompts that always fail: the mean of the best of 24 is too high, what
    is believed of it is right, or a little too low."""
    rng, raw, found = random.Random(f"luck {spread} {broken}"), [], []
    for _ in range(400):
        truths = [min(0.95, max(0.05, rng.gauss(0.5, spread))) * (rng.random() >= broken) for _ in range(24)]
        samples = [[float(rng.random() < truth) for _ in range(rng.choice((8, 16, 32)))] for truth in truths]
        best = max(range(24), key=lambda i: statistics.fmean(samples[i]))
        raw.append(statistics.fmean(samples[best]) - truths[best])
        found.append(shrunk(samples, best).mean - truths[best])
    assert abs(statistics.fmean(found)) < statistics.fmean(raw)
    assert -0.1 < statistics.fmean(found) < 0.04
