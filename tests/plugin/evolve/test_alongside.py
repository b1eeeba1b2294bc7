"""The search beside slow steps, on a stand-in for them: what it spends, compares and leaves out."""

import random
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
    rule_of,
    slow_traces,
    variant,
)

from fst_plugin import Population, Prompt
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Rollout


class Steps:
    """Slow steps as an `optimizer.Beside`; each batch is one. trained: of a step's problems those with slow rollouts.
    batches: what went out beside."""

    def __init__(self, world, population, waves, trained=lambda problems: problems):
        self.world, self.population, self.waves, self.trained = world, population, waves, trained
        self.batches, self.seen = [], []

    def problems(self):
        return list(self.waves[len(self.batches)])

    def left(self):
        return len(self.waves) - len(self.batches)

    def traces(self):
        return self.seen

    def evaluate(self, cells):
        self.seen += slow_traces(self.world, self.population, self.trained(self.problems()))
        self.batches.append(list(cells))
        return [self.world.roll(cell) for cell in cells]


def waves(steps, size=16):
    problems = make_problems(steps * size, seed=7)
    return [problems[size * i : size * (i + 1)] for i in range(steps)]


def evolved(steps, reflection=None, **fast):
    optimizer = gepa(reflection or OfflineReflection(), **{"budget": 120, "records": 2, **fast})
    problems = list({p.id: p for wave in steps.waves for p in wave}.values())
    return optimizer.evolve(steps.population, problems, steps.evaluate, cycle=1, seed=0, beside=steps)


def begun(world, steps=6, **more):
    return Steps(world, Population((Prompt(SEED),)), waves(steps), **more)


def test_the_best_new_prompt_leads_only_after_the_last_steps_comparison():
    steps = begun(World(reliability=0.9))
    found = evolved(steps, budget=400)
    assert found.evidence is not None and found.evidence.adopted
    assert steps.world.value(found.population.best) > steps.world.value(Prompt(SEED)) + 0.2
    assert {c.problem.id for c in steps.batches[-1]} == {p.id for p in steps.waves[-1]}


class Known(World):
    """Rewards by prompt: 0.7 of every new one, 0.4 of those that are carried, 0.6 of the first of them and, on problems
    of the step `lucky`, 1."""

    def __init__(self, lucky):
        super().__init__()
        self.lucky = {p.id for p in lucky}

    def roll(self, cell):
        first = 1.0 if cell.problem.id in self.lucky else 0.6
        rewards = {"Carried 0": first, "Carried 1": 0.4, "Carried 2": 0.4, "Carried 3": 0.4}
        return Rollout(rewards.get(cell.prompt.text, 0.7), "an answer", "Write less.")


class Drawn(World):
    """Every rollout is drawn anew, as at a temperature."""

    def __init__(self, **world):
        super().__init__(**world)
        self.rng = random.Random(self.seed)

    def roll(self, cell):
        rule = rule_of(cell.problem)
        right = self.rng.random() < (self.reliability if rule in cell.prompt.text else self.luck)
        return Rollout(float(right), "an answer", "Correct." if right else f"Wrong. {rule}")


def carried(count=4):
    return Population(tuple(Prompt(f"Carried {i}") for i in range(count)))


def test_a_challenger_meets_the_whole_population_and_what_the_best_of_it_is_ahead_by_counts_against_it():
    steps = Steps(Known(lucky=waves(6)[-1]), carried(), waves(6))
    found = evolved(steps, Scripted(variant), budget=400)
    assert found.evidence.incumbent == Prompt("Carried 0").digest
    # 0.7 less the population's mean in the last step, (1 + 3 * 0.4) / 4, less the 0.15 of the steps before
    assert found.evidence.margin == pytest.approx(0.0) and not found.evidence.adopted
    usual = evolved(Steps(Known(lucky=[]), carried(), waves(6)), Scripted(variant), budget=400)
    assert usual.evidence.margin == pytest.approx(0.1) and usual.evidence.adopted


