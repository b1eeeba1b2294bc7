"""Real TRL trainings of the tiny policy, on CPU."""

from collections import Counter
from statistics import stdev

import pytest
from trl_kit import BATCH, FST, G, K, run

pytestmark = pytest.mark.trl

SAME = ("update", "weights", "problems", "prompts", "population", "cycle", "rewards", "advantages")


def by_update(trace, names=SAME):
    return {line["update"]: [line[name] for name in names] for line in trace}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of 8 slow steps over a dataset of 5 batches, with a checkpoint at every step."""
    return run(tmp_path_factory.mktemp("whole") / "run", steps=8, rows=5 * BATCH, save_strategy="steps", save_steps=1)


@pytest.mark.parametrize("fst", [None, {**FST, "enabled": False}])
def test_without_fast_weights_the_weights_are_trls_own_bit_for_bit(fst, tmp_path):
    ours, theirs = run(tmp_path / "ours", fst=fst, steps=3), run(tmp_path / "theirs", kind="GRPOTrainer", steps=3)
    assert ours["weights"] == theirs["weights"]
    assert [line["weights"] for line in ours["trace"]] == [line["weights"] for line in theirs["trace"]]
    assert theirs["weights"] != theirs["trace"][0]["weights"]  # they move


def test_a_group_has_every_prompt_and_one_advantage_group(whole):
    for line in whole["trace"]:
        assert len(set(line["population"])) == K
        for g in range(0, BATCH * G, G):
            assert len(set(line["problems"][g : g + G])) == 1
            assert line["prompts"][g : g + G] == line["population"] * (G // K)
            rewards = line["rewards"][g : g + G]
            mean, spread = sum(rewards) / G, stdev(rewards) + 1e-4
            wanted = [(reward - mean) / spread for reward in rewards]
            assert line["advantages"][g : g + G] == pytest.approx(wanted, abs=1e-3)


def test_a_cycle_begins_every_t_generation_batches(whole):
    assert [line["cycle"] for line in whole["trace"]] == [0, 0, 1, 1, 2, 2, 3, 3]
    begun = {h["step"]: h["fst/rollouts"] for h in whole["history"] if "fst/rollouts" in h}
    assert sorted(begun) == [1, 3, 5, 7] and min(begun.values()) > 0


def test_the_order_served_is_trls_own(whole, tmp_path):
    theirs = run(tmp_path / "theirs", kind="GRPOTrainer", steps=8, rows=5 * BATCH)
    assert [line["problems"] for line in whole["trace"]] == [line["problems"] for line in theirs["trace"]]


@pytest.mark.parametrize(("die_in", "last"), [(("phase", 2, 2), 4), (("step", 6), 6)])
def test_a_killed_run_goes_on_as_if_nothing_had_been(whole, die_in, last, tmp_path):
    """In a fast phase; and in a step of the second epoch, of which TRL alone would serve the first one's order."""
    out, saved = tmp_path / "run", {"save_strategy": "steps", "save_steps": 1}
    killed = run(out, steps=8, rows=5 * BATCH, die_in=die_in, **saved)
    checkpoint = out / f"checkpoint-{last}"
    assert checkpoint.exists() and not (out / f"checkpoint-{last + 1}").exists()
    resumed = run(out, steps=8, rows=5 * BATCH, resume=str(checkpoint), **saved)
    assert resumed["weights"] == whole["weights"]
    assert {**by_update(killed["trace"]), **by_update(resumed["trace"])} == by_update(whole["trace"])
    assert ("calls answered from the record" in resumed["log"]) == (die_in[0] == "phase")


def test_two_processes_hold_one_population_and_share_its_groups(tmp_path):
    """Groups lie across the processes, K does not divide G, and the policy itself reflects."""
    fst = {**FST, "population": 3, "reflection": {"kind": "policy"}, "fast": {"passes": 2}}
    size = {"per_device_train_batch_size": 10, "num_generations": 4, "save_strategy": "steps", "save_steps": 3}
    out = tmp_path / "run"
    found = run(out, fst=fst, processes=2, steps=4, rows=20, **size)
    resumed = run(out, fst=fst, processes=2, steps=4, rows=20, resume=str(out / "checkpoint-3"), **size)
    first, second = found["traces"]
    assert len(first) == len(second) == 4
    for one, other in zip(first, second, strict=True):
        assert [one[k] for k in ("population", "weights", "rewards")] == [
            other[k] for k in ("population", "weights", "rewards")
        ]
        problems, prompts = one["problems"] + other["problems"], one["prompts"] + other["prompts"]
        assert [len(set(problems[g : g + 4])) for g in range(0, 20, 4)] == [1] * 5
        sizes = Counter(prompts).values()
        assert max(sizes) - min(sizes) <= 1
    assert resumed["weights"] == found["weights"]


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": BATCH * G // 2},
        {"num_iterations": 2, "steps": 6},
        {"steps_per_generation": 2, "num_iterations": 2, "per_device_train_batch_size": BATCH * G // 2, "steps": 8},
    ],
)
def test_a_slow_step_is_a_generation_batch(settings, tmp_path):
    found = run(tmp_path / "run", **{"steps": 3, **settings})
    assert [line["batch"] for line in found["trace"]] == list(range(1, len(found["trace"]) + 1))
    assert [line["cycle"] for line in found["trace"]] == [0, 0, 1][: len(found["trace"])]


def test_a_run_resumed_between_two_updates_of_a_batch_counts_it_once(tmp_path):
    out, settings = tmp_path / "run", {"num_iterations": 2, "save_strategy": "steps", "save_steps": 1, "steps": 6}
    whole = run(out, **settings)
    resumed = run(out, resume=str(out / "checkpoint-3"), **settings)
    assert [line["batch"] for line in resumed["trace"]] == [2, 3]
    assert [line["problems"] for line in resumed["trace"]] == [line["problems"] for line in whole["trace"][1:]]
    assert resumed["trace"][0]["population"] == whole["trace"][1]["population"]


def test_lora_runs_and_resumes(tmp_path):
    out, settings = tmp_path / "run", {"lora": 4, "beta": 0.01, "save_strategy": "steps", "save_steps": 2, "steps": 3}
    whole = run(out, **settings)
    resumed = run(out, resume=str(out / "checkpoint-2"), **settings)
    assert resumed["weights"] == whole["weights"] and whole["trace"][-1]["cycle"] == 1


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"])
def test_every_loss_goes_with_fast_weights(loss, tmp_path):
    found = run(tmp_path / "run", steps=1, loss_type=loss, epsilon_high=4.0)
    assert found["trace"][0]["cycle"] == 0 and any("loss" in h for h in found["history"])
