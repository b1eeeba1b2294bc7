"""GEPA's own search (fst.fast.parents=frontier) on a scripted world."""

from __future__ import annotations

from functools import partial

import pytest
import rule_world
from rule_world import SEED, Scripted, World, all_rules, make_problems, seed_population

from fst_plugin.prompts import Population, Prompt, Score
from fst_plugin.rollouts import Rollout

phase = partial(rule_world.phase, parents="frontier")
gepa = partial(rule_world.gepa, parents="frontier")


def test_where_no_prompt_holds_all_rules_the_population_covers_more_than_its_best():
    world = World(holds=4)
    evolution = phase(world, budget=480)
    problems = [p for p in make_problems(48) if p.id in evolution.population.best.scores]
    solved = [{p.id for p in problems if prompt.scores[p.id].mean == 1.0} for prompt in evolution.population.prompts]
    assert len(set().union(*solved)) > len(solved[0])


def test_carried_prompts_are_scored_verbatim_in_one_batch_with_the_seed():
    rules = sorted(all_rules())
    carried = tuple(Prompt(f"{SEED}\n{rule}") for rule in rules[:3])
    odd = Prompt("  Outer spaces,\ttabs, and <|im_start|> stay as they are \n")
    population = Population((*carried, odd))
    world = World()
    evolution = phase(world, population=population)
    first = world.batches[0]
    assert {cell.prompt.text for cell in first} == {p.text for p in population.prompts}
    assert len(first) == 4 * evolution.metrics["anchors"]
    asked = [(cell.prompt.text, cell.problem.id) for cell in first]
    assert len(set(asked)) == len(asked)
    again = [c for batch in world.batches[1:] for c in batch if c.prompt.text in {p.text for p in population.prompts}]
    assert {c.prompt.text for c in again} <= {by_digest(population, evolution)}
    assert len(again) == evolution.evidence.problems and len(world.batches) > 3
    assert not {c.problem.id for c in again} & {c.problem.id for c in first}  # held out
    assert evolution.metrics["anchor_seed"] == pytest.approx(_mean(world, carried[0], first))


def _mean(world, prompt, cells):
    scores = [world.roll(cell).score for cell in cells if cell.prompt.text == prompt.text]
    return sum(scores) / len(scores)


def by_digest(population, evolution):
    return next(p.text for p in population.prompts if p.digest == evolution.evidence.incumbent)


def test_at_most_half_of_a_round_is_scored_however_good_its_children_are():
    def evaluate(cells):
        return [Rollout(float(c.prompt.text != SEED), "", "Wrong.") for c in cells]

    evolution = phase(evaluate, Scripted(lambda r: f"Better {r.seed} {r.slot}"), proposals=6)
    verdicts = [c.verdict for c in evolution.candidates]
    assert verdicts and 2 * verdicts.count("outranked") == len(verdicts) and "rejected" not in verdicts


def test_many_cells_travel_in_one_batch():
    world = World()
    evolution = phase(world, proposals=4, minibatch=3)
    assert max(map(len, world.batches[1:])) >= 4 * evolution.metrics["anchors"] / 2
    assert len(world.batches) < evolution.metrics["rollouts"] / 10


def test_scores_of_the_outcome_are_those_of_this_phase():
    world = World(luck=0.3)
    stale = Prompt(SEED, scores={"gone": Score(1.0)})
    evolution = phase(world, population=Population((stale,)))
    ids = {p.id for p in make_problems(48)}
    for prompt in evolution.population.prompts:
        assert len(prompt.scores) == evolution.metrics["anchors"] and set(prompt.scores) <= ids
    assert evolution.metrics["anchor_best"] == evolution.population.best.mean_score


def test_a_child_that_is_as_good_as_its_parent_is_not_scored():
    def evaluate(cells):
        return [Rollout(float(c.problem.id < "8"), feedback="Wrong.") for c in cells]  # whatever the prompt says

    optimizer = gepa(Scripted(lambda r: f"Variant {r.seed} {r.slot}"), k=4, budget=240)
    evolution = optimizer.evolve(seed_population(), make_problems(48), evaluate, cycle=0, seed=0)
    assert 0.0 < evolution.metrics["anchor_seed"] < 1.0
    assert evolution.metrics["proposals_accepted"] == 0 < evolution.metrics["proposals_rejected"]
    assert evolution.metrics["candidates"] == 1 == len(evolution.population)


def test_where_nothing_scores_a_child_is_scored_on_all_anchors_and_does_not_lead():
    world = World(luck=0.0)
    evolution = phase(world, Scripted(lambda r: f"Variant {r.seed} {r.slot}"))
    assert evolution.metrics["proposals_accepted"] > 0 == evolution.metrics["anchor_best"]
    assert evolution.population.best.text == SEED and world.rollouts <= 240


def test_where_one_child_is_better_those_that_are_as_good_as_nothing_are_not_scored():
    def evaluate(cells):
        return [Rollout(float(c.prompt.text == "Good"), feedback="Wrong.") for c in cells]

    reflection = Scripted(lambda r: f"Variant {r.slot}" if r.slot else "Good")
    optimizer = gepa(reflection, k=4, budget=240)
    evolution = optimizer.evolve(seed_population(), make_problems(48), evaluate, cycle=0, seed=0)
    verdicts = {c.prompt.text: c.verdict for c in evolution.candidates}
    assert verdicts.pop("Good") == "leads"
    assert len(verdicts) > 2 and set(verdicts.values()) == {"rejected"}


def test_a_tie_leaves_the_old_prompt_in_the_lead():
    one, two = make_problems(2)
    solves = {SEED: one.id, "x": two.id}

    def evaluate(cells):
        return [Rollout(float(solves[c.prompt.text] == c.problem.id), feedback="Wrong.") for c in cells]

    optimizer = gepa(Scripted("x"), k=4, budget=50, minibatch=1)
    evolution = optimizer.evolve(seed_population(), [one, two], evaluate, cycle=0, seed=0)
    assert [(p.text, p.mean_score) for p in evolution.population.prompts] == [(SEED, 0.5), ("x", 0.5)]
