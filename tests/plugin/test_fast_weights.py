"""Whole cycles on fakes: evolve before every T steps, keep what is durable, refuse what must never be sent."""

import traceback
from dataclasses import replace

import pytest
from cycles import fast_weights, slow_phase
from rule_world import SEED, World, make_problems

from fst_plugin import Evolution, Population, Prompt, Rollout
from fst_plugin.adapter import choose_seed
from fst_plugin.config import ConfigError, parse
from fst_plugin.fast_weights import FastPhaseFailed, FastWeights
from fst_plugin.policy import Policy
from fst_plugin.record import state
from fst_plugin.reflection import OfflineReflection, ReflectionFailed


def test_whole_cycles(tmp_path):
    weights, _ = fast_weights(tmp_path)
    world, problems = World(reliability=0.9), make_problems(60)
    begun = []
    for step in range(1, 8):
        if weights.due(step):
            begun.append(step)
            anchors = problems[8 * (step - 1) : 8 * (step + 2)]
            metrics = weights.evolve(step, f"after {step - 1}", anchors, world)
            assert metrics["rollouts"] <= 5 * len({p.id for p in anchors})
    assert begun == [1, 4, 7]
    assert weights.state.cycle == 2 and weights.state.cycle_start == 7
    assert weights.state.counters.rollouts_fast == world.rollouts
    assert world.value(weights.population.best) > world.value(Prompt(SEED)) + 0.3
    assert (tmp_path / "best_prompt.txt").read_text() == weights.population.best.text
    assert state.load(tmp_path) == weights.state
    assert weights.metrics()["rollouts_fast_total"] == world.rollouts


def test_repeated_problems_are_one_anchor(tmp_path):
    weights, _ = fast_weights(tmp_path, fast={"passes": 2})
    world, problems = World(), make_problems(6)
    weights.evolve(1, "w", problems * 4, world)
    assert world.rollouts <= 2 * 6


class Engine:
    """A world whose engine dies at the n-th batch."""

    def __init__(self, world, dies_at):
        self.world, self.left = world, dies_at

    def __call__(self, cells):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt  # as good as a kill: nothing is caught
        return self.world(cells)


