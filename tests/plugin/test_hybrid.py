"""Prompts that evolve beside the slow steps: what is asked for when, and that nothing is lost on the way."""

import json
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from cycles import fast_weights, hybrid_weights, train
from rule_world import SEED, World, make_problems, rule_of

from fst_plugin import Evolution, Population, Prompt
from fst_plugin.analysis.export import anchors_of_run
from fst_plugin.config import ConfigError, parse
from fst_plugin.evolve.alongside import MOST_TIMES
from fst_plugin.evolving import Evolving, wanted
from fst_plugin.fast_weights import FastPhaseFailed
from fst_plugin.phase import FastPhases
from fst_plugin.policy import Policy
from fst_plugin.record.calls import CallsFile, read_calls
from fst_plugin.record.cycles import read_record
from fst_plugin.record.problems import text_of
from fst_plugin.rollouts import Cell, Rollout

T, BATCH = 4, 16
FAST = {"budget": 120, "records": 2}
SAID = {"data_key": "data.train_files", "start_over": "trainer.resume_mode=disable"}


def problems_of(steps):
    return make_problems(BATCH * steps, seed=3)


def started(folder, policy=None, **fast):
    return hybrid_weights(folder, policy, slow_steps=T, fast={**FAST, **fast})


def test_the_first_cycle_waits_for_its_prompts_and_later_ones_find_them_evolved(tmp_path):
    weights, lines = started(tmp_path)
    world, values = World(reliability=0.9), []
    beside = train(
        weights,
        world,
        problems_of(13),
        range(1, 14),
        after=lambda _: values.append(world.value(weights.population.best)),
    )
    asked = [len(cells) for cells in beside]
    assert [bool(n) for n in asked[: T - 1]] == [False, True, True], "scores, then tests"
    assert any(asked[T - 1 :: T]), "in some cycle's last step two prompts were compared"
    assert values[0] < values[-1]
    assert weights.state.cycle == 3
    assert world.rollouts <= FAST["budget"], "only the first phase waited for rollouts of its own"
    assert weights.state.counters.rollouts_fast == world.rollouts + sum(asked[: 3 * T])
    assert any("scored by the slow steps beside" in line for line in lines)


def test_what_goes_out_beside_a_step_is_of_its_problems_and_no_carried_prompt(tmp_path):
    weights, _ = started(tmp_path)
    problems, carried = problems_of(2 * T), {}
    beside = train(
        weights,
        World(reliability=0.9),
        problems,
        range(1, 2 * T + 1),
        after=lambda step: carried.update({step: {p.digest for p in weights.population.prompts}}),
    )
    assert any(beside)
    for step, cells in enumerate(beside, 1):
        ids = {p.id for p in problems[BATCH * (step - 1) : BATCH * step]}
        assert {cell.problem.id for cell in cells} <= ids
        assert not {cell.prompt.digest for cell in cells} & carried[step]


def test_a_router_knows_the_problems_that_came_after_the_last_prompts_evolved(tmp_path):
    weights, _ = started(tmp_path / "fst")
    problems = problems_of(2 * T)
    train(weights, World(reliability=0.9), problems, range(1, 2 * T + 1))
    weights.save(tmp_path / "global_step_8" / "fst", 2 * T, [])
    anchors, unknown = anchors_of_run(read_record(tmp_path))
    assert unknown == 0 and {text_of(p) for p in problems[BATCH * T :]} <= {anchor.text for anchor in anchors}


def test_of_rows_with_the_same_content_the_cycles_own_is_rolled_out(tmp_path):
    """Whichever of them a step trains on: a run that goes on from a checkpoint has only the cycle's."""
    weights, _ = started(tmp_path)
    problems, ask = problems_of(2 * T), weights.ask
    weights.ask = lambda step, now, *more: ask(step, [replace(problem) for problem in now], *more)
    cells = sum(train(weights, World(reliability=0.9), problems, range(1, T + 1)), [])
    assert cells and {id(cell.problem) for cell in cells} <= {id(problem) for problem in problems}


