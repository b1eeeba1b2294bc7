"""From which reward on an answer is solved: learnt from the rewards, or as the config says."""

from dataclasses import replace

import pytest
from cycles import fast_weights
from rule_world import SEED, World, gepa, make_problems, seed_population

from fst_plugin.prompts import Prompt
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rewards import RewardBar
from fst_plugin.rollouts import Rollout

DIGEST = Prompt(SEED).digest


def scaled(wrong, right):
    """The scripted world with these two rewards."""
    world = World()
    return lambda cells: [replace(r, score=right if r.score else wrong) for r in world(cells)]


@pytest.mark.parametrize(
    ("rewards", "solved"),
    [
        ([], []),
        ([0.0, 0.0], []),
        ([1.0, 1.0], []),  # of 1 perhaps, of 10 perhaps
        ([0.0, 0.5], [0.5]),
        ([1.0, 3.0, 1.0], [3.0]),
        ([-1.0, 0.0], [0.0]),
    ],
)
def test_the_best_of_differing_rewards_is_the_bar(rewards, solved):
    bar = RewardBar().after(rewards)
    assert [r for r in dict.fromkeys(rewards) if bar.solved(r)] == solved


def test_a_mean_of_solved_answers_is_solved_for_all_its_rounding():
    assert RewardBar().after([0.0, 0.1]).solved(sum([0.1] * 3) / 3 - 1e-16)


def test_a_configured_bar_stays_and_says_when_a_reward_is_above_it():
    bar = RewardBar(1.0)
    higher = bar.after([1.0, 3.0])
    assert higher.value == 1.0 and higher.exceeded and not bar.after([1.0]).exceeded
    assert "fst.fast.perfect_score=1" in higher.news(bar) and higher.after([4.0]).news(higher) is None


@pytest.mark.parametrize(("wrong", "right"), [(1.0, 3.0), (1.0, 10.0), (0.0, 0.5), (-1.0, 0.0)])
def test_a_phase_learns_at_any_scale_of_rewards(wrong, right):
    optimizer = gepa(OfflineReflection(), k=4, budget=240)
    found = optimizer.evolve(seed_population(), make_problems(48), scaled(wrong, right), cycle=0, seed=0)
    usual = optimizer.evolve(seed_population(), make_problems(48), World(), cycle=0, seed=0)
    assert found.population.digest == usual.population.digest != seed_population().digest
    assert found.metrics["reflection_calls"] == usual.metrics["reflection_calls"] > 0


def test_the_bar_is_told_when_it_is_set_or_rises_and_logged_as_a_metric(tmp_path):
    weights, lines = fast_weights(tmp_path)
    told = lambda: [line for line in lines if "solved" in line]  # noqa: E731
    weights.observe(1, "w", [("a", DIGEST, Rollout(0.0)), ("b", DIGEST, Rollout(0.0))])
    found = weights.metrics()
    assert found["group_solved"] == found["group_solved_mean"] == 0.0 and "perfect_score" not in found
    assert len(told()) == 1 and "every reward so far is 0" in told()[0]
    weights.observe(2, "w", [("a", DIGEST, Rollout(1.0)), ("a", DIGEST, Rollout(0.0)), ("b", DIGEST, Rollout(0.0))])
    found = weights.metrics()
    assert (found["perfect_score"], found["group_solved"], found["group_solved_mean"]) == (1.0, 0.5, 0.25)
    weights.observe(3, "w", [("a", DIGEST, Rollout(3.0)), ("b", DIGEST, Rollout(1.0))])
    found = weights.metrics()
    assert (found["perfect_score"], found["group_solved"]) == (3.0, 0.5)
    weights.observe(4, "w", [("a", DIGEST, Rollout(2.0)), ("b", DIGEST, Rollout(9.0, error="engine"))])
    assert weights.metrics()["perfect_score"] == 3.0 and len(told()) == 3
    assert "from a reward of 1 on" in told()[1] and "from a reward of 3 on" in told()[2]


def test_a_configured_bar_that_is_exceeded_is_told_once_also_over_a_restart(tmp_path):
    weights, lines = fast_weights(tmp_path, fast={"perfect_score": 1.0})
    weights.observe(1, "w", [("a", DIGEST, Rollout(1.0))])
    assert weights.metrics()["perfect_score_exceeded"] == 0.0 and not lines
    weights.observe(2, "w", [("a", DIGEST, Rollout(3.0))])
    assert weights.metrics()["perfect_score_exceeded"] == 1.0
    weights.save(tmp_path / "checkpoint", 2, [])
    again, more = fast_weights(tmp_path / "b", fast={"perfect_score": 1.0})
    again.restore(tmp_path / "checkpoint", 2, data_key="d", start_over="s")
    again.observe(3, "w", [("a", DIGEST, Rollout(4.0))])
    assert len([line for line in lines + more if "perfect_score" in line]) == 1


def test_a_resumed_run_has_the_same_bar(tmp_path):
    weights, _ = fast_weights(tmp_path / "a")
    weights.observe(1, "w", [("a", DIGEST, Rollout(1.0)), ("a", DIGEST, Rollout(3.0))])
    weights.save(tmp_path / "checkpoint", 1, [])
    again, _ = fast_weights(tmp_path / "b")
    again.restore(tmp_path / "checkpoint", 1, data_key="d", start_over="s")
    assert again.bar == weights.bar == RewardBar(None, (1.0, 3.0))


def test_a_phase_raises_the_bar_also_when_it_is_taken_over_from_before_a_restart(tmp_path):
    first, _ = fast_weights(tmp_path)
    first.evolve(1, "w", make_problems(20), scaled(1.0, 3.0))
    again, _ = fast_weights(tmp_path)
    again.evolve(1, "w", make_problems(20), None)  # nothing is left to roll out
    assert again.bar.seen == first.bar.seen == (1.0, 3.0) and again.state == first.state


def test_a_killed_phase_resumes_to_the_same_outcome_with_a_learnt_bar(tmp_path):
    whole, _ = fast_weights(tmp_path / "whole")
    whole.evolve(1, "w", make_problems(20), scaled(1.0, 3.0))
    world, left = scaled(1.0, 3.0), [2]

    def dying(cells):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return world(cells)

    killed, _ = fast_weights(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        killed.evolve(1, "w", make_problems(20), dying)
    resumed, lines = fast_weights(tmp_path / "killed")
    resumed.evolve(1, "w", make_problems(20), world)
    assert resumed.state == whole.state and any("answered from the record" in line for line in lines)
