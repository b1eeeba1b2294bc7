"""The coming batches are known ahead, and served in TRL's own order."""

import pytest


def sampler(seed=0, rows=10, groups=3, size=2, repeats=2):
    from trl.trainer.utils import RepeatSampler

    return RepeatSampler(range(rows), size, groups, repeats, shuffle=True, seed=seed)


def ahead(**more):
    from fst_trl.order import Ahead

    return Ahead(sampler(**more), groups=3, size=2, repeats=2)


def test_looking_ahead_changes_nothing_that_is_served():
    order, plain = ahead(), sampler()
    order.batch(7)
    assert [list(order) for _ in range(3)] == [list(plain) for _ in range(3)]


def test_a_batch_is_what_will_be_served():
    order = ahead()
    assert order.per_epoch == 3 and len(order) == 36
    served = [i for _ in range(2) for i in order]  # two epochs
    for number in range(6):
        begin = number * 3 * 2 * 2
        repeated = [i for i in order.batch(number) for _ in range(2)]
        assert served[begin : begin + 12] == repeated * 2


def test_a_run_resumed_in_a_later_epoch_is_served_that_epochs_order():
    whole, resumed = ahead(), ahead()
    epochs = [list(whole) for _ in range(3)]
    resumed.next_epoch, batch = resumed.reached(updates=8, accumulate=2)
    assert (resumed.next_epoch, batch) == (2, 8)
    assert list(resumed) == epochs[2] != epochs[0]


@pytest.mark.parametrize(
    ("updates", "accumulate", "where"),
    [(0, 1, (0, 0)), (1, 1, (0, 0)), (2, 1, (0, 1)), (6, 1, (1, 3)), (1, 4, (0, 2)), (2, 4, (1, 3)), (3, 4, (1, 5))],
)
def test_where_a_run_stands_follows_from_its_updates(updates, accumulate, where):
    """Three batches of two micro-batches an epoch; with four micro-batches an update, the epoch's second has two."""
    assert ahead().reached(updates, accumulate) == where