def test_the_last_comparison_meets_a_problem_as_often_as_the_budget_lasts(tmp_path):
    """A step has few problems; the carried prompt's side of each is several rollouts, too."""
    weights, _ = started(tmp_path, budget=400)
    beside = train(weights, World(reliability=0.9), problems_of(3 * T), range(1, 3 * T + 1))
    last = max((cells for cells in beside[T - 1 :: T]), key=len)
    (challenger,) = {cell.prompt.digest for cell in last}
    times = Counter(cell.problem.id for cell in last)
    assert len(times) == BATCH and set(times.values()) == {MOST_TIMES}


def test_figures_of_a_step_and_of_a_cycle_tell_what_ran_beside(tmp_path):
    weights, _ = started(tmp_path)
    problems, figures = problems_of(T + 1), {}
    train(
        weights,
        World(reliability=0.9),
        problems,
        range(1, T + 2),
        after=lambda step: figures.update({step: weights.metrics()}),
    )
    beside = sum(figures[step]["beside_rollouts"] for step in range(1, T + 1))
    spent = [figures[step]["rollouts_fast_total"] for step in range(1, T + 2)]
    assert spent == sorted(spent) and spent[T - 1] - spent[0] == beside > 0, "counted when they are spent"
    assert figures[2]["beside_rollouts"] > 0 and figures[2]["beside_failed"] == 0
    assert figures[T + 1]["beside"] == 1 and figures[T + 1]["rollouts_late"] == 0
    assert "beside" not in figures[1]


def test_a_run_killed_after_any_step_goes_on_to_the_same_prompts(tmp_path):
    problems, steps = problems_of(3 * T), range(1, 3 * T + 1)
    whole, _ = started(tmp_path / "whole")

    def keep(step):
        whole.save(tmp_path / f"checkpoint_{step}", step, [])
        found[step] = [p.digest for p in whole.population.prompts]

    found = {}
    train(whole, World(reliability=0.9), problems, steps, after=keep)
    assert len({tuple(one) for one in found.values()}) == 3
    for killed in steps[:-1]:
        folder = tmp_path / f"live_{killed}"
        lost, _ = started(folder)  # this life goes one step further than its last checkpoint
        train(lost, World(reliability=0.9), problems, range(1, killed + 2))
        lost._lock.release()
        weights, _ = started(folder)
        weights.restore(tmp_path / f"checkpoint_{killed}", killed, **SAID)
        for step in steps[killed:]:
            train(weights, World(reliability=0.9), problems, [step])
            assert [p.digest for p in weights.population.prompts] == found[step]
        assert weights.state.counters.rollouts_fast == whole.state.counters.rollouts_fast


def test_rollouts_that_take_two_steps_go_out_with_every_other_one(tmp_path):
    """As where verl rolls out ahead: one step for scores, two for a generation, two for the comparison."""
    weights, _ = hybrid_weights(tmp_path, slow_steps=6, fast=FAST)
    asked, turned = [], {}

    def after(step):
        figures = weights.metrics()
        turned.update({step: figures} if "beside" in figures else {})

    for first in range(1, 19, 6):
        asked += train(weights, World(reliability=0.9), problems_of(18), range(first, first + 6), every=2, after=after)
    sent = [step for step, cells in enumerate(asked, 1) if cells]
    assert {(step - 1) % 6 for step in sent} == {1, 3}, "the second and the fourth step of a cycle"
    assert sorted(turned) == [7, 13] and all(figures["rollouts_late"] == 0 for figures in turned.values())
    assert weights.state.counters.rollouts_fast == sum(map(len, asked[:12])) + 120


@pytest.mark.parametrize("killed", range(1, 12))
def test_a_run_killed_while_rollouts_are_under_way_sends_them_again(tmp_path, killed):
    problems, whole = problems_of(12), hybrid_weights(tmp_path / "whole", slow_steps=6, fast=FAST)[0]

    def save(step):
        if step == killed:
            whole.save(tmp_path / "checkpoint", step, [])

    train(whole, World(reliability=0.9), problems, range(1, 12), every=2, after=save)
    weights, _ = hybrid_weights(tmp_path / "live", slow_steps=6, fast=FAST)
    weights.restore(tmp_path / "checkpoint", killed, **SAID)
    train(weights, World(reliability=0.9), problems, range(killed + 1, 13), every=2)
    assert weights.state.cycle == 1 and len(weights.population) == len(whole.population)


