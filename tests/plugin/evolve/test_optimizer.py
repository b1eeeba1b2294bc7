"""The fast phase on a scripted world."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rule_world import (
    SEED,
    Scripted,
    World,
    all_rules,
    gepa,
    make_problems,
    phase,
    rule_of,
    seed_population,
    slow_traces,
)

from fst_plugin.evolve import RolloutsFailed
from fst_plugin.policy import Policy
from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection, ReflectionFailed, Trouble
from fst_plugin.rollouts import Rollout


def rules_in(prompt):
    return all_rules() & set(prompt.text.splitlines())


def test_a_better_population_is_found():
    world = World()
    evolution = phase(world)
    assert world.value(evolution.population.best) > 0.6 > 0.0 == world.value(Prompt(SEED))
    assert evolution.metrics["anchor_best"] > evolution.metrics["anchor_seed"]
    best = evolution.population.best
    assert best.origin == "reflection" and best.parents and best.text.startswith(SEED)
    assert 1 < len(evolution.population) == evolution.metrics["population_size"] <= 4


def test_three_cycles_gather_nearly_all_rules_with_an_unreliable_policy():
    population, traces = seed_population(), []
    for cycle in range(3):
        world = World(reliability=0.6, luck=0.05, seed=cycle)
        problems = make_problems(48, seed=cycle)
        optimizer = gepa(OfflineReflection(), k=4, budget=240)
        evolution = optimizer.evolve(population, problems, world, cycle=cycle, seed=cycle, traces=traces)
        population, traces = evolution.population, slow_traces(world, evolution.population, problems)
        assert evolution.metrics["anchors_free"] == (evolution.metrics["anchors"] if cycle else 0)
    assert len(rules_in(population.best)) >= 10
    assert World(reliability=0.6, luck=0.05, seed=99).value(population.best) > 0.4


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 6, 7, 11, 13, 24, 37, 50, 96, 97, 101, 193, 333])
@pytest.mark.parametrize("carried", [1, 4])
@pytest.mark.parametrize("n", [1, 2, 7, 48])
def test_the_budget_is_never_exceeded(budget, carried, n):
    rules = sorted(all_rules())
    prompts = (Prompt(SEED), *(Prompt(f"{SEED}\n{rule}") for rule in rules[: carried - 1]))
    world = World(luck=0.2)
    evolution = phase(world, population=Population(prompts), n=n, budget=budget)
    assert world.rollouts == evolution.metrics["rollouts"] <= budget
    if budget < carried + 1:
        assert evolution.population.digest == Population(prompts).digest
        assert world.rollouts == 0 and "too small" in evolution.warnings[0]
    else:
        assert world.rollouts > 0 and evolution.metrics["anchors"] >= 1


@pytest.mark.parametrize(
    "settings", [{"minibatch": 1}, {"minibatch": 50}, {"proposals": 1}, {"proposals": 9}, {"k": 1}]
)
def test_the_budget_holds_under_other_settings(settings):
    world = World(luck=0.2)
    evolution = phase(world, budget=155, **settings)
    assert world.rollouts == evolution.metrics["rollouts"] <= 155
    assert len(evolution.population) <= settings.get("k", 4)
    assert evolution.metrics["candidates"] > 1


def test_same_seed_same_outcome_and_another_seed_another_one():
    def run(seed):
        world = World(luck=0.1)
        evolution = phase(world, seed=seed)
        return evolution, [[(c.prompt.digest, c.problem.id) for c in batch] for batch in world.batches]

    first, asked = run(3)
    again, asked_again = run(3)
    assert asked == asked_again
    assert first.population.to_json() == again.population.to_json() and first.metrics == again.metrics
    assert run(4)[1] != asked


def test_repeated_problems_count_once():
    world = World()
    optimizer = gepa(OfflineReflection(), k=4, budget=100)
    problems = make_problems(5)
    evolution = optimizer.evolve(seed_population(), problems * 3, world, cycle=0, seed=0)
    assert evolution.metrics["anchors"] == 5
    with pytest.raises(ValueError, match="anchor"):
        optimizer.evolve(seed_population(), [], world, cycle=0, seed=0)


def test_a_new_prompt_leads_only_where_it_is_better():
    world = World(luck=1.0)  # every prompt is perfect: nothing to learn
    evolution = phase(world, perfect_score=1.0)
    assert evolution.population.digest == seed_population().digest
    assert evolution.metrics["reflection_calls"] == 0
    same = World(luck=0.4)  # the reflection's prompts change nothing: by luck some pass their test
    carried = seed_population()
    evolution = phase(same, Scripted(lambda r: f"Variant {r.seed} {r.slot}"), carried)
    assert evolution.metrics["proposals_rejected"] > 0 and evolution.metrics["proposals_accepted"] > 0
    assert evolution.metrics["anchor_best"] >= evolution.metrics["anchor_seed"]
    leader = evolution.population.best
    assert leader.text == SEED or leader.mean_score > evolution.metrics["anchor_seed"]


class TwoLocks(World):
    """A world that pays nothing until the answer's form is right as well, and tells one mistake at a time."""

    FORM = "Put it in brackets."

    def roll(self, cell):
        rolled = super().roll(cell)
        if self.FORM in cell.prompt.text:
            return rolled
        return replace(rolled, score=0.0, feedback=f"Wrong. {self.FORM}")


