"""Prompts that a run lets go of are kept with the problems that they held, within bounds."""

import json
from dataclasses import replace

import pytest
from cycles import fast_weights, slow_phase
from rule_world import World, make_problems

from fst_plugin import Evolution, Population, Prompt, Score
from fst_plugin.analysis.prompts import archive_table
from fst_plugin.record import sealed
from fst_plugin.record import state as durable
from fst_plugin.record.archive import MOST_PROBLEMS, Archive, Archived, known_scores
from fst_plugin.record.slow_scores import SlowScores
from fst_plugin.rollouts import Problem, Rollout


def scores(**means):
    return {problem: Score(mean) for problem, mean in means.items()}


def prompt(text, **means):
    return Prompt(text, scores=scores(**means))


def let_go(old, new, archive=None, cycle=1, most=16):
    old, new = Population(tuple(old)), Population(tuple(new))
    archive = archive or Archive()
    return archive.after(old, new, known_scores(old, SlowScores()), cycle=cycle, floor=0.0, most=most)


def held(archive):
    return {entry.prompt.text: {p: s.mean for p, s in entry.prompt.scores.items()} for entry in archive.entries}


def test_a_lead_that_lost_the_lead_is_kept_with_the_problems_on_which_no_other_is_better():
    old = [prompt("lead", a=1.0, b=0.5, c=0.0, d=0.5), prompt("second", b=0.5, d=1.0)]
    assert held(let_go(old, [prompt("new", a=0.5)])) == {"lead": {"a": 1.0, "b": 0.5}, "second": {"d": 1.0}}


def test_a_dropped_prompt_is_only_kept_if_it_held_a_problem_alone():
    old = [prompt("lead", a=1.0), prompt("copy", a=1.0), prompt("useless", a=0.0, b=0.0), prompt("alone", c=0.5)]
    assert held(let_go(old, [old[0]])) == {"alone": {"c": 0.5}}


def test_a_lead_that_is_still_carried_is_kept_and_not_handed_out():
    old = [prompt("lead", a=1.0), prompt("second", b=1.0)]
    archive = let_go(old, old[::-1])
    assert held(archive) == {"lead": {"a": 1.0}}
    assert archive.candidates(Population(tuple(old)), []) == ()
    assert [p.text for p in archive.candidates(Population((old[1],)), [])] == ["lead"]


def test_a_prompt_that_was_in_the_archive_keeps_what_it_held_before():
    first = let_go([prompt("back", a=1.0)], [prompt("new")], cycle=1)
    again = let_go([prompt("back", b=0.5)], [prompt("new")], first, cycle=5)
    assert held(again) == {"back": {"a": 1.0, "b": 0.5}} and again.entries[0].retired == 5


def test_the_slow_phases_scores_count_more_than_those_of_the_last_fast_phase():
    old, slow = Population((prompt("lead", a=1.0, b=1.0),)), SlowScores()
    slow.add(1, "w", [("a", old.best.digest, Rollout(0.0)), ("c", old.best.digest, Rollout(0.5))] * 2)
    assert known_scores(old, slow)[old.best.digest] == {"a": Score(0.0, 2), "b": Score(1.0), "c": Score(0.5, 2)}


def test_problems_and_prompts_are_bounded():
    many = Prompt("lead", scores={f"{i:03}": Score(1.0 if i % 2 else 0.5) for i in range(3 * MOST_PROBLEMS)})
    kept = let_go([many], [prompt("new")]).entries[0].prompt.scores
    assert len(kept) == MOST_PROBLEMS and {s.mean for s in kept.values()} == {1.0}
    archive = Archive()
    for cycle in range(40):
        archive = let_go([prompt(f"lead {cycle}", a=1.0)], [prompt("new")], archive, cycle, most=5)
    assert len(archive) == 5
    assert len(let_go([prompt("x", a=1.0)], [prompt("new")], archive, most=0)) == 0


def test_every_part_of_a_long_run_stays():
    archive = Archive()
    for cycle in range(64):
        archive = let_go([prompt(f"lead {cycle}", a=1.0)], [prompt("new")], archive, cycle, most=8)
    retired = [entry.retired for entry in archive.entries]
    assert retired[0] == 0 and retired[-1] == 63
    assert max(later - earlier for earlier, later in zip(retired, retired[1:], strict=False)) <= 16