def test_a_checkpoint_waits_until_what_was_told_is_on_record(tmp_path, monkeypatch):
    append = CallsFile.append
    monkeypatch.setattr(CallsFile, "append", lambda self, call: (time.sleep(0.1), append(self, call)))
    weights, _ = started(tmp_path)
    train(weights, World(reliability=0.9), problems_of(T), range(1, 3))
    weights.save(tmp_path / "checkpoint", 2, [])
    course = json.loads((tmp_path / "checkpoint" / "alongside.json").read_text())
    calls = [call.kind for call in read_calls(tmp_path / "checkpoint")]
    assert [wave["step"] for wave in course["waves"]] == [1, 2] and calls.count("evaluate") == 2


def test_a_resumed_run_pays_for_nothing_twice(tmp_path):
    problems = problems_of(2 * T)
    whole, _ = started(tmp_path / "whole")
    asked = train(
        whole,
        World(reliability=0.9),
        problems,
        range(1, 2 * T + 1),
        after=lambda step: whole.save(tmp_path / f"checkpoint_{step}", step, []),
    )
    weights, lines = started(tmp_path / "live")
    weights.restore(tmp_path / f"checkpoint_{T + 2}", T + 2, **SAID)
    again = train(weights, World(reliability=0.9), problems, range(T + 3, 2 * T + 1))
    assert again == asked[T + 2 :]


def test_another_task_makes_the_cycle_wait_and_voids_what_evolved_beside(tmp_path):
    weights, lines = started(tmp_path)
    problems = [replace(p, task="one" if i < BATCH * T else "two") for i, p in enumerate(problems_of(2 * T))]
    world = World(reliability=0.9)
    train(weights, world, problems, range(1, T + 1))
    beside = weights._hybrid._running.journal.rollouts
    before, counted = world.rollouts, weights.state.counters.rollouts_fast
    train(weights, world, problems, [T + 1])
    assert beside > 0 and world.rollouts > before
    assert weights.state.counters.rollouts_fast == counted + beside + world.rollouts - before
    assert any(f"another task: what evolved beside the last one is void ({beside} rollouts" in line for line in lines)
    assert "beside" not in weights.metrics()


@pytest.mark.parametrize("more", [0, 1])
def test_nothing_evolves_for_a_cycle_that_will_not_be(tmp_path, more):
    """One that would have less than half of its steps is none."""
    weights, _ = started(tmp_path)
    last = 2 * T + more
    asked = train(weights, World(reliability=0.9), problems_of(last), range(1, last + 1), last_step=last)
    assert any(asked[:T]) and not any(asked[T:]) and weights.state.cycle == 1


class Simple:
    """An optimizer of a user's own, in as many lines as it takes."""

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        best = population.best
        for number in range(6):
            tried = Prompt(f"{best.text}\n{rule_of(problems[number])}", (best.digest,))
            rollouts = evaluate([Cell(p, q) for p in (best, tried) for q in problems[:8]])
            if sum(r.score for r in rollouts[8:]) > sum(r.score for r in rollouts[:8]):
                best = tried
        return Evolution(Population((best,)), {"rollouts": 96, "anchor_best": 0})


def test_an_optimizer_that_knows_nothing_of_steps_is_finished_when_the_cycle_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("fst_plugin.phase.build_optimizer", lambda *_: Simple())
    weights, _ = started(tmp_path)
    world = World()
    asked = train(weights, world, problems_of(2 * T), range(1, T + 2))
    assert [len(cells) for cells in asked] == [16] * (T + 1)
    figures = weights.metrics()
    assert figures["beside"] == 1 and figures["rollouts_late"] == 32, "two of its six batches were left"
    assert world.value(weights.population.best) > world.value(Prompt(SEED))