@pytest.mark.parametrize("seed", range(4))
def test_from_rewards_of_nothing_but_zero_one_mistake_after_another_is_mended(seed):
    world = TwoLocks(reliability=0.8, seed=seed)
    evolution = phase(world, seed=seed)
    assert evolution.metrics["anchor_seed"] == 0.0 and world.value(Prompt(f"{SEED}\n{world.FORM}")) == 0.0
    assert world.FORM in evolution.population.best.text and world.value(evolution.population.best) > 0.3
    assert world.rollouts <= 240


@pytest.mark.parametrize(
    ("answer", "counter", "batches"),
    [
        ("", "proposals_skipped", 5),
        (" \n\x00\u200b", "proposals_skipped", 5),
        ("<|im_end|></s>", "proposals_skipped", 5),
        (42, "proposals_skipped", 5),
        (SEED, "proposals_skipped", 5),
        ("x" * 1_000_000, "proposals_skipped_long", 5),
        ("word " * 2000, "proposals_skipped_long", 10),
    ],
)
def test_useless_reflections_cost_no_rollouts_and_keep_the_population(answer, counter, batches):
    world = World()
    reflection = Scripted(answer)
    evolution = phase(world, reflection)
    assert evolution.population.digest == seed_population().digest
    assert evolution.metrics["rollouts"] == evolution.metrics["anchors"]
    assert evolution.metrics[counter] >= 5 and reflection.batches == batches
    assert evolution.metrics["reflection_calls"] == len(reflection.requests)
    hidden = evolution.metrics["hidden_characters"]
    assert (hidden > 0) == bool(evolution.warnings) == (answer == " \n\x00\u200b")


def test_a_reflection_with_the_wrong_number_of_answers_is_a_failed_one():
    class Short:
        asked = []

        def propose(self, requests):
            self.asked.append(len(requests))
            return ["one text"]

        def describe(self):
            return "short"

    with pytest.raises(ReflectionFailed, match="1 answers to"):
        phase(World(), Short(), proposals=2)
    assert len(Short.asked) == 5 and min(Short.asked) > 1


@pytest.mark.parametrize(
    ("answer", "why"), [(None, "no reason"), (TimeoutError("no answer"), "TimeoutError: no answer")]
)
def test_a_phase_without_any_answer_of_its_reflection_fails_and_says_why(answer, why):
    reflection = Scripted(answer)
    with pytest.raises(ReflectionFailed, match=rf"all \d+ reflections failed; the last error: .*{why}"):
        phase(World(), reflection, cycle=2)
    assert reflection.batches == 5 and {request.cycle for request in reflection.requests} == {2}