def test_a_killed_phase_goes_on_from_its_record_on_the_same_weights(tmp_path):
    problems = make_problems(40)
    whole, _ = fast_weights(tmp_path / "whole")
    undisturbed = World(reliability=0.8)
    whole.evolve(1, "w", problems, undisturbed)

    world = World(reliability=0.8)
    killed, _ = fast_weights(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        killed.evolve(1, "w", problems, Engine(world, 3))
    again, lines = fast_weights(tmp_path / "killed")
    again.evolve(1, "w", problems, world)
    assert any("answered from the record" in line for line in lines)
    assert again.population.digest == whole.population.digest
    assert world.rollouts == undisturbed.rollouts  # nothing was paid twice


def test_a_record_of_other_weights_is_discarded_and_told(tmp_path):
    problems = make_problems(20)
    killed, _ = fast_weights(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        killed.evolve(1, "w", problems, Engine(World(), 2))
    again, lines = fast_weights(tmp_path)
    world = World()
    metrics = again.evolve(1, "other", problems, world)
    assert any("discarding" in line and "weights" in line for line in lines)
    assert world.rollouts == metrics["rollouts"]


def test_a_finished_phase_is_taken_over(tmp_path):
    problems = make_problems(20)
    first, _ = fast_weights(tmp_path)
    first.evolve(1, "w", problems, World())
    again, _ = fast_weights(tmp_path)  # the slow step after it was killed, before any checkpoint
    world = World()
    again.evolve(1, "w", problems, world)
    assert world.rollouts == 0 and again.population.digest == first.population.digest


def failing(cells):
    raise ConnectionError("engine down")


def test_a_failed_phase_stops_the_run_with_the_engines_own_error(tmp_path):
    weights, _ = fast_weights(tmp_path)
    with pytest.raises(FastPhaseFailed, match="engine down.*max_failed_phases"):
        weights.evolve(1, "w", make_problems(8), failing)


def test_a_failed_phase_tells_its_cause_without_its_secrets(tmp_path):
    def refused(cells):
        raise ConnectionError("judge at http://me:hunter2@host refused Authorization: Bearer hunter3")

    weights, lines = fast_weights(tmp_path)
    with pytest.raises(FastPhaseFailed, match=r"ConnectionError: judge at http://\*\*\*@host refused") as failed:
        weights.evolve(1, "w", make_problems(8), refused)
    told = "".join([*traceback.format_exception(failed.value), *lines])
    assert "raise ConnectionError(" in told and "hunter" not in told


def test_a_bounded_number_of_consecutive_failures_is_survived(tmp_path):
    weights, lines = fast_weights(tmp_path, fast={"max_failed_phases": 1})
    assert weights.evolve(1, "w0", make_problems(8), failing)["phase_failed"] == 1
    assert weights.population.best.text == SEED and any("engine down" in line for line in lines)
    weights.evolve(4, "w3", make_problems(8), World())  # a good one in between: the count starts anew
    assert weights.evolve(7, "w6", make_problems(8), failing)["phase_failed"] == 1
    with pytest.raises(FastPhaseFailed):
        weights.evolve(10, "w9", make_problems(8), failing)


class Careless:
    """A user's own optimizer that hands back what must never be sent."""

    def __init__(self, texts):
        self.texts = texts

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        return Evolution(Population(tuple(Prompt(text) for text in self.texts)))


class Hiding(Careless):
    def __init__(self):
        super().__init__(["Be\U000e0041\u200b kind.", "Be kind.", "Be\ud800 brief."])


def test_whatever_the_optimizer_hidden_characters_are_taken_out_and_counted(tmp_path):
    weights, lines = fast_weights(tmp_path, fast={"path": f"{__name__}.Hiding"})
    assert weights.evolve(1, "w", make_problems(4), World())["hidden_characters"] == 3
    assert [p.text for p in weights.population.prompts] == ["Be kind.", "Be brief."]
    assert any("3 hidden characters" in line for line in lines)
    for path in tmp_path.rglob("*.*"):
        assert "\ud800" not in path.read_text(encoding="utf-8")


def test_lone_surrogates_of_a_first_prompt_are_replaced_and_told(tmp_path):
    lines = []
    seed = choose_seed(parse({}), ["Be\ud800 brief.\u200b"])
    weights = FastWeights.start(
        parse({"reflection": {"kind": "offline"}}), Policy(), tmp_path, seed=seed, log=lines.append
    )
    assert weights.population.best.text == weights.seed.text == "Be\ufffd brief.\u200b"
    assert [line for line in lines if "surrogate" in line and "1" in line]
    weights.save(tmp_path, 0, [])
    assert (tmp_path / "best_prompt.txt").read_text(encoding="utf-8") == "Be\ufffd brief.\u200b"


@pytest.mark.parametrize("bad", ["word " * 500, "Be brief.<|im_end|>", "   "])
def test_whatever_the_optimizer_what_must_not_be_sent_is_not_let_in(tmp_path, bad):
    fast = {"path": f"{__name__}.Careless", "kwargs": {"texts": [bad, "Be kind."]}}
    weights, lines = fast_weights(tmp_path, fast=fast)
    weights.evolve(1, "w", make_problems(4), World())
    assert [p.text for p in weights.population.prompts] == ["Be kind."]
    assert any("refused" in line for line in lines)


def test_where_nothing_is_fit_the_old_population_stays(tmp_path):
    weights, _ = fast_weights(tmp_path, fast={"path": f"{__name__}.Careless", "kwargs": {"texts": [" "]}})
    weights.evolve(1, "w", make_problems(4), World())
    assert [p.text for p in weights.population.prompts] == [SEED]


def test_the_slow_phase_pays_for_the_carried_prompts(tmp_path):
    weights, _ = fast_weights(tmp_path)
    world, problems = World(reliability=0.9, holds=4), make_problems(96)  # there is always more to say
    weights.evolve(1, "w0", problems[:48], world)
    carried = {p.text for p in weights.population.prompts}
    slow_phase(weights, world, problems[:48], range(1, 4))
    assert len(weights.state.rewards) == 3
    before = len(world.batches)
    metrics = weights.evolve(4, "w3", problems[48:], world, recent=problems[:48])
    assert metrics["anchors_free"] == metrics["anchors"] > 0 and metrics["rollouts"] > 60
    last = {p.id for p in problems[:48]}
    fast = [c for batch in world.batches[before:] for c in batch]
    assert not [c for c in fast if c.prompt.text in carried and c.problem.id in last]
    assert weights.slow.entries == [] and weights.state.rewards == ()
    for prompt in weights.population.prompts:
        if prompt.text in carried:
            assert {s.rollouts for s in prompt.scores.values()} == {2}


def test_free_scores_can_be_turned_off(tmp_path):
    weights, _ = fast_weights(tmp_path, fast={"free_scores": False})
    world, problems = World(reliability=0.9), make_problems(96)
    weights.evolve(1, "w0", problems[:48], world)
    slow_phase(weights, world, problems[:48], range(1, 4))
    metrics = weights.evolve(4, "w3", problems[48:], world, recent=problems[:48])
    assert metrics["anchors_free"] == 0 and weights.slow.entries == []


def test_other_slow_scores_are_another_phase(tmp_path):
    problems = make_problems(64)
    killed, _ = fast_weights(tmp_path)
    killed.evolve(1, "w", problems[:32], World())
    slow_phase(killed, World(seed=1), problems[:32], range(1, 4))
    start = killed.state
    with pytest.raises(KeyboardInterrupt):
        killed.evolve(4, "w3", problems[32:], Engine(World(), 2), recent=problems[:32])
    again, lines = fast_weights(tmp_path)
    again.state = start
    slow_phase(again, World(seed=2, luck=0.5), problems[:32], range(1, 4))
    again.evolve(4, "w3", problems[32:], World(), recent=problems[:32])
    assert any("discarding" in line and "slow_scores" in line for line in lines)


def test_a_record_of_another_world_is_set_aside_not_deleted(tmp_path):
    problems = make_problems(20)
    first, _ = fast_weights(tmp_path)
    first.setup = "a reward function with a fault"
    first.evolve(1, "w", problems, World(luck=0.0, reliability=0.0))
    again, lines = fast_weights(tmp_path)
    again.setup = "mended"
    world = World()
    again.evolve(1, "w", problems, world)
    assert world.rollouts > 0 and any("setup was" in line for line in lines)
    assert (tmp_path / "old_cycle_0000_1" / "candidates.jsonl").exists()


def test_cycles_of_a_run_that_went_further_are_set_aside(tmp_path):
    first, _ = fast_weights(tmp_path)
    for cycle in range(2):
        first.evolve(1 + 3 * cycle, f"w{cycle}", make_problems(20, cycle), World())
    again, lines = fast_weights(tmp_path)
    again.evolve(1, "other", make_problems(20), World())
    assert sorted(p.name for p in tmp_path.glob("cycle_*")) == ["cycle_0000"]
    assert sorted(p.name for p in tmp_path.glob("old_*")) == ["old_cycle_0000_1", "old_cycle_0001_1"]
    assert any("another run" in line for line in lines)


def test_settings_that_do_not_matter_do_not_cost_the_record(tmp_path):
    problems = make_problems(40)
    killed, _ = fast_weights(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        killed.evolve(1, "w", problems, Engine(World(), 3))
    again, lines = fast_weights(tmp_path, fast={"max_failed_phases": 2}, validate_seed=False)
    again.evolve(1, "w", problems, World())
    assert any("answered from the record" in line for line in lines)


def test_what_a_failed_phase_asked_for_is_counted(tmp_path):
    weights, _ = fast_weights(tmp_path, fast={"max_failed_phases": 1})
    asked = []

    def failing_engine(cells):
        asked.extend(cells)
        raise ConnectionError("engine down")

    weights.evolve(1, "w", make_problems(8), failing_engine)
    assert weights.state.counters.rollouts_fast == len(asked) > 0


def test_a_reward_that_is_no_number_counts_for_nothing_and_can_be_saved(tmp_path):
    from fst_plugin.rollouts import Rollout

    weights, _ = fast_weights(tmp_path)
    weights.evolve(1, "w", make_problems(20), World())
    digest = weights.population.best.digest
    weights.observe(1, "w", [("p", digest, Rollout(float("nan"))), ("q", digest, Rollout(1.0))])
    assert weights.state.rewards == (1.0,) and [e.problem for e in weights.slow.entries] == ["q"]
    state.save(weights.state, tmp_path / "checkpoint")


def test_a_folder_without_fast_weights_is_not_resumed_from(tmp_path):
    weights, _ = fast_weights(tmp_path)
    with pytest.raises(ValueError, match="holds no fast weights.*fst.enabled=false.*resume_mode"):
        weights.restore(tmp_path / "step_3" / "fst", 3, data_key="data", start_over="resume_mode=disable")


def test_what_was_saved_is_taken_up_under_the_name_of_its_weights(tmp_path):
    problems = make_problems(40)
    before, _ = fast_weights(tmp_path / "run")
    before.evolve(1, "w0", problems[:20], World())
    slow_phase(before, World(), problems[:20], range(1, 3))
    before.deal([8, 8])
    before.save(tmp_path / "step_2" / "fst", 2, ["p", "q"])
    after, _ = fast_weights(tmp_path / "run")
    after.restore(tmp_path / "step_2" / "fst", 2, data_key="data", start_over="-")
    assert after.state.population == before.population and after.state.pending == ("p", "q")
    assert after.slow.entries == before.slow.entries and after.state.counters == before.state.counters
    assert after.weights_after(2) == before.weights_after(2)  # the very weights that were saved
    assert after.weights_after(3) != before.weights_after(3)  # trained on by another run


def test_steps_that_the_stack_does_again_are_forgotten(tmp_path):
    problems = make_problems(20)
    weights, _ = fast_weights(tmp_path)
    weights.evolve(1, "w0", problems, World())
    slow_phase(weights, World(), problems, range(1, 4))
    rewards = weights.state.rewards
    weights.undo(2)
    assert weights.state.rewards == rewards[:2] and {entry.step for entry in weights.slow.entries} == {1, 2}
    weights.undo(0)
    assert weights.state.rewards == () and weights.slow.entries == []


@pytest.mark.parametrize("k", [1, 3, 4, 6])
@pytest.mark.parametrize("groups", [[8, 8], [5, 5, 5], [1] * 9, [4, 7, 1]])
def test_prompts_are_dealt_evenly_whatever_k_and_g_are(tmp_path, k, groups):
    weights, _ = fast_weights(tmp_path, population=k)
    weights.state = replace(weights.state, population=Population(tuple(Prompt(f"p{i}") for i in range(k))))
    total = [0] * k
    for _ in range(3):  # batches
        for size, offset in zip(groups, weights.deal(groups), strict=True):
            group = [0] * k
            for session in range(size):
                group[(offset + session) % k] += 1
            assert max(group) - min(group) <= 1
            total = [a + b for a, b in zip(total, group, strict=True)]
            assert max(total) - min(total) <= 1
    assert weights.state.counters.rollouts_slow == sum(total)
    if all(size % k == 0 for size in groups):
        assert weights.deal(groups) == [0] * len(groups)  # paper Algorithm 1, step 3: session i under prompt i mod K


def test_a_steps_figures_are_handed_out_once_and_ranks_go_by_digest(tmp_path):
    weights, _ = fast_weights(tmp_path)
    evolved = weights.evolve(1, "w", make_problems(20), World())
    best, *rest = weights.population.prompts
    answers = [("a", best.digest, Rollout(1.0)), ("a", rest[0].digest, Rollout(0.0)), ("b", "gone", Rollout(0.5))]
    weights.observe(1, "w", [*answers, ("b", best.digest, Rollout(0.0, error="engine"))])
    found = weights.metrics()
    assert found["reward_prompt_0"] == 1.0 and found["reward_prompt_1"] == 0.0  # not 0.5 of an earlier population
    assert found["stale_population_share"] == pytest.approx(1 / 3)
    assert (found["group_mean"], found["group_best"], found["group_solved"]) == (0.5, 0.75, 0.5)
    assert found["rollouts"] == evolved["rollouts"] and "tokens_fast_total" not in found  # the world counts no tokens
    again = weights.metrics()
    assert not {"rollouts", "group_mean", "reward_prompt_0"} & set(again)
    assert again["rollouts_fast_total"] == evolved["rollouts"]


def test_tokens_of_fast_rollouts_are_counted(tmp_path):
    weights, _ = fast_weights(tmp_path)
    world = World()
    metrics = weights.evolve(1, "w", make_problems(20), lambda cells: [replace(r, tokens=7) for r in world(cells)])
    assert metrics["tokens"] == 7 * world.rollouts == weights.metrics()["tokens_fast_total"]


@pytest.mark.parametrize(
    ("given", "data", "expected"),
    [
        ("Mine.", ["Yours."], "Mine."),
        (None, ["Yours.", "Yours."], "Yours."),
        (None, ["", ""], "You are a helpful assistant."),
    ],
)
def test_evolution_starts_from_the_config_else_the_data_else_the_default(given, data, expected):
    assert choose_seed(parse({"seed_prompt": given}), data).text == expected


def test_appended_prompts_start_from_a_line_of_their_own():
    assert choose_seed(parse({}), ["a", "b"], "append").text == "Follow the instructions carefully."
    assert choose_seed(parse({"seed_prompt": "Mine."}), ["a", "b"], "append").text == "Mine."


def test_several_system_messages_need_a_choice():
    with pytest.raises(ConfigError, match="fst.seed_prompt"):
        choose_seed(parse({}), ["a", "b"])


class Echo:
    """A reflection of the user's own."""

    def __init__(self, mark):
        self.mark = mark

    def propose(self, requests):
        return [f"{self.mark} {r.seed} {r.slot}" for r in requests]

    def describe(self):
        return "echo"


def test_a_reflection_of_the_users_own_by_dotted_path(tmp_path):
    spec = {"path": f"{__name__}.Echo", "kwargs": {"mark": "!"}}
    weights, lines = fast_weights(tmp_path, reflection=spec)
    weights.evolve(1, "w", make_problems(20), World())
    written = (tmp_path / "cycle_0000" / "candidates.jsonl").read_text()
    assert '"text": "! ' in written and any("echo" in line for line in lines)
    with pytest.raises(ValueError, match="fst.reflection.path"):
        fast_weights(tmp_path / "wrong", reflection={"path": "no_such_module.X"})


class Down:
    """A server that can be down. up: is it up?"""

    up = False

    def propose(self, requests):
        if not Down.up:
            raise ConnectionError("no key: Authorization: Bearer hunter2")
        return OfflineReflection().propose(requests)

    def describe(self):
        return "down"


class Pinged(Down):
    def ping(self):
        raise ReflectionFailed("set the key")


def test_a_reflection_that_cannot_work_is_refused_before_anything_is_spent(tmp_path):
    with pytest.raises(ReflectionFailed, match="set the key"):
        fast_weights(tmp_path, reflection={"path": f"{__name__}.Pinged"})
    assert not list(tmp_path.iterdir())


def test_a_phase_without_any_reflection_fails_as_the_config_says_and_a_new_start_asks_again(tmp_path, monkeypatch):
    spec = {"path": f"{__name__}.Down"}
    weights, lines = fast_weights(tmp_path / "a", reflection=spec, fast={"max_failed_phases": 1})
    metrics = weights.evolve(1, "w0", make_problems(20), World())
    assert metrics["phase_failed"] == 1 and metrics["reflection_failures"] == metrics["reflection_calls"] > 0
    told = [line for line in lines if "reflections failed" in line]
    assert len(told) == 1 and "ConnectionError: no key" in told[0] and "hunter2" not in "".join(lines)
    with pytest.raises(FastPhaseFailed, match="all .* reflections failed.*max_failed_phases"):
        weights.evolve(7, "w6", make_problems(20), World())

    weights, _ = fast_weights(tmp_path / "b", reflection=spec)
    with pytest.raises(FastPhaseFailed, match=r"its record: .*old_cycle_0000_1"):
        weights.evolve(1, "w0", make_problems(20), World())
    del weights
    monkeypatch.setattr(Down, "up", True)
    weights, _ = fast_weights(tmp_path / "b", reflection=spec)
    assert weights.evolve(1, "w0", make_problems(20), World())["reflection_failures"] == 0


def test_an_engine_that_delivered_nothing_is_asked_again_at_a_new_start(tmp_path):
    def broken(cells):
        return [Rollout(0.0, error="no route \x1b[31m with Bearer hunter2") for _ in cells]

    weights, _ = fast_weights(tmp_path)
    with pytest.raises(FastPhaseFailed, match=r"no route \\x1b\[31m with \*\*\*"):
        weights.evolve(1, "w0", make_problems(20), broken)
    del weights
    weights, _ = fast_weights(tmp_path)
    assert weights.evolve(1, "w0", make_problems(20), World())["rollouts"] > 0


def test_a_seed_prompt_over_the_cap_is_refused_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="fst.max_prompt_tokens.*has 6 tokens, the cap is 5"):
        fast_weights(tmp_path, Policy(5, lambda text: len(text.split()) + 1))
    assert not list(tmp_path.iterdir())