def test_nothing_is_under_way_when_a_cycle_ends(tmp_path, monkeypatch):
    """Rollouts that take two steps do not go out with the last one."""
    monkeypatch.setattr("fst_plugin.phase.build_optimizer", lambda *_: Simple())
    weights, _ = hybrid_weights(tmp_path, slow_steps=5, fast=FAST)
    asked = train(weights, World(), problems_of(10), range(1, 11), every=2)
    assert [len(cells) for cells in asked] == [16, 0, 16, 0, 0] * 2
    assert weights.state.cycle == 1 and weights.state.counters.rollouts_fast > 0


def test_a_step_whose_problems_nobody_knows_takes_no_batch(tmp_path):
    """As where a stack trains on rollouts that were made under the prompts of before."""
    weights, _ = started(tmp_path)
    problems = problems_of(2 * T)
    train(weights, World(reliability=0.9), problems, [1])
    assert weights.ask(2, [], lambda: problems) == []
    weights.tell([])
    asked = train(weights, World(reliability=0.9), problems, [3, 4])
    assert asked[0], "it goes on as if that step had not been"


def test_a_checkpoint_within_a_step_lets_go_of_what_evolved_beside_it(tmp_path):
    """A stack that does a part of a step again would ask for its batch twice."""
    weights, _ = started(tmp_path / "one")
    problems = problems_of(2 * T)
    train(weights, World(reliability=0.9), problems, range(1, 4))
    weights.save(tmp_path / "checkpoint", 3, [])
    again, lines = started(tmp_path / "two")
    again.restore(tmp_path / "checkpoint", 3, **SAID)
    assert again.ask(3, problems[2 * BATCH : 3 * BATCH], lambda: problems[: T * BATCH]) == []
    assert any("let go of: its checkpoint lies within step 3" in line for line in lines)


def test_a_resumed_phase_knows_of_rewards_what_it_knew_when_it_began(tmp_path, monkeypatch):
    """From which reward on an answer is solved decides what a reflection is shown."""
    bars, phase = [], FastPhases.phase

    def recorded(self, population, inputs, journal, bar, beside=None):
        bars.append(bar)
        return phase(self, population, inputs, journal, bar, beside)

    monkeypatch.setattr(FastPhases, "phase", recorded)
    weights, _ = started(tmp_path / "one")
    problems = problems_of(2 * T)
    train(weights, World(reliability=0.9), problems, range(1, 3))
    weights._see([5.0])  # a reward that nobody had seen before
    weights.save(tmp_path / "checkpoint", 2, [])
    again, _ = started(tmp_path / "two")
    again.restore(tmp_path / "checkpoint", 2, **SAID)
    train(again, World(reliability=0.9), problems, [3])
    assert len(bars) == 3 and bars[1] == bars[2] != again.bar


def test_the_policy_reflects_only_while_it_is_asked(tmp_path):
    """Its engine sleeps while weights are updated, and only the trainer's own thread may use it."""
    calls = []

    def generate(chats):
        calls.append((threading.current_thread() is threading.main_thread(), asking))
        rule = rule_of(make_problems(50, seed=len(calls))[0])
        return [f"<prompt>{SEED}\n{rule}</prompt>" for _ in chats]

    policy = Policy(400, lambda text: len(text.split()), generate=generate)
    weights, _ = hybrid_weights(tmp_path, policy, slow_steps=T, fast=FAST, reflection={"kind": "policy"})
    asking, ask = False, weights.ask

    def watched(*args):
        nonlocal asking
        asking = True
        found = ask(*args)
        asking = False
        return found

    weights.ask = watched
    asked = train(weights, World(reliability=0.9), problems_of(T), range(1, T + 1))
    beside = [call for call in calls if call[1]]
    assert beside and all(main for main, _ in calls) and any(asked)


