"""The search beside slow steps, on a stand-in for them: what it spends, compares and leaves out."""

from dataclasses import replace

from rule_world import SEED, NothingBetter, Scripted, World, gepa, make_problems, rule_of, slow_traces

from fst_plugin import Population, Prompt
from fst_plugin.reflection import OfflineReflection


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
