"""Real TRL trainings of the tiny policy, on CPU."""

import json
from collections import Counter
from pathlib import Path
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
    begun = {h["step"]: h for h in whole["history"] if "fst/rollouts" in h}
    assert sorted(begun) == [1, 3, 5, 7] and begun[1]["fst/rollouts"] > 0
    assert min(h["fst/reflection_calls"] for h in begun.values()) > 0


def test_the_slow_phases_scores_are_free_in_the_next_fast_phase(whole):
    free = {h["step"]: h["fst/anchors_free"] for h in whole["history"] if "fst/anchors_free" in h}
    assert free[1] == 0 and min(free[3], free[5], free[7]) > 0


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


@pytest.mark.parametrize("kind", ["offline", "policy", "three"])
def test_two_processes_hold_one_population_and_share_its_groups(kind, tmp_path):
    """Groups lie across the processes; three prompts do not divide G."""
    three = kind == "three"
    fast = {"path": "trl_kit.Three"} if three else {}
    fst = {**FST, "population": 3, "reflection": {"kind": "offline" if three else kind}, "fast": fast}
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
        prompts = len(one["population"])
        assert prompts == 3 or not three  # what is found need not be of use
        problems, under = one["problems"] + other["problems"], one["prompts"] + other["prompts"]
        assert [len(set(problems[g : g + 4])) for g in range(0, 20, 4)] == [1] * 5
        sizes = Counter(under).values()
        assert len(sizes) == prompts and max(sizes) - min(sizes) <= 1
    assert resumed["weights"] == found["weights"]


def test_prompts_that_evolve_beside_the_steps_survive_a_kill(tmp_path):
    """Two cycles of four steps: the second one's prompts evolve beside the first."""
    fst = {**FST, "slow_steps": 4, "fast": {"when": "hybrid", "budget": 40, "records": 2}}
    saved = {"save_strategy": "steps", "save_steps": 1}
    whole = run(tmp_path / "whole", fst=fst, steps=8, rows=8 * BATCH, **saved)
    asked = {h["step"]: h["fst/beside_rollouts"] for h in whole["history"] if "fst/beside_rollouts" in h}
    assert asked[1] == 0 and asked[2] > 0 and not any(asked[step] for step in range(5, 9)), "no third cycle comes"
    (turned,) = [h for h in whole["history"] if "fst/beside" in h]
    assert turned["step"] == 5 and turned["fst/rollouts_late"] == 0
    assert [line["cycle"] for line in whole["trace"]] == [0, 0, 0, 0, 1, 1, 1, 1]
    killed = run(tmp_path / "run", fst=fst, steps=8, rows=8 * BATCH, die_in=("step", 3), **saved)
    again = run(
        tmp_path / "run", fst=fst, steps=8, rows=8 * BATCH, resume=str(tmp_path / "run" / "checkpoint-3"), **saved
    )
    assert again["weights"] == whole["weights"]
    assert {**by_update(killed["trace"]), **by_update(again["trace"])} == by_update(whole["trace"])
    two = run(tmp_path / "two", fst=fst, processes=2, steps=6, rows=8 * BATCH)
    assert two["traces"][0][-1]["population"] == two["traces"][1][-1]["population"]
    assert two["traces"][0][-1]["cycle"] == 1


@pytest.mark.parametrize("failed_phases", [0, 1])
def test_a_reward_function_that_raises_on_one_process_stops_all_with_its_error(failed_phases, tmp_path):
    """In the first fast phase; and, if training may go on without one, in the slow step after it."""
    fst = {**FST, "fast": {"max_failed_phases": failed_phases}}
    stopped = run(tmp_path / "run", fst=fst, processes=2, steps=2, broken_on=1, stops=True)
    first, second = stopped["errors"]
    assert "process 1: OSError: the grader is away" in first and "process 1: OSError: the grader is away" in second
    assert ("FastPhaseFailed" in first) == (failed_phases == 0)


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
    settings |= {"fst": {**FST, "slow_steps": 4}}
    whole = run(out, **settings)
    resumed = run(out, resume=str(out / "checkpoint-3"), **settings)
    assert [line["batch"] for line in resumed["trace"]] == [2, 3]
    assert [line["problems"] for line in resumed["trace"]] == [line["problems"] for line in whole["trace"][1:]]
    assert resumed["trace"][0]["population"] == whole["trace"][1]["population"]
    assert resumed["observed"] == whole["observed"] == 3
    assert resumed["scored"] == whole["scored"] and {step for step, *_ in whole["scored"]} == {1, 2, 3}