def test_a_phase_that_fails_beside_the_steps_says_so_at_once_and_stops_the_run_at_the_border(tmp_path):
    class Broken(Simple):
        def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
            if cycle:
                raise RuntimeError("no idea")
            return super().evolve(population, problems, evaluate, cycle=cycle, seed=seed)

    for most in (0, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fst_plugin.phase.build_optimizer", lambda *_: Broken())
            weights, lines = started(tmp_path / str(most), max_failed_phases=most)
            problems = problems_of(T + 1)
            train(weights, World(), problems, range(1, T + 1))
            assert sum("its phase, beside the steps, failed: RuntimeError: no idea" in line for line in lines) == 1
            if most:
                train(weights, World(), problems, [T + 1])
                assert weights.state.cycle == 1 and weights.metrics()["phase_failed"] == 1
            else:
                with pytest.raises(FastPhaseFailed, match="no idea"):
                    train(weights, World(), problems, [T + 1])


def test_rollouts_that_were_cut_off_are_no_scores(tmp_path):
    weights, _ = started(tmp_path)
    problems, failed = problems_of(T), []
    tell = weights.tell
    weights.tell = lambda rollouts: tell([Rollout(1.0, error="cut off") for _ in rollouts])
    train(
        weights,
        World(reliability=0.9),
        problems,
        range(1, 3),
        after=lambda _: failed.append(weights.metrics().get("beside_failed")),
    )
    assert failed[1] > 0
    weights.tell = tell
    with pytest.raises(FastPhaseFailed, match="rollouts of a batch failed.*cut off"):
        train(weights, World(), problems_of(T + 1), range(3, T + 2))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"slow_steps": 2}, "fst.slow_steps"),
        ({"schedule": {"kind": "adaptive"}}, "fst.schedule.kind"),
        ({"fast": {"parents": "frontier"}}, "fst.fast.parents"),
        ({"fast": {"free_scores": False}}, "fst.fast.free_scores"),
    ],
)
def test_what_cannot_run_beside_slow_steps_is_refused_by_its_key(config, key):
    whole = {"reflection": {"kind": "offline"}, **config, "fast": {"when": "hybrid", **config.get("fast", {})}}
    with pytest.raises(ConfigError, match=f"{key}: .*fst.fast.when|{key}: .*when=before"):
        parse(whole)
    parse({**whole, "fast": {**whole["fast"], "when": "before"}})


def test_before_asks_for_nothing(tmp_path):
    weights, _ = fast_weights(tmp_path, slow_steps=T)
    assert not any(train(weights, World(), problems_of(T), range(1, T + 1)))


def test_ask_and_tell_drive_any_optimizer_from_outside():
    population, world, problems = Population((Prompt(SEED),)), World(), make_problems(20)
    phase = Evolving(lambda evaluate: Simple().evolve(population, problems, evaluate, cycle=0, seed=0))
    batches = 0
    while (cells := phase.ask()) is not None:
        with pytest.raises(RuntimeError, match="tell comes before"):
            phase.ask()
        phase.tell(world(cells))
        batches += 1
    blocking = Simple().evolve(population, problems, World(), cycle=0, seed=0)
    assert batches == 6 and phase.finish(world).population == blocking.population


def test_a_phase_that_is_not_wanted_any_more_ends_at_its_next_call():
    ended = []

    def evolve(evaluate):
        try:
            evaluate([])
        finally:
            ended.append(threading.current_thread())

    phase = Evolving(evolve)
    phase.ask()
    phase.stop()
    assert ended and not ended[0].is_alive() and phase.ask() is None


def test_a_service_that_fails_fails_within_the_phase():
    def evolve(evaluate):
        with pytest.raises(ValueError, match="asleep"):
            wanted("generate", lambda chats: chats)(["hello"])
        return Evolution(Population((Prompt(SEED),)))

    def asleep(chats):
        raise ValueError("asleep")

    phase = Evolving(evolve)
    assert phase.finish(lambda cells: [], generate=asleep).population.best.text == SEED
    assert wanted("generate", lambda chats: chats)(["hello"]) == ["hello"], "outside of a phase it is the call itself"