def test_what_is_wrong_with_a_reflections_answers_is_told_once_a_phase_and_counted():
    offline = OfflineReflection()

    class Wordy(Scripted):
        def propose(self, requests):
            self.trouble = Trouble()
            answers = super().propose(requests)
            for r, answer in zip(requests, answers, strict=True):
                if answer is None:
                    self.trouble.note("failures", f"429: slow down, {r.slot}")
                if answer == "":
                    self.trouble.note("cut", "broke off")
            return answers

    evolution = phase(World(), Wordy(lambda r: {0: None, 1: ""}.get(r.slot, offline.propose([r])[0])), proposals=3)
    rounds, calls = evolution.metrics["reflection_failures"], evolution.metrics["reflection_calls"]
    assert rounds == evolution.metrics["reflection_cut"] > 1 and evolution.metrics["reflection_unusable"] == 0
    assert [w for w in evolution.warnings if "reflections" in w] == [
        f"{rounds:g} of {calls:g} reflections failed; the last error: 429: slow down, 0",
        f"{rounds:g} of {calls:g} reflections broke off before their prompt ended; the last: broke off",
    ]


def test_a_reflection_that_fails_now_and_then_does_not_end_the_phase():
    offline = OfflineReflection()
    reflection = Scripted(lambda r: None if r.slot % 2 else offline.propose([r])[0])
    evolution = phase(World(), reflection, proposals=2)
    assert evolution.metrics["reflection_failures"] > 3
    assert evolution.metrics["anchor_best"] > 0.5


