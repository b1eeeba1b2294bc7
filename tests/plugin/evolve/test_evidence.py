"""A new prompt leads only with evidence from problems that no reflection saw."""

import pytest
from rule_world import SEED, World, gepa, make_problems, seed_population

from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Cell, Rollout, Trace


class Watched:
    def __init__(self, inner):
        self.inner, self.shown = inner, set()

    def propose(self, requests):
        self.shown |= {problem.id for r in requests for problem, _ in r.records}
        return self.inner.propose(requests)

    def describe(self):
        return "watched"


def test_the_comparison_uses_problems_that_no_reflection_saw():
    world, reflection = World(reliability=0.8), Watched(OfflineReflection())
    optimizer = gepa(reflection, k=4, budget=300)
    evolution = optimizer.evolve(seed_population(), make_problems(96), world, cycle=0, seed=1)
    compared = world.batches[-1]
    assert {c.prompt.digest for c in compared} == {evolution.evidence.incumbent, evolution.evidence.challenger}
    assert len(compared) == 2 * evolution.evidence.problems and reflection.shown
    assert not {c.problem.id for c in compared} & reflection.shown
    assert evolution.evidence.adopted and evolution.population.best.digest == evolution.evidence.challenger


def test_where_the_data_repeats_itself_a_part_of_it_is_held_out():
    """The coming cycle's problems are the last one's: nothing unseen comes, and still a better prompt can lead."""
    problems = make_problems(48)
    carried = Population((Prompt(SEED), Prompt(f"{SEED} Be brief.")))
    world = World(reliability=0.9)
    traces = [Trace(p, {c.digest: world.roll(Cell(c, p)) for c in carried.prompts}) for p in problems]
    reflection = Watched(OfflineReflection())
    optimizer = gepa(reflection, k=2, budget=300)
    evolution = optimizer.evolve(carried, problems, world, cycle=1, seed=1, traces=traces)
    assert evolution.metrics["anchors_free"] > 0 and evolution.evidence.adopted
    compared = {c.problem.id for c in world.batches[-1]}
    assert not compared & reflection.shown
    assert len(world.batches[-1]) == 2 * evolution.evidence.problems  # both are rolled out anew


@pytest.mark.parametrize(("luck", "adopted"), [(1, False), (2, False), (3, True)])
def test_one_or_two_lucky_problems_are_no_evidence(luck, adopted):
    problems = make_problems(96)
    lucky = []

    class Idle:
        def propose(self, requests):
            return [f"Variant {r.seed} {r.slot}" for r in requests]

        def describe(self):
            return "idle"

    def evaluate(cells):
        pairs = {c.prompt.text for c in cells}
        if len(pairs) == 2 and SEED in pairs and len(cells) > 2:  # the comparison: they differ on so many problems
            lucky.extend(c.problem.id for c in cells[:luck])
            return [Rollout(float(c.prompt.text != SEED and c.problem.id in lucky), "", "") for c in cells]
        return [Rollout(float(c.prompt.text != SEED), "", "Wrong.") for c in cells]

    lines = []
    optimizer = gepa(Idle(), k=4, budget=300, log=lines.append)
    evolution = optimizer.evolve(seed_population(), problems, evaluate, cycle=0, seed=1)
    why = "" if adopted else f"the two differ on {luck} problems, a lead needs 3"
    assert evolution.evidence.why == why
    assert any(line.endswith(f"does not lead: {why}" if why else "leads now") for line in lines)
    assert len(lucky) == luck and evolution.evidence.margin > 0 and evolution.evidence.adopted == adopted
