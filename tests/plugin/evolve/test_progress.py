"""What people see of a fast phase."""

import io

import pytest
from rich.console import Console
from rule_world import World, gepa, make_problems, seed_population

from fst_plugin.evolve.progress import LiveLine
from fst_plugin.reflection import OfflineReflection


def run(status):
    optimizer = gepa(OfflineReflection(), k=4, budget=240, status=status)
    return optimizer.evolve(seed_population(), make_problems(48), World(), cycle=3, seed=0)


def test_every_round_is_told_and_the_figures_add_up():
    told = []
    evolution = run(told.append)
    assert len(told) > 2 and told[-1].stage == "done" and "comparing" in {s.stage for s in told}
    assert [s.spent for s in told] == sorted(s.spent for s in told) and told[-1].spent == evolution.metrics["rollouts"]
    last = told[-1]
    assert last.accepted == evolution.metrics["proposals_accepted"]
    assert last.candidates - last.accepted == evolution.metrics["proposals_rejected"]
    assert last.best == evolution.metrics["anchor_best"]


def test_plain_lines_where_there_is_no_terminal():
    lines = []
    run(LiveLine(lines.append, Console(file=io.StringIO())))
    assert any("/240 rollouts" in line and "cycle 3" in line and "best" in line for line in lines)


def test_one_live_line_on_a_terminal():
    lines, out = [], io.StringIO()
    run(LiveLine(lines.append, Console(file=out, force_terminal=True, width=200)))
    assert lines == [] and "/240 rollouts" in out.getvalue() and "done" in out.getvalue()


def test_a_phase_that_fails_leaves_the_terminal_alone():
    live = LiveLine(lambda line: None, Console(file=io.StringIO(), force_terminal=True))
    world = World()

    def dying(cells):
        if world.batches:
            raise ConnectionError("gone")
        return world(cells)

    optimizer = gepa(OfflineReflection(), k=4, budget=240, status=live)
    with pytest.raises(ConnectionError):
        optimizer.evolve(seed_population(), make_problems(48), dying, cycle=0, seed=0)
    assert live._live is None
