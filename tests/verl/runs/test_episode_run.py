"""Multi-turn episodes through real verl and vLLM on CPU: with fast weights and failed groups replaced, and without."""

import json

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

G, BATCH, BROKEN = 4, 4, 2
EPISODES = (
    "+fst_env=default",
    "data.env.id=probe_env:test/Probe-v0",
    f"+data.env.kwargs.broken=[{BROKEN}]",
    "data.env.multi_turn=true",
    "data.env.max_turn_tokens=4",
    "data.env.train_size=40",
    "data.env.val_size=4",
    "+data.env.episode.retries=1",
    "+data.env.episode.backoff_s=0",
    "data.train_files=train",
    "data.val_files=val",
    "data.max_response_length=128",
    "actor_rollout_ref.rollout.max_model_len=256",
    f"actor_rollout_ref.rollout.n={G}",
    "algorithm.adv_estimator=probe_grpo",
)


def episodes(run):
    return [json.loads(line) for line in (run.out / "episodes.jsonl").read_text().splitlines()]


def check_groups(run):
    """Whole groups only, with the rewards that the environment gave: 10 and a bit for each of three turns."""
    groups = [g for g in run.groups() if not g["uid"].startswith("pad")]  # verl fills a batch up with such rows
    assert groups and all(len(g["rewards"]) == G for g in groups)
    assert all(30 < reward < 31 for g in groups for reward in g["rewards"])
    return len(groups)


def test_episodes_with_fast_weights_and_a_failed_group_replaced(launch):
    run = launch(
        "episodes",
        *EPISODES,
        "+fst=default",
        "fst.population=2",
        "fst.slow_steps=2",
        "fst.fast.passes=3",
        "fst.fast.parents=frontier",  # meets every anchor, the broken one among them
        "fst.max_prompt_tokens=64",
        "fst.reflection.kind=offline",
        "trainer.v1.sampler.custom_sampler.name=null",  # verl's own buffer, which can replace failed groups
        "trainer.v1.sampler.sync_refill_failed_groups=true",
        "trainer.total_training_steps=3",
        "trainer.test_freq=3",
    ).finish()
    metrics = run.metrics()
    assert sorted(metrics) == [1, 2, 3]
    assert [m.get("training/rollout_failure/evicted_samples", 0) for _, m in sorted(metrics.items())] == [1, 0, 0]
    assert check_groups(run) == 3 * BATCH
    played = [e for e in episodes(run) if not e["fault"]]
    assert BROKEN not in {e["index"] for e in played if e["split"] == "train"}
    assert {len(e["texts"]) for e in played} == {3}
    assert all(m["num_turns/mean"] == 6 for m in metrics.values())

    # the engine and the actor give the sampled tokens the same probabilities, in every turn
    assert min(m["training/rollout_actor_probs_pearson_corr"] for m in metrics.values()) > 0.99

    # the fast phase scored on the episodes' own rewards, and on none of the broken one
    cycle = run.out / "checkpoints" / "fst" / "cycle_0000"
    prompts = json.loads((cycle / "population.json").read_text())["prompts"]
    scores = [score["mean"] for prompt in prompts for score in prompt["scores"].values()]
    assert scores and min(scores) > 30
    assert json.loads((cycle / "ledger.json").read_text())["metrics"]["rollouts_failed"] > 0
    assert f"Sum {BROKEN}." not in (cycle / "candidates.jsonl").read_text()
    assert metrics[3]["val-core/test/Probe-v0/reward/mean@1"] > 30
    assert not any("/acc/" in key for key in metrics[3])


def test_without_fast_weights_and_without_replacement_a_failed_group_is_left_out(launch):
    run = launch("dropped", *EPISODES, "trainer.total_training_steps=1").finish()
    assert sorted(run.metrics()) == [1]
    assert check_groups(run) == BATCH - 1
    assert "the server is gone" in run.text()
    faults = [e for e in episodes(run) if e["fault"]]
    assert faults and {e["index"] for e in faults} == {BROKEN}
