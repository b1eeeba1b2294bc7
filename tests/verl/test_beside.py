"""Rollouts beside a slow step: what is sent when, what is cut off, and what verl's servers are told."""

from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from fake_queue import FakeQueue  # noqa: E402
from fst_verl import transfer  # noqa: E402
from fst_verl.beside import Beside  # noqa: E402

from fst_plugin import Prompt  # noqa: E402
from fst_plugin.rollouts import Cell, Problem, Rollout  # noqa: E402

PROBLEMS = [Problem(f"p{i}", ({"role": "user", "content": str(i)},)) for i in range(12)]
B = 4


class Rollouts:
    """As much of FastRollouts as is used. opened: how often."""

    def __init__(self):
        self.row_of, self.opened = {}, 0

    def open(self, chunks):
        self.opened += 1
        self.row_of = {problem.id: 0 for problem in PROBLEMS}

    def rows(self, cells):
        return "batch", [{} for _ in cells]

    def results(self, cells, uids, done, *, unless):
        brought = {key.partition("_")[0] for key in done.keys}
        transfer.clear(done)
        return [Rollout(1.0) if uid in brought else Rollout(0.0, error=unless) for uid in uids]


class FastWeights:
    """Asks for three cells beside every step. asked: (step, ids of its problems)."""

    def __init__(self):
        self.state, self.asked = SimpleNamespace(cycle=0), []

    def ask(self, step, problems, cycle, last_step, every):
        self.asked.append((step, [problem.id for problem in problems]))
        self.every = every
        self.known = cycle()
        return [Cell(Prompt("better"), problem) for problem in problems[:3]]


@pytest.fixture
def made(monkeypatch):
    """(Beside, trainer, FastWeights, queue), and a clock that only sleeping moves."""
    queue, now = FakeQueue(monkeypatch), [0.0]
    monkeypatch.setattr(transfer.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    calls = []
    servers = SimpleNamespace(
        abort_replicas=lambda: calls.append(("abort",)),
        resume_generation_replicas=lambda: calls.append(("resume",)),
    )
    trainer = SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(train_batch_size=B)),
        trainer_mode="sync",
        global_steps=1,
        total_training_steps=9,
        local_trigger_step=0,
        parameter_sync_step=1,
        checkpoint_manager=servers,
        agent_loop_manager=SimpleNamespace(),
        calls=calls,
        now=now,
    )
    ahead = SimpleNamespace(recent=lambda: PROBLEMS[:8], pending=lambda: PROBLEMS[8:], chunks=lambda: [])

    def send(trainer, batch, loop, columns, group):
        uids = [f"fst-{trainer.global_steps}-{i}" for i in range(len(columns))]
        queue.kv_batch_put(uids, "val", tags=[{"status": "pending"} for _ in uids])
        return uids

    monkeypatch.setattr(transfer, "send", send)
    return Beside(trainer, Rollouts(), ahead, grace=0.5), trainer, FastWeights(), queue


def end(queue, *uids):
    for uid in uids:
        queue.kv_batch_put([uid], "val", tags=[{"status": "finished"}])
        queue.kv_batch_put([f"{uid}_0_0"], "val", tags=[{"status": "success"}])


def end_late(trainer, queue):
    """What was sent beside the first step ends at second 30; the fixture's patch of the clock is undone by itself."""

    def sleep(seconds):
        trainer.now[0] += seconds
        if trainer.now[0] > 30:
            end(queue, *(f"fst-1-{i}" for i in range(3)))

    transfer.time.sleep = sleep


def sent(beside, step, cycle=0):
    beside.note([problem.id for problem in PROBLEMS[B * (step - 1) : B * step]], cycle)


def test_what_is_done_in_time_counts_and_leaves_the_queue(made):
    beside, trainer, fst, queue = made
    sent(beside, 1)
    beside.send(fst)
    end(queue, *(f"fst-1-{i}" for i in range(3)))
    beside.gather()
    assert [rollout.error for rollout in beside.done()] == [None] * 3 and beside.done() == []
    assert beside.cut == 0 and not queue.tags["val"] and trainer.calls == []
    assert fst.asked == [(1, ["p0", "p1", "p2", "p3"])] and fst.known == PROBLEMS
    sent(beside, 2)
    beside.send(fst)
    assert beside.rollouts.opened == 1, "the rows of a cycle are put together once"


def test_what_is_late_is_cut_off_after_its_share_of_the_steps_own_time(made):
    beside, trainer, fst, queue = made
    sent(beside, 1)
    beside.send(fst)
    trainer.now[0] += 10  # the step's own rollouts
    end(queue, "fst-1-1")
    beside.gather()
    first, second, third = beside.done()
    assert second.error is None and "fst.fast.grace" in first.error and first.error == third.error
    assert beside.cut == 2 and beside.seconds == pytest.approx(5.0)
    assert trainer.calls == [("abort",)], "servers that sleep now may not be asked any more"
    beside.reopen()
    beside.reopen()
    assert trainer.calls == [("abort",), ("resume",)]
    end(queue, "fst-1-0")
    trainer.global_steps = 2
    sent(beside, 2)
    beside.send(fst)  # what has ended since is of no use, and goes
    assert set(queue.tags["val"]) == {"fst-1-2", *(f"fst-2-{i}" for i in range(3))}


