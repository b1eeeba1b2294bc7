"""Several processes of one run, here threads: the first leads, the others follow, and all fail together."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fst_plugin.processes import Processes, ProcessFailed

WAIT_S = 20


class Meeting:
    """Collective operations of `count` threads; one that waits too long raises threading.BrokenBarrierError."""

    def __init__(self, count):
        self.count, self.barrier, self.slots = count, threading.Barrier(count, timeout=WAIT_S), [None] * count

    def _all(self, number, given):
        self.slots[number] = given
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found

    def process(self, number, **calls):
        def broadcast(one):
            return self._all(number, one)[0]

        def gather(some):
            return [one for part in self._all(number, some) for one in part]

        return Processes(number, self.count, broadcast, gather, calls)


def on_each(count, work, calls=lambda number: {}):
    """What `work(processes)` returned or raised on each of `count` processes."""
    meeting = Meeting(count)
    with ThreadPoolExecutor(count) as pool:
        started = [pool.submit(work, meeting.process(n, **calls(n))) for n in range(count)]
        return [one.exception() or one.result() for one in started]


def test_every_process_gets_what_the_first_one_found():
    assert on_each(3, lambda processes: processes.lead(lambda: f"from {processes.number}")) == ["from 0"] * 3


def test_a_call_of_the_leader_runs_on_every_process():
    ran = []
    calls = lambda number: {"square": lambda given: ran.append(number) or given**2}  # noqa: E731
    found = on_each(3, lambda processes: processes.lead(lambda: processes.everywhere("square", 4)), calls)
    assert found == [16] * 3 and sorted(ran) == [0, 1, 2]


def test_results_of_all_processes_come_in_the_order_of_the_processes():
    assert on_each(3, lambda processes: processes.together(lambda: [processes.number] * 2)) == [[0, 0, 1, 1, 2, 2]] * 3


@pytest.mark.parametrize(("items", "at_a_time", "runs"), [(7, 4, 2), (2, 9, 1), (0, 4, 0)])
def test_every_process_does_an_equal_share_of_the_items(items, at_a_time, runs):
    sizes = []

    def work(processes):
        def run(some):
            sizes.append(len(some))
            return processes.together(lambda: [10 * one for one in some])

        return processes.shared(list(range(items)), at_a_time, run)

    assert on_each(3, work) == [[10 * i for i in range(items)]] * 3
    assert len(sizes) == 3 * runs and set(sizes) <= {1, 2, 3} and len({*sizes[:3]}) <= 1


def test_what_fails_on_one_process_fails_on_all_with_its_number_and_error():
    def work(processes):
        def run():
            if processes.number == 1:
                raise OSError("the grader is away")
            return [1]

        return processes.together(run)

    found = on_each(3, work)
    assert [type(one) for one in found] == [ProcessFailed] * 3
    assert {str(one) for one in found} == {"process 1: OSError: the grader is away"}
    assert isinstance(found[1].__cause__, OSError)


def test_one_process_alone_raises_its_own_error():
    (found,) = on_each(1, lambda processes: processes.together(lambda: [][0]))
    assert isinstance(found, IndexError)


def test_a_leader_that_fails_ends_the_others_with_its_error():
    first, second = on_each(2, lambda processes: processes.lead(lambda: 1 // 0))
    assert isinstance(first, ZeroDivisionError)
    assert isinstance(second, ProcessFailed) and "process 0: ZeroDivisionError" in str(second)


def test_the_leader_may_go_on_after_a_call_that_failed_on_a_follower():
    def calls(number):
        def fail(processes):
            return processes.together(lambda: [][0] if number == 1 else [number])

        return {"fail": lambda given: fail(made[number])}

    made = {}

    def work(processes):
        made[processes.number] = processes

        def run():
            with pytest.raises(ProcessFailed, match="process 1: IndexError"):
                processes.everywhere("fail", None)
            return "goes on"

        return processes.lead(run)

    assert on_each(2, work, calls) == ["goes on"] * 2


def test_a_secret_in_an_error_reaches_no_other_process():
    def work(processes):
        def run():
            raise ValueError("Authorization: Bearer sk-abcdefghijklmnopqrstuvwx")

        return processes.lead(run)

    assert "abcdefghijkl" not in str(on_each(2, work)[1])