def test_of_two_that_retired_together_the_one_that_held_more_stays():
    old = [prompt("few", a=1.0), prompt("many", b=1.0, c=1.0)]
    assert list(held(let_go(old, [prompt("new")], most=1))) == ["many"]


def test_those_that_held_the_coming_problems_come_first():
    found = [Archived(prompt("most", a=1.0, b=1.0, c=1.0), 3), Archived(prompt("coming", d=1.0), 1)]
    archive = Archive((*found, Archived(prompt("late", e=1.0), 7)))
    now, coming = Population((prompt("now"),)), [Problem("d", ()), Problem("x", ())]
    assert [p.text for p in archive.candidates(now, coming)] == ["coming", "most", "late"]
    assert [p.text for p in archive.candidates(now, [])] == ["most", "late", "coming"]


def test_those_of_a_coming_task_come_before_those_that_held_more():
    now, old = Population((prompt("now"),)), [prompt("of its task", a=1.0)]
    archive = let_go(old, [prompt("new")], Archive((Archived(prompt("held more", a=1.0, b=1.0), 0, ("other",)),)))
    assert [p.text for p in archive.candidates(now, [])] == ["held more", "of its task"]
    archive = Archive((archive.entries[0], replace(archive.entries[1], tasks=("one", "two"))))
    coming = [Problem("x", (), task="two"), Problem("b", (), task="three")]
    assert [p.text for p in archive.candidates(now, coming)] == ["of its task", "held more"]


def test_an_archived_prompt_knows_the_tasks_of_the_cycle_before_as_far_as_the_data_names_them(tmp_path):
    weights, _ = fast_weights(tmp_path, fast={"path": f"{__name__}.Forgets"})
    stages = [[replace(p, task=task) for p in make_problems(6)] for task in ("one", "two", "")]
    weights.evolve(1, "w0", stages[0], World())
    for cycle, (coming, last) in enumerate(zip([*stages[1:], stages[0]], stages, strict=True), 1):
        weights.evolve(1 + 3 * cycle, f"w{cycle}", coming, World(), last)
    assert [entry.tasks for entry in weights.state.archive.entries] == [(), ("one",), ("two",), ()]


class Alternates:
    """A user's optimizer that takes archived prompts: a new lead each time; in its last cycle, an archived one."""

    seen = []

    def __init__(self, last):
        self.last = last

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=(), archived=()):
        Alternates.seen.append([p.text for p in archived])
        lead = archived[0] if cycle == self.last else Prompt(f"Prompt of cycle {cycle}.", origin="reflection")
        return Evolution(Population((lead,)))


class Forgets:
    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        return Evolution(Population((Prompt(f"Prompt of cycle {cycle}."),)))


def cycles(weights, numbers, problems):
    found = []
    for cycle in numbers:
        found.append(weights.evolve(1 + 3 * cycle, f"w{3 * cycle}", problems, World()))
        slow_phase(weights, World(luck=1.0), problems, [2 + 3 * cycle])
    return found


@pytest.fixture
def seen():
    Alternates.seen.clear()
    return Alternates.seen


def test_archived_prompts_reach_an_optimizer_that_takes_them_and_come_back(tmp_path, seen):
    weights, lines = fast_weights(tmp_path, fast={"path": f"{__name__}.Alternates", "kwargs": {"last": 3}})
    figures = cycles(weights, range(4), make_problems(6))
    assert [len(one) for one in seen] == [0, 1, 2, 3]
    assert seen[3][0] == "Prompt of cycle 1."  # both held all six problems: the one retired last
    assert weights.population.best.text == "Prompt of cycle 1."
    assert [one["archived_revived"] for one in figures] == [0, 0, 0, 1]
    assert [one["archived_offered"] for one in figures] == [0, 1, 2, 3]
    assert weights.metrics()["archived"] == 4 and not [line for line in lines if "archived" in line]