def test_lora_runs_and_resumes(tmp_path):
    out, settings = tmp_path / "run", {"lora": 4, "beta": 0.01, "save_strategy": "steps", "save_steps": 2, "steps": 3}
    whole = run(out, **settings)
    resumed = run(out, resume=str(out / "checkpoint-2"), **settings)
    assert resumed["weights"] == whole["weights"] and whole["trace"][-1]["cycle"] == 1


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"])
def test_every_loss_goes_with_fast_weights(loss, tmp_path):
    found = run(tmp_path / "run", steps=1, loss_type=loss, epsilon_high=4.0)
    assert found["trace"][0]["cycle"] == 0 and any("loss" in h for h in found["history"])


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """RL alone and FST with evaluations, as a comparison reads them."""
    folder = tmp_path_factory.mktemp("arms")
    settings = {"steps": 4, "val": 8, "eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True}
    settings |= {"per_device_eval_batch_size": 8, "num_generations_eval": 2, "beta": 0.01, "logging_steps": 2}
    found = {arm: run(folder / f"{arm}_0", fst={**FST, "enabled": arm == "fst"}, **settings) for arm in ("rl", "fst")}
    return folder, found["fst"]["history"]


def test_the_run_log_is_read_as_a_run(arms):
    from fst_plugin.analysis.costs import costs
    from fst_plugin.analysis.read import read

    folder, history = arms
    rl, fst = (read(str(folder / name)) for name in ("rl_0", "fst_0"))
    assert list(rl.reward()) == list(fst.reward()) == [0, 2, 4] and fst.samples == 2
    assert list(fst.reward(seed_prompt=True)) == [0, 2, 4] and rl.reward(seed_prompt=True) == {}
    assert rl.slow_rollouts() == fst.slow_rollouts() == {step: step * BATCH * G for step in (0, 2, 4)}
    assert fst.rollouts()[4] > rl.rollouts()[4]
    assert len(fst.population) == K and [cycle.finished for cycle in fst.cycles] == [True, True]
    assert list(fst.kl()) == list(rl.kl()) == [0, 2, 4] and fst.kl()[4] > 0.0
    taken = sum(2 * h["step_time"] for h in history if "step_time" in h)  # means of two steps
    assert sum(costs(fst).seconds().values()) == pytest.approx(taken)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["compare", "{0}/rl_0", "{0}/fst_0"], "fst"),
        (["report", "{0}/rl_0", "{0}/fst_0", "--out", "{0}/report.html"], "report.html"),
        (["prompts", "{0}/fst_0", "--best"], ""),
    ],
)
def test_the_commands_read_trl_runs(arms, command, said):
    from typer.testing import CliRunner

    from fst_plugin.cli import app

    done = CliRunner().invoke(app, [word.format(arms[0]) for word in command])
    assert done.exit_code == 0 and said in done.output, done.output


def test_fst_figures_are_in_trls_log(whole):
    steps = [h for h in whole["history"] if "loss" in h]
    assert [h["fst/cycle"] for h in steps] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [h["fst/rollouts_slow_total"] for h in steps] == [BATCH * G * i for i in range(1, 9)]
    assert all(f"fst/reward_prompt_{rank}" in h for h in steps for rank in range(K))


def test_the_best_checkpoint_comes_back_with_its_own_prompts(tmp_path):
    """The worst reward counts as the best here, so that it is not the last checkpoint's."""
    out, settings = tmp_path / "run", {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps"}
    settings |= {"save_steps": 1, "load_best_model_at_end": True, "metric_for_best_model": "eval_reward"}
    settings |= {"greater_is_better": False, "per_device_eval_batch_size": 8, "num_generations_eval": 2}
    found = run(out, fst={**FST, "slow_steps": 1}, steps=3, val=8, **settings)
    states = {path.name: json.loads((path / "fst" / "state.json").read_text()) for path in out.glob("checkpoint-*")}
    best = states[Path(found["best"]).name]
    assert best["cycle"] == found["cycle"] and found["cycle"] != max(state["cycle"] for state in states.values())


def test_a_checkpoint_without_fast_weights_is_refused(tmp_path):
    out, settings = tmp_path / "run", {"save_strategy": "steps", "save_steps": 1}
    run(out, fst=None, steps=1, **settings)
    with pytest.raises(AssertionError, match="holds no fast weights.*start over with a new output_dir"):
        run(out, steps=2, resume=str(out / "checkpoint-1"), **settings)


def test_another_seed_is_refused_on_resume(tmp_path):
    out, settings = tmp_path / "run", {"save_strategy": "steps", "save_steps": 1}
    run(out, steps=1, **settings)
    with pytest.raises(AssertionError, match="the coming problems are not those that it was saved with"):
        run(out, steps=2, seed=7, resume=str(out / "checkpoint-1"), **settings)


def test_resume_true_takes_the_newest_checkpoint(tmp_path):
    out, settings = tmp_path / "run", {"save_strategy": "steps", "save_steps": 1}
    run(out, steps=2, **settings)
    resumed = run(out, steps=3, resume=True, **settings)
    assert [line["update"] for line in resumed["trace"]] == [2] and resumed["trace"][0]["cycle"] == 1


def test_an_episode_of_several_turns_is_played_with_a_tool(tmp_path):
    """The tiny policy calls no tools: every episode ends without an answer, and says so."""
    found = run(tmp_path / "run", multi_turn=True, steps=1, fst={**FST, "fast": {"passes": 1}})
    assert found["trace"][0]["rewards"] == [0.0] * BATCH * G and found["trace"][0]["cycle"] == 0
    assert found["heard"] == ["No answer was given."]


def test_a_data_loader_with_workers_serves_the_same(tmp_path):
    plain = run(tmp_path / "plain", steps=3)
    workers = run(tmp_path / "workers", steps=3, dataloader_num_workers=1)
    assert workers["weights"] == plain["weights"]


def test_fast_weights_go_with_another_subclass_of_grpo_trainer(tmp_path):
    found = run(tmp_path / "run", kind="GMPO", steps=3)
    assert [line["cycle"] for line in found["trace"]] == [0, 0, 1]
