"""The shipped search: small tests, and more of them for what does well."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from rule_world import (
    SEED,
    NothingBetter,
    Scripted,
    World,
    all_rules,
    gepa,
    make_problems,
    phase,
    rule_of,
    seed_population,
    slow_traces,
    variant,
)

from fst_plugin.evolve.evidence import Margin, weigh
from fst_plugin.evolve.search import Search
from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Rollout

# ------------------------------------------------------------------------------------------------- what is believed


def search_of(**gains):
    """A search from "seed" with these children and what each gained."""
    found = Search([Prompt("seed")], explore=False, seed=0)
    found.tell(Prompt("seed"), {"a": 0.0, "b": 0.0})
    for text, known in gains.items():
        found.add(Prompt(text), Prompt("seed"), ())
        found.tell(Prompt(text), {str(i): gain for i, gain in enumerate(known)})
    return found


def test_a_lucky_short_test_is_believed_less_than_a_long_good_one():
    found = search_of(lucky=[1.0, 1.0], steady=[0.6] * 40)
    assert [c.prompt.text for c in found.ranked()] == ["steady", "lucky", "seed"]
    assert found.contenders["lucky"].gain == pytest.approx(2 / 8)


def test_a_childs_belief_starts_at_its_parents():
    found = search_of(good=[0.5] * 60)
    found.add(Prompt("child"), Prompt("good"), ["p1"])
    assert found.contenders["child"].gain == pytest.approx(found.contenders["good"].gain)
    found.add(Prompt("grandchild"), Prompt("child"), ["p2"])
    assert found.contenders["grandchild"].shown == {"p1", "p2"}


def test_drawing_by_mean_takes_the_best_and_of_equals_the_newest():
    found = search_of(bad=[-1.0] * 9, one=[0.5] * 9, two=[0.5] * 9)
    assert {c.prompt.text for c in found.draw(found.contenders.values(), 5)} == {"two"}


def test_drawing_by_thompsons_rule_follows_the_chance_of_being_the_best():
    found = search_of(bad=[-1.0, -0.9] * 40, good=[0.5, 0.3] * 40, unsure=[0.2, 0.4, 0.3])
    found._explore = True
    drawn = Counter(c.prompt.text for _ in range(300) for c in found.draw(found.contenders.values(), 1))
    assert drawn["good"] > drawn["unsure"] > 0 == drawn["bad"]


# ------------------------------------------------------------------------------------------------------- the phase


def test_half_of_a_rounds_rollouts_test_earlier_children_again_on_problems_new_to_them():
    world = World(reliability=0.7, luck=0.1)
    phase(world, n=192, budget=480)
    made = {text: i for i, batch in reversed(list(enumerate(world.batches))) for text in {c.prompt.text for c in batch}}
    again = [sum(made[c.prompt.text] < i for c in batch) / len(batch) for i, batch in enumerate(world.batches)]
    assert max(again[2:4]) <= 0.6 and min(again[2:4]) > 0.3
    asked = Counter((cell.prompt.text, cell.problem.id) for batch in world.batches for cell in batch)
    assert set(asked.values()) == {1}


def test_a_child_is_tested_on_problems_that_no_reflection_on_its_way_has_read():
    world, offline = World(reliability=0.8), OfflineReflection()
    read = {}

    def answer(request):
        text = offline.propose([request])[0]
        shown = {problem.id for problem, _ in request.records}
        read.setdefault(text, shown | read.get(request.parent.text, set()))
        return text

    phase(world, Scripted(answer), n=192, budget=300)
    tests = [(cell.prompt.text, cell.problem.id) for batch in world.batches for cell in batch]
    assert read and not [1 for text, problem in tests if problem in read.get(text, ())]


def test_a_crossed_child_is_made_of_two_prompts_and_of_what_both_got_wrong():
    world, offline = World(reliability=0.8), OfflineReflection()
    reflection, read = Scripted(lambda request: answer(request)), {}

    def answer(request):
        text = offline.propose([request])[0]
        older = read.get(request.parent.text, set()) | read.get(request.mate.text if request.mate else "", set())
        read.setdefault(text, older | {problem.id for problem, _ in request.records})
        return text

    found = phase(world, reflection, n=192, budget=480, crossover=True)
    crossed = [request for request in reflection.requests if request.mate]
    assert len(crossed) > 8 and all(request.mate != request.parent for request in crossed)
    rolled = {(cell.prompt.text, cell.problem.id) for batch in world.batches for cell in batch}
    for request in crossed:
        ids = [problem.id for problem, _ in request.records]
        assert {(request.parent.text, one) for one in ids[::2]} <= rolled
        assert {(request.mate.text, one) for one in ids[1::2]} <= rolled
    made = {candidate.prompt.digest: candidate.prompt.parents for candidate in found.candidates}
    assert {2} < {len(parents) for parents in made.values()} <= {1, 2}
    tests = [(cell.prompt.text, cell.problem.id) for batch in world.batches for cell in batch]
    assert not [1 for text, problem in tests if problem in read.get(text, ())]


def test_without_crossover_no_reflection_sees_a_second_prompt():
    reflection = Scripted(lambda request: OfflineReflection().propose([request])[0])
    phase(World(reliability=0.8), reflection, n=192, budget=480)
    assert not [request for request in reflection.requests if request.mate]


@pytest.mark.parametrize("parents", ["thompson", "mean"])
def test_the_same_rollouts_find_more_than_gepas_rule(parents):
    def found(rule, seed):
        world = World(reliability=0.8, luck=0.05, seed=seed)
        return world.value(phase(world, n=192, budget=120, seed=seed, parents=rule).population.best)

    gains = [found(parents, seed) - found("frontier", seed) for seed in range(6)]
    assert sum(gains) / len(gains) > 0.05


def test_a_child_that_is_no_better_than_the_old_prompts_is_not_carried():
    def evaluate(cells):
        return [Rollout(float(c.problem.id < "8"), feedback="Wrong.") for c in cells]  # whatever the prompt says

    optimizer = gepa(Scripted(lambda r: f"Variant {r.seed} {r.slot}"), k=4, budget=240)
    evolution = optimizer.evolve(seed_population(), make_problems(48), evaluate, cycle=0, seed=0)
    assert 0.0 < evolution.metrics["anchor_seed"] < 1.0 and evolution.metrics["candidates"] > 1
    assert evolution.metrics["proposals_accepted"] == 0 < evolution.metrics["proposals_rejected"]
    assert [p.text for p in evolution.population.prompts] == [SEED]


def test_while_every_reward_is_0_the_children_are_carried_and_none_leads():
    world = World(luck=0.0)
    evolution = phase(world, Scripted(lambda r: f"Variant {r.seed} {r.slot}"))
    assert evolution.metrics["proposals_accepted"] > 0 == evolution.metrics["anchor_best"]
    assert len(evolution.population) == 4 and evolution.population.best.text == SEED and world.rollouts <= 240


def test_without_slow_scores_the_old_prompts_are_scored_verbatim_in_one_batch():
    odd = Prompt("  Outer spaces,\ttabs, and <|im_start|> stay as they are \n")
    population = Population((Prompt(SEED), odd))
    world = World()
    phase(world, population=population)
    first = world.batches[0]
    assert {cell.prompt.text for cell in first} == {SEED, odd.text}
    by_prompt = [{c.problem.id for c in first if c.prompt.text == text} for text in (SEED, odd.text)]
    assert by_prompt[0] == by_prompt[1] and len(first) == 2 * len(by_prompt[0])


@pytest.mark.parametrize(
    ("again", "new"),
    [
        ("You are a helpful assistant.\n\nB.\nA.", False),
        ("  you are a HELPFUL assistant.\nA.\nB.  ", False),
        ("You are a helpful assistant.\nA.\nC.", True),
    ],
)
def test_the_same_lines_in_another_order_case_or_spacing_cost_no_rollout(again, new):
    said = iter([f"{SEED}\nA.\nB.", *[again] * 50])
    world = World(luck=0.3)
    evolution = phase(world, Scripted(lambda r: next(said)), proposals=1)
    assert (again in {c.prompt.text for batch in world.batches for c in batch}) == new
    assert evolution.metrics["candidates"] == 2 + new and evolution.metrics["proposals_skipped"] >= 5


# -------------------------------------------------------------------------------------------------- nothing better


def ended(world, answer=variant, **settings):
    """How many rounds of reflection a phase had, and why its search ended."""
    lines, reflection = [], Scripted(answer)
    phase(world, reflection, log=lines.append, **settings)
    (why,) = [line.partition("search ended: ")[2] for line in lines if "search ended: " in line]
    return reflection.batches, why


NOTHING_NEW = "rounds in a row brought no usable prompt"


@pytest.mark.parametrize("proposals", [3, 8])
@pytest.mark.parametrize(("most", "rounds"), [(1, 1), (2, 2), (3, 3), (5, 3), (10, 3)])
def test_three_rounds_in_a_row_that_bring_nothing_new_end_the_search(most, rounds, proposals):
    found = ended(NothingBetter(), SEED, max_reflection_failures=most, proposals=proposals)
    assert found == (rounds, f"{rounds} {NOTHING_NEW}")


@pytest.mark.parametrize(("most", "rounds"), [(5, 5), (10, 8)])
def test_three_reflections_are_too_few_to_end_it(most, rounds):
    found = ended(NothingBetter(), SEED, max_reflection_failures=most, proposals=1)
    assert found == (rounds, f"{rounds} {NOTHING_NEW}")


def test_three_such_rounds_that_are_not_in_a_row_do_not():
    said = iter([variant, lambda r: SEED, lambda r: SEED] * 50)
    rounds, why = ended(NothingBetter(), lambda r: next(said)(r), proposals=1)
    assert rounds > 9 and "budget" in why


def test_while_every_reward_is_the_same_more_rounds_are_tried():
    assert ended(World(luck=0.0), SEED, proposals=3) == (5, f"5 {NOTHING_NEW}")


def test_an_archived_prompt_that_was_let_go_of_tells_nothing_apart():
    """All else has the same reward."""

    class Level(World):
        def roll(self, cell):
            return replace(super().roll(cell), score=0.0 if cell.prompt.text == "Archived." else 0.5)

    reflection = Scripted(SEED)
    found = gepa(reflection, budget=240, perfect_score=1.0, proposals=3).evolve(
        seed_population(), make_problems(48), Level(), cycle=1, seed=0, archived=(Prompt("Archived."),)
    )
    assert found.metrics["archived_rollouts"] > 0 and reflection.batches == 5


def test_rounds_before_rewards_differ_do_not_count():
    """The retest of a prompt in a round without a new one brings the first reward."""
    met = []

    def late(cells):
        met.extend(cells)
        return [replace(world.roll(cell), score=float(len(met) > 61)) for cell in cells]

    world = World()
    reflection = Scripted(lambda r: variant(r) if reflection.batches == 1 else SEED)
    optimizer = gepa(reflection, budget=240, proposals=3)
    optimizer.evolve(seed_population(), make_problems(48), late, cycle=0, seed=0)
    assert len(met) > 61 and reflection.batches == 5, "one prompt, a round before the reward, three after it"


def test_rounds_in_which_a_reflection_failed_do_not_count():
    failed = {1, 2, 4}
    reflection = Scripted(lambda r: TimeoutError() if reflection.batches in failed else SEED)
    lines = []
    phase(NothingBetter(), reflection, log=lines.append, proposals=3)
    assert reflection.batches == 5 and any(f"5 {NOTHING_NEW}" in line for line in lines)
    some = Scripted(lambda r: None if r.slot else SEED)
    phase(NothingBetter(), some, proposals=3)
    assert some.batches == 5


def test_rounds_without_a_better_prompt_end_the_search_if_that_is_asked_for():
    rounds, why = ended(NothingBetter())
    assert rounds >= 6 and "budget" in why
    assert ended(NothingBetter(), patience=2) == (2, "the best anchor score has not moved for 2 rounds")


def test_gepas_search_tries_more_rounds():
    assert ended(NothingBetter(), SEED, parents="frontier", rounds=8, budget=960) == (5, f"5 {NOTHING_NEW}")


# ----------------------------------------------------------------------------------------------------- a new task


def of_task(problems, task):
    return [replace(problem, task=task) for problem in problems]


def test_after_a_change_of_task_the_old_prompts_are_scored_on_the_coming_problems_and_learn_there():
    old, new = World(book=1), World(book=2)
    carried = Population((Prompt(SEED), Prompt(f"{SEED}\n{rule_of(make_problems(1)[0], 1)}")))
    last, coming = of_task(make_problems(96, 1), "one"), of_task(make_problems(96, 2), "two")
    evolution = gepa(OfflineReflection(), k=4, budget=300).evolve(
        carried, coming, new, cycle=1, seed=0, traces=slow_traces(old, carried, last)
    )
    assert evolution.metrics["new_task"] == 1 and evolution.metrics["anchors_free"] == 0
    asked = {cell.problem.task for batch in new.batches for cell in batch}
    assert asked == {"two"}
    assert new.value(evolution.population.best) > 0.6


@pytest.mark.parametrize(
    "coming, settings, expected",
    [("one", {}, 1.64), ("two", {}, 1.64), ("two", {"confidence": 2.0}, 2.0), ("two", {"parents": "frontier"}, 1.0)],
)
def test_how_far_a_lead_must_be_ahead_is_of_the_search_and_the_same_on_a_new_task(
    monkeypatch, coming, settings, expected
):
    asked = []

    def recorded(challenger, incumbent, pairs, confidence, *more):
        asked.append(confidence)
        return weigh(challenger, incumbent, pairs, confidence, *more)

    monkeypatch.setattr("fst_plugin.evolve.phase.weigh", recorded)
    old, new, carried = World(book=1), World(book=2), Population((Prompt(SEED), Prompt(f"{SEED} Be brief.")))
    traces = slow_traces(old, carried, of_task(make_problems(96, 1), "one"))
    optimizer = gepa(OfflineReflection(), k=4, budget=300, **settings)
    optimizer.evolve(carried, of_task(make_problems(96, 2), coming), new, cycle=1, seed=0, traces=traces)
    assert asked == [expected]


def test_while_the_task_stays_slow_scores_are_free_and_those_of_a_task_that_ended_are_left_out():
    world = World()
    carried = Population((Prompt(SEED), Prompt(f"{SEED} Be brief.")))
    last = [*of_task(make_problems(40, 1), "gone"), *of_task(make_problems(80, 2)[40:], "stays")]
    coming = of_task(make_problems(96, 3), "stays")
    traces = slow_traces(world, carried, last)
    evolution = gepa(OfflineReflection(), k=4, budget=300).evolve(
        carried, coming, world, cycle=1, seed=0, traces=traces
    )
    assert evolution.metrics["new_task"] == 0 and evolution.metrics["anchors_free"] > 0
    assert "gone" not in {cell.problem.task for batch in world.batches for cell in batch}


# ------------------------------------------------------------------------------------------------------- the lead


def led(first, second):
    """Who leads of two old prompts, the first of which led. Their gains: problem -> gain."""
    one, two = Prompt("one"), Prompt("two")
    search = Search([one, two], explore=False, seed=0)
    for prompt, gains in ((one, first), (two, second)):
        if gains:
            search.tell(prompt, gains)
    return search.lead(search.contenders["one"]).prompt.text


def test_among_old_prompts_the_lead_passes_only_to_one_that_is_ahead_by_a_standard_error():
    none = dict.fromkeys("abcd", 0.0)
    assert led(none, {"a": 1.0, "b": -1.0, "c": 1.0, "d": -0.5}) == "one"  # ahead by 0.125, standard error 0.52
    assert led(none, {"a": 1.0, "b": -0.25, "c": 1.0, "d": 0.0}) == "two"  # by 0.44, 0.33
    assert led(none, dict.fromkeys("abcd", 0.25)) == "two", "all differ alike"
    assert led({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0, "c": 9.0}) == "one", "problems that both have met"
    assert led({"a": 0.5, "b": 0.5}, {"c": 1.0, "d": 0.75}) == "one", "they met none together"
    assert led(none, {"a": 1.0, "b": 1.0}) == "one", "two problems tell nothing"
    assert led(none, {}) == led({}, {}) == "one"
    assert led({}, none) == "two"


def test_a_lucky_prompt_of_few_problems_hides_no_better_one():
    prompts = [Prompt(text) for text in ("leads", "lucky", "better")]
    search = Search(prompts, explore=False, seed=0)
    for prompt, gains in zip(
        prompts, (dict.fromkeys("abcd", 0.0), {"a": 9.0}, dict.fromkeys("abcd", 0.5)), strict=True
    ):
        search.tell(prompt, gains)
    assert search.lead(search.contenders["leads"]).prompt.text == "better"


def test_which_of_four_equals_did_best_last_does_not_make_it_the_lead():
    stays = 0
    for seed in range(40):
        world = World(luck=0.5, seed=seed)
        carried = Population(tuple(Prompt(f"Carried {i}") for i in range(4)))
        traces = slow_traces(world, carried, make_problems(96, seed))
        found = gepa(Scripted("Carried 1"), k=4, budget=60).evolve(
            carried, make_problems(96, seed + 1000), world, cycle=1, seed=seed, traces=traces
        )
        stays += found.population.best.text == "Carried 0"
    assert stays >= 20  # the highest of four by chance: 10


PAIRS = [(0.0, 1.0)] * 5 + [(1.0, 0.0)] * 2 + [(1.0, 1.0)] * 13  # ahead by 0.15, standard error 0.13


@pytest.mark.parametrize(
    ("prior", "leads"),
    [
        (None, False),
        (Margin(0.3, 0.1), True),
        (Margin(0.1, 0.1), False),
        (Margin(-0.5, 0.1), False),
        (Margin(0.3, 0.0), True),
    ],
)
def test_what_the_search_knows_counts_for_a_lead_by_its_precision(prior, leads):
    assert weigh(Prompt("new"), Prompt("old"), PAIRS, 2.33, prior).adopted == leads


def test_whatever_the_search_believes_a_lead_must_win_on_unseen_problems():
    behind = [(b, a) for a, b in PAIRS]
    found = weigh(Prompt("new"), Prompt("old"), behind, 2.33, Margin(5.0, 0.01))
    assert not found.adopted and "2.33 standard errors" in found.why


def test_pairs_with_what_the_incumbent_is_ahead_of_count_less_its_own_lead():
    known = weigh(Prompt("new"), Prompt("old"), PAIRS, 1.0)
    less = weigh(Prompt("new"), Prompt("old"), PAIRS, 1.0, None, Margin(0.05, 0.0))
    unsure = weigh(Prompt("new"), Prompt("old"), PAIRS, 1.0, None, Margin(0.0, 0.2))
    behind = weigh(Prompt("new"), Prompt("old"), PAIRS, 0.0, None, Margin(0.2, 0.0))
    assert (known.margin, known.adopted, less.adopted) == (pytest.approx(0.15), True, False)
    assert (less.margin, less.error) == (pytest.approx(0.1), known.error)
    assert not unsure.adopted and unsure.error == pytest.approx((known.error**2 + 0.04) ** 0.5)
    assert not behind.adopted and behind.margin < 0


def test_over_many_seeds_prompts_that_change_nothing_hardly_ever_take_the_lead():
    taken = 0
    for seed in range(60):
        world = World(luck=0.5, seed=seed)
        carried = Population(tuple(Prompt(f"Carried {i}") for i in range(4)))
        traces = slow_traces(world, carried, make_problems(96, seed))
        optimizer = gepa(Scripted(lambda r: f"Variant {r.seed} {r.slot}"), k=4, budget=300)
        coming = make_problems(96, seed + 1000)
        found = optimizer.evolve(carried, coming, world, cycle=1, seed=seed, traces=traces)
        taken += found.evidence is not None and found.evidence.adopted
    assert taken <= 6  # 3 % of 60 are 2; more than 6 would be 1 in 300


def test_of_few_problems_enough_are_held_out_for_a_better_prompt_to_show_it():
    """16 problems, 80 rollouts: five held out would be too few for three that differ."""
    adopted = 0
    for seed in range(12):
        evidence = phase(World(reliability=0.75, luck=0.05, seed=seed), n=16, budget=80, seed=seed).evidence
        assert evidence is None or evidence.problems == 6
        adopted += evidence is not None and evidence.adopted
    assert adopted >= 5


def test_what_shines_on_its_tests_only_does_not_lead():
    """Right on whatever the search rolls out, wrong on what is held out."""
    world, searched = World(luck=0.5), set()

    def evaluate(cells):
        compared = len({c.prompt.text for c in cells}) == 2 and SEED in {c.prompt.text for c in cells}
        if not compared:
            searched.update(c.problem.id for c in cells)
        return [world.roll(c) if c.prompt.text == SEED else Rollout(float(not compared), "", "Wrong.") for c in cells]

    optimizer = gepa(Scripted(lambda r: f"Overfitted {r.seed} {r.slot}"), k=4, budget=300)
    evolution = optimizer.evolve(seed_population(), make_problems(96), evaluate, cycle=0, seed=1)
    assert evolution.evidence.margin < 0 and not evolution.evidence.adopted
    assert evolution.population.best.text == SEED and len(evolution.population) > 1


# ------------------------------------------------------------------------------------------------------ the archive


def test_an_archived_prompt_comes_back_with_its_task_in_one_phase():
    world = World(reliability=0.9)
    whole = Prompt("\n".join([SEED, *sorted(all_rules())]), origin="reflection")
    archived = [Prompt(f"Of no use, {i}.", origin="reflection") for i in range(7)] + [whole]
    evolution = gepa(Scripted(lambda r: None if r.slot else f"Variant {r.seed}"), k=4, budget=480).evolve(
        seed_population(), make_problems(96), world, cycle=5, seed=0, archived=archived
    )
    assert evolution.population.best.text == whole.text and evolution.evidence.adopted
    assert not {p.text for p in archived[:7]} & {p.text for p in evolution.population.prompts}


def test_what_archived_prompts_cost_where_none_is_of_use_is_a_small_part_of_the_budget():
    world = World()
    archived = [Prompt(f"Of no use, {i}.", origin="reflection") for i in range(16)]
    evolution = gepa(OfflineReflection(), k=4, budget=960).evolve(
        seed_population(), make_problems(192), world, cycle=5, seed=0, archived=archived
    )
    spent = Counter(c.prompt.text for batch in world.batches for c in batch)
    assert all(0 < spent[p.text] <= 3 for p in archived)
    assert evolution.metrics["archived_rollouts"] == sum(spent[p.text] for p in archived) <= 0.05 * 960


@pytest.mark.parametrize(("gains", "kept"), [((0.3, -0.1, -0.1), False), ((0.9, 0.9, 0.0), True), ((), False)])
def test_an_archived_prompt_is_tested_again_only_if_its_lead_is_more_than_noise(gains, kept):
    old, archived = Prompt(SEED), Prompt("Known once.", origin="reflection")
    found = Search([old], explore=True, seed=0)
    found.tell(old, {f"p{i}": gain for i, gain in enumerate([0.5, -0.5] * 6)})
    found.revive(archived)
    found.tell(archived, {f"p{i}": gain for i, gain in enumerate(gains)})
    found.drop_unless_better(archived)
    assert [p.text for p in found.survivors(4)] == [archived.text] * kept


def test_where_the_budget_is_small_the_likeliest_archived_prompts_get_a_test_that_says_something():
    world, archived = World(), [Prompt(f"Of no use, {i}.", origin="reflection") for i in range(16)]
    gepa(OfflineReflection(), k=4, budget=130).evolve(
        seed_population(), make_problems(96), world, cycle=5, seed=0, archived=archived
    )
    spent = Counter(c.prompt.text for batch in world.batches for c in batch)
    assert [spent[p.text] for p in archived] == [3, 3] + [0] * 14


def test_gepas_search_says_that_it_takes_no_archived_prompts():
    lines = []
    gepa(OfflineReflection(), k=4, budget=240, parents="frontier", log=lines.append).evolve(
        seed_population(), make_problems(48), World(), cycle=1, seed=0, archived=[Prompt("old")]
    )
    assert any("1 archived prompts are not tried: fst.fast.parents=frontier" in line for line in lines)