def test_an_optimizer_that_does_not_take_them_is_named_once(tmp_path):
    weights, lines = fast_weights(tmp_path, fast={"path": f"{__name__}.Forgets"})
    figures = cycles(weights, range(4), make_problems(6))
    said = [line for line in lines if "Forgets.evolve has no parameter `archived`" in line]
    assert len(said) == 1 and "fst.fast.archive=0" in said[0]
    assert {one["archived_offered"] for one in figures} == {0} and len(weights.state.archive) == 4


def test_without_an_archive_nothing_is_kept_handed_out_or_said(tmp_path, seen):
    fast = {"path": f"{__name__}.Alternates", "kwargs": {"last": 9}, "archive": 0}
    weights, lines = fast_weights(tmp_path, fast=fast)
    cycles(weights, range(3), make_problems(6))
    assert seen == [[], [], []] and weights.metrics()["archived"] == 0
    assert not [line for line in lines if "archive" in line]


def test_a_resumed_run_has_its_archive_and_a_killed_phase_its_record(tmp_path, seen):
    problems, fast = make_problems(6), {"path": f"{__name__}.Alternates", "kwargs": {"last": 2}}
    weights, _ = fast_weights(tmp_path / "fst", fast=fast)
    cycles(weights, range(2), problems)
    weights.save(tmp_path / "global_step_5" / "fst", 5, [])
    kept = weights.state.archive
    cycles(weights, [2], problems)

    again, lines = fast_weights(tmp_path / "fst", fast=fast)
    again.restore(tmp_path / "global_step_5" / "fst", 5, data_key="data", start_over="-")
    assert again.state.archive == kept and len(kept) == 2
    again._loaded = (5, "w6")  # the same weights by the name that `cycles` gives them
    figures = cycles(again, [2], problems)
    assert len(seen) == 3 and any("taken over" in line for line in lines)  # the finished phase is not run again
    assert figures[0]["archived_revived"] == 1
    assert again.state.archive == weights.state.archive


def test_a_phase_with_another_archive_is_another_phase(tmp_path, seen):
    problems, fast = make_problems(6), {"path": f"{__name__}.Alternates", "kwargs": {"last": 9}}
    weights, _ = fast_weights(tmp_path, fast=fast)
    cycles(weights, [0], problems)
    before = weights.state
    cycles(weights, [1], problems)
    again, lines = fast_weights(tmp_path, fast=fast)
    again.state = durable.replace(before, archive=Archive((Archived(prompt("Another."), 0),)))
    again.evolve(4, "w3", problems, World())
    assert any("discarding cycle_0001" in line and "archived was" in line for line in lines)


def state_with_archive(text="let go"):
    archive = Archive((Archived(Prompt(text, ("d",), "reflection", 2, scores(a=0.5)), 4),))
    return durable.State(Population((Prompt("now"),)), "s", "d", "w", cycle=5, archive=archive)


def test_an_archive_outlives_the_process(tmp_path):
    durable.save(state_with_archive(), tmp_path)
    found = durable.load(tmp_path).archive
    assert found == state_with_archive().archive and found.entries[0].prompt.scores == scores(a=0.5)


def test_a_state_of_a_version_without_an_archive_is_read(tmp_path):
    durable.save(state_with_archive(), tmp_path)
    body = json.loads((tmp_path / "state.json").read_text())
    old = {name: value for name, value in body.items() if name not in ("archive", "format", "digest")}
    sealed.write(tmp_path / "state.json", old)
    assert durable.load(tmp_path).archive == Archive()


def test_an_edited_archive_is_refused_by_name(tmp_path):
    durable.save(state_with_archive(), tmp_path)
    path = tmp_path / "state.json"
    path.write_text(path.read_text().replace("let go", "edited"))
    with pytest.raises(sealed.UnusableFile, match="state.json is damaged or edited"):
        durable.load(tmp_path)


def test_the_table_shows_what_each_held_and_no_text_acts_on_a_terminal(capsys):
    from rich.console import Console

    found = archive_table(
        state_with_archive("first line\n\x1b[31mred\x1b]0;title\x07[bold]last[/bold]").archive.entries
    )
    Console(width=160).print(found)
    shown = capsys.readouterr().out
    assert "\\x1b[31mred\\x1b]0;title\\x07[bold]last[/bold]" in shown and "\x1b[31m" not in shown
    assert "0.500 on 1" in shown and "reflection" in shown