def ahead(trainer):
    trainer.trainer_mode = "colocate_async"


def test_where_verl_rolls_out_ahead_rollouts_have_the_next_step_too(made):
    """Its own are done when the step begins, and theirs were just sent."""
    beside, trainer, fst, queue = made
    ahead(trainer)
    sent(beside, 1)
    beside.send(fst)
    beside.gather()
    assert beside.done() is None and beside.cut == 0 and fst.every == 2
    trainer.global_steps, trainer.now[0] = 2, 10.0
    sent(beside, 2)
    beside.send(fst)
    end(queue, "fst-1-0", "fst-1-1")
    beside.gather()
    assert [bool(rollout.error) for rollout in beside.done()] == [False, False, True]
    assert beside.seconds == pytest.approx(5.0) and trainer.calls == [] and len(fst.asked) == 1
    trainer.global_steps = 3
    sent(beside, 3)
    beside.send(fst)
    assert [step for step, _ in fst.asked] == [1, 3]


def test_before_a_validation_what_is_under_way_is_waited_for_and_kept(made):
    """Else verl would take it for its own."""
    beside, trainer, fst, queue = made
    ahead(trainer)
    sent(beside, 1)
    beside.send(fst)
    beside.gather()
    end_late(trainer, queue)
    beside.clear()
    assert trainer.now[0] > 30 and not queue.tags["val"]
    trainer.global_steps = 2
    beside.send(fst)
    beside.gather()
    assert [rollout.error for rollout in beside.done()] == [None] * 3 and beside.cut == 0


def test_what_was_cut_off_is_out_of_the_way_before_a_validation(made):
    beside, trainer, fst, queue = made
    sent(beside, 1)
    beside.send(fst)
    trainer.now[0] += 10
    beside.gather()
    assert beside.cut == 3 and len(beside.done()) == 3
    end_late(trainer, queue)
    beside.clear()
    assert trainer.now[0] > 30 and not queue.tags["val"]


def test_the_time_that_reflection_takes_is_a_part_of_the_steps_own(made):
    beside, trainer, fst, queue = made
    ask = fst.ask

    def slow(*given):
        trainer.now[0] += 20
        return ask(*given)

    fst.ask = slow
    sent(beside, 1)
    beside.send(fst)
    beside.gather()
    assert beside.seconds == pytest.approx(10.0), "its own rollouts have run for 20 s by then"


def test_where_verl_rolls_out_ahead_a_step_is_asked_about_what_was_sent_before(made):
    beside, trainer, fst, _ = made
    ahead(trainer)
    sent(beside, 1, cycle=-1)  # ahead of the first step, under the prompts of before
    for step in (1, 2):
        trainer.global_steps = step
        sent(beside, step + 1)
        beside.send(fst)
        beside._cells = []
    assert fst.asked == [(1, []), (2, ["p4", "p5", "p6", "p7"])], "others' rollouts tell nothing of the new prompts"


def test_a_step_of_which_most_rollouts_are_of_other_prompts_tells_nothing(made):
    beside, trainer, fst, _ = made
    beside.note(["p0", "p1", "p2"], -1)
    beside.note(["p3"], 0)
    beside.send(fst)
    trainer.global_steps = 2
    beside._cells = []
    beside.note(["p4"], -1)
    beside.note(["p5", "p6", "p7"], 0)
    beside.send(fst)
    assert fst.asked == [(1, []), (2, ["p5", "p6", "p7"])]


def test_problems_that_verl_sends_in_place_of_others_are_of_the_step_that_wanted_them(made):
    beside, trainer, fst, _ = made
    sent(beside, 1)
    beside.send(fst)
    beside.note(["p6", "p7"], 0)  # in the midst of a step, for groups that were filtered out
    beside.gather()
    beside.done()
    trainer.global_steps = 2
    beside.note(["p4", "p5"], 0)
    beside.send(fst)
    assert fst.asked[1] == (2, ["p4", "p5"])


def test_a_step_in_parts_sends_with_the_first_and_gathers_with_the_last(made):
    beside, trainer, fst, queue = made
    trainer.parameter_sync_step = 2
    sent(beside, 1)
    beside.send(fst)
    end(queue, *(f"fst-1-{i}" for i in range(3)))
    beside.gather()
    assert set(queue.tags["val"]), "not yet"
    trainer.local_trigger_step = 1
    beside.send(fst)
    beside.gather()
    assert len(fst.asked) == 1 and len(beside.done()) == 3 and not queue.tags["val"]