def test_an_error_of_the_reflection_shows_no_secret(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value-123")
    with pytest.raises(ReflectionFailed) as failed:
        phase(World(), Scripted(RuntimeError("401 for very-secret-value-123 and sk-abcdefgh12345678")))
    text = str(failed.value)
    assert "RuntimeError: 401" in text and "very-secret" not in text and "sk-abcdefgh" not in text


def test_an_error_of_the_engine_shows_no_secret_and_does_not_act():
    def broken(cells):
        return [Rollout(0.0, error="no route \x1b[31m with Bearer hunter2") for _ in cells]

    with pytest.raises(RolloutsFailed, match=r"no route \\x1b\[31m with \*\*\*"):
        phase(broken)


def test_control_tokens_of_the_policy_never_reach_a_prompt():
    dirty = "Rule: <|im_start|>system [INST] {0} </s>\x1b[31m [[CTRL]] <|im_<|im_end|>end|> Write it."
    world = World(luck=0.3)
    phase(
        world, Scripted(lambda r: dirty.format(f"{r.seed}-{r.slot}")), policy=Policy(special_tokens=("[[CTRL]]", "\n"))
    )
    new = {c.prompt.text for batch in world.batches for c in batch} - {SEED}
    assert new
    for text in new:
        assert not any(t in text for t in ("<|im_start|>", "<|im_end|>", "[INST]", "</s>", "[[CTRL]]", "\x1b"))
        assert "Rule:" in text and "Write it." in text


def test_prompts_over_the_cap_are_shortened_or_skipped():
    def words(text):
        return len(text.split())

    world = World()
    evolution = phase(world, policy=Policy(25, words))
    sent = {c.prompt.text for batch in world.batches for c in batch}
    assert max(map(words, sent)) <= 25 and len(sent) > 3
    assert evolution.metrics["anchor_best"] > 0
    asked = []

    def talkative(request):
        asked.append(request)
        return "short and good" if request.parent.text.startswith("word") else "word " * 100

    reflection = Scripted(talkative)
    phase(World(), reflection, policy=Policy(25, words), proposals=1)
    assert asked[1].parent.text.startswith("word") and asked[1].max_chars < len("word " * 25)


def test_failed_rollouts_are_no_scores_and_never_shown():
    world = World(luck=0.2)
    broken = {p.id for p in make_problems(48)[::4]}

    def evaluate(cells):
        failed = Rollout(0.0, "", "SHOULD NEVER BE SEEN here", "boom")
        return [failed if c.problem.id in broken else world.roll(c) for c in cells]

    offline = OfflineReflection()
    reflection = Scripted(lambda r: offline.propose([r])[0])
    evolution = phase(evaluate, reflection)
    assert evolution.metrics["rollouts_failed"] > 0 and "failed" in evolution.warnings[-1]
    shown = [rollout for r in reflection.requests for _, rollout in r.records]
    assert shown and all(r.error is None for r in shown)
    for prompt in evolution.population.prompts:
        assert prompt.scores and not broken & set(prompt.scores)
        assert "NEVER" not in prompt.text
    assert evolution.metrics["anchor_best"] > evolution.metrics["anchor_seed"]


def test_a_score_that_is_no_number_is_a_failed_rollout():
    world = World()
    bad = []

    def evaluate(cells):
        bad[:] = bad or [cells[0].problem.id]  # an anchor: the first batch scores the seed on them
        return [Rollout(float("nan"), "a") if c.problem.id in bad else world.roll(c) for c in cells]

    evolution = phase(evaluate, budget=960)
    for prompt in evolution.population.prompts:
        assert bad[0] not in prompt.scores and prompt.scores
    assert evolution.metrics["rollouts_failed"] >= evolution.metrics["candidates"] > 1


def test_a_dead_engine_is_reported_with_its_own_first_error():
    calls = []

    def dead(cells):
        calls.append(len(cells))
        return [Rollout(0.0, error=f"engine says no {i}") for i in range(len(cells))]

    with pytest.raises(RolloutsFailed, match="engine says no 0"):
        phase(dead)
    assert len(calls) == 1


def test_an_engine_that_dies_on_the_way_does_not_burn_the_budget():
    world = World()

    def dying(cells):
        alive = len(world.batches) < 1
        rollouts = world(cells)
        return rollouts if alive else [Rollout(0.0, error="gone") for _ in rollouts]

    with pytest.raises(RolloutsFailed, match="gone"):
        phase(dying, Scripted(lambda r: f"Variant {r.seed} {r.slot}"), budget=960)
    assert len(world.batches) == 4


def test_an_exception_of_evaluate_and_a_broken_contract_pass_through():
    def raises(cells):
        raise ConnectionError("server left")

    with pytest.raises(ConnectionError, match="server left"):
        phase(raises)
    with pytest.raises(ValueError, match="one each"):
        phase(lambda cells: [Rollout(1.0)])


def test_records_show_failures_first_and_no_more_than_asked_for():
    offline = OfflineReflection()
    reflection = Scripted(lambda r: offline.propose([r])[0])
    phase(World(luck=0.5), reflection, records=5, minibatch=2, proposals=4)
    assert reflection.requests
    for request in reflection.requests:
        assert request.records[0][1].score < 1.0 and 2 <= len(request.records) <= 5
        assert len({problem.id for problem, _ in request.records}) == len(request.records)
        scores = [rollout.score for _, rollout in request.records]
        assert scores == sorted(scores)
    assert {r.slot for r in reflection.requests} >= {0, 1, 2, 3}


@pytest.mark.parametrize("parents", ["thompson", "frontier"])
def test_a_reflection_is_shown_no_answer_that_was_left_unread(parents):
    world, population, problems = World(luck=0.5), seed_population(), make_problems(96)
    unread = {problem.id for problem in problems[::2]}
    traces = [
        replace(trace, rollouts={d: replace(r, unread=trace.problem.id in unread) for d, r in trace.rollouts.items()})
        for trace in slow_traces(world, population, problems)
    ]
    offline = OfflineReflection()
    reflection = Scripted(lambda r: offline.propose([r])[0])
    optimizer = gepa(reflection, budget=200, parents=parents)
    found = optimizer.evolve(population, problems, world, cycle=1, seed=0, traces=traces)
    of_seed = [record for r in reflection.requests if r.parent.text == SEED for record in r.records]
    assert of_seed and not unread & {problem.id for problem, _ in of_seed}
    assert found.metrics["anchors_free"] > 0


def test_nothing_is_printed_and_the_reflection_is_named(capfd):
    lines = []
    phase(World(), log=lines.append)
    out = capfd.readouterr()
    assert out.out == "" and out.err == ""
    assert any("no LM" in line for line in lines)


@pytest.mark.parametrize("name", ["k", "minibatch", "proposals", "records", "budget"])
def test_settings_below_one_are_refused(name):
    with pytest.raises(ValueError, match="population" if name == "k" else name):
        gepa(OfflineReflection(), **{"k": 4, "budget": 10, name: 0})


def test_rules_of_the_world_are_hidden_from_the_problem():
    for problem in make_problems(20):
        assert rule_of(problem).split()[-1] not in problem.messages[0]["content"]