def test_problems_without_slow_rollouts_of_the_lead_are_not_compared():
    """The mean of the others alone is no measure of it."""
    steps = Steps(Known(lucky=[]), carried(), waves(6))
    evaluate, lead = steps.evaluate, Prompt("Carried 0").digest

    def failing(cells):
        answers = evaluate(cells)
        if not steps.left():
            lost = {p.id for p in steps.waves[-1][4:]}
            steps.seen = [
                replace(t, rollouts={d: r for d, r in t.rollouts.items() if d != lead or t.problem.id not in lost})
                for t in steps.seen
            ]
        return answers

    steps.evaluate = failing
    evidence = evolved(steps, Scripted(variant), budget=400).evidence
    assert evidence.problems == 4 and evidence.margin == pytest.approx(0.1)


def test_over_many_seeds_a_little_more_is_often_seen_and_what_is_not_there_hardly_ever():
    taken, false, rules = 0, 0, sorted(all_rules())
    for seed in range(60):
        some = random.Random(seed)
        known = Population(tuple(Prompt("\n".join([SEED, *some.sample(rules, 10)])) for _ in range(4)))
        better = evolved(Steps(Drawn(reliability=0.8, luck=0.05, seed=seed), known, waves(6, 32)), budget=960)
        taken += better.evidence is not None and better.evidence.adopted
        same = evolved(Steps(Drawn(luck=0.5, seed=seed), carried(), waves(6, 32)), Scripted(variant), budget=960)
        false += same.evidence is not None and same.evidence.adopted
    assert taken >= 30 and false <= 2


def test_a_part_of_the_budget_is_left_for_the_comparison():
    steps = begun(World(reliability=0.9))
    evolved(steps, budget=100, minibatch=2)
    spent = list(map(len, steps.batches))
    assert sum(spent[:-1]) <= 85 and sum(spent) <= 100 and spent[-1] >= 15


def test_more_rounds_without_a_new_prompt_are_tried_since_no_step_waits_for_them():
    reflection = Scripted(SEED)
    evolved(begun(NothingBetter(), steps=9), reflection, budget=400)
    assert reflection.batches == 5


def test_problems_that_the_step_did_not_train_on_tell_nothing():
    """Groups that are filtered out leave no slow rollouts, and so nothing to compare with."""
    steps = begun(World(reliability=0.9), trained=lambda problems: problems[::2])
    found = evolved(steps, budget=400)
    assert found.evidence.problems == 8, "half of the last step's"
    assert {i for p in found.population.prompts for i in p.scores} <= {p.id for w in steps.waves for p in w[::2]}


def test_a_comparison_leaves_out_what_reflections_have_read():
    """Where the data repeats itself, the last step has problems of the first ones."""
    world = World(reliability=0.9)
    steps = Steps(world, Population((Prompt(SEED),)), waves(1) * 6)
    found = evolved(steps, budget=400, records=12)
    challenger = {cell.prompt.digest for cell in steps.batches[-1]}
    shown = {i for c in found.candidates if c.prompt.digest in challenger for i, _ in c.records}
    assert not {cell.problem.id for cell in steps.batches[-1]} & shown
    assert found.evidence is None or found.evidence.problems < 16


def test_a_prompt_that_carries_an_answer_of_a_coming_step_is_refused():
    secret = "the-answer-is-74113"
    steps = begun(World(reliability=0.9))
    steps.waves = [[replace(p, answer=f"{secret}-{i}-{j}", private=True) for j, p in enumerate(wave)]
                   for i, wave in enumerate(steps.waves)]  # fmt: skip
    found = evolved(steps, Scripted(f"{SEED}\n{secret}-5-3"))
    assert found.metrics["proposals_refused_leak"] > 0 and found.population.best.text == SEED


def test_slow_rollouts_that_come_a_step_late_count_when_they_come():
    world = World(reliability=0.9)
    steps = begun(world)
    late, evaluate = [], steps.evaluate

    def delayed(cells):
        found = evaluate(cells)
        fresh = [trace for trace in steps.seen if trace not in late]
        steps.visible, late[:] = list(late), [*late, *fresh]
        return found

    steps.evaluate, steps.traces, steps.visible = delayed, lambda: steps.visible, []
    found = evolved(steps, budget=400)
    assert any(c.tested for c in found.candidates), "their tests are compared, if a step later"


def test_nothing_is_asked_for_what_no_reflection_can_better():
    world = World()
    whole = "\n".join([SEED, *sorted({rule_of(p) for p in make_problems(400)})])
    steps = Steps(world, Population((Prompt(whole),)), waves(6))
    found = evolved(steps)
    assert not any(steps.batches) and found.metrics["rollouts"] == 0 and len(steps.batches) == 5
