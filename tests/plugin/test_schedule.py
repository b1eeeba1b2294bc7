import pytest

from fst_plugin.schedule import Schedule


def test_a_fast_phase_runs_before_the_first_of_every_t_steps():
    start, begins = None, []
    for step in range(1, 14):
        if Schedule(6).due(step, start):
            start = step
            begins.append(step)
    assert begins == [1, 7, 13]


@pytest.mark.parametrize(("last", "begins"), [(12, [1, 7]), (13, [1, 7]), (14, [1, 7]), (15, [1, 7, 13]), (1, [1])])
def test_no_fast_phase_runs_for_less_than_half_a_cycle(last, begins):
    start, found = None, []
    for step in range(1, last + 1):
        if Schedule(6).due(step, start, last_step=last):
            start = step
            found.append(step)
    assert found == begins


def test_an_adaptive_cycle_ends_when_the_reward_no_longer_rises():
    adaptive = Schedule(6, patience=2, window=2, min_steps=3, max_steps=8)
    rising = [0.1 * i for i in range(1, 8)]
    assert adaptive.guaranteed_steps == 3 and Schedule(6).guaranteed_steps == 6
    assert adaptive.due(1, None)
    assert not adaptive.due(3, 1, [0.5, 0.4])  # fewer than least
    assert not adaptive.due(8, 1, rising)
    assert adaptive.due(9, 1, [*rising, 0.8])  # as many as most
    assert adaptive.due(6, 1, [0.1, 0.5, 0.6, 0.5, 0.5])  # means 0.3 0.55 0.55 0.5: no new best for two
    assert not adaptive.due(5, 1, [0.1, 0.5, 0.6, 0.5])
