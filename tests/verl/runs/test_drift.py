"""Drift in real verl runs on CPU: two launches."""

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

COMMON = (
    "actor_rollout_ref.actor.use_kl_loss=true",
    "actor_rollout_ref.actor.kl_loss_coef=0",
    "actor_rollout_ref.actor.optim.lr=1e-2",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.rollout.val_kwargs.n=16",
    "trainer.total_training_steps=2",
    "trainer.val_before_train=true",
    "trainer.test_freq=1",
    "fst.drift=true",
)
NOISE = 1e-3
"""Nats a token by which two forward passes over the same weights may differ."""


def test_drift_is_nought_at_the_start_and_grows_as_the_weights_move(launch):
    run = launch(
        "fst",
        "+fst=default",
        "fst.population=2",
        "fst.slow_steps=2",
        "fst.max_prompt_tokens=64",
        "fst.reflection.kind=offline",
        "algorithm.adv_estimator=probe_grpo",
        *COMMON,
    ).finish()
    metrics = run.metrics()
    for key in ("fst/kl_to_base", "fst/kl_to_base_seed_prompt"):
        assert abs(metrics[0][key]) < NOISE
        assert metrics[2][key] > 10 * NOISE
    assert metrics[2]["fst/rollouts_slow_total"] == 2 * 4 * 4  # none of the drift's rollouts is among them


def test_plain_rl_is_measured_too_and_before_the_actor_is_updated(launch):
    """15 rollouts of each of 4 problems are no whole mini-batch, to which verl fills up only where it updates."""
    run = launch(
        "rl",
        "+fst=default",
        "fst.enabled=false",
        "algorithm.adv_estimator=probe_grpo",
        *COMMON,
        "actor_rollout_ref.rollout.val_kwargs.n=15",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=16",
        "trainer.critic_warmup=1",
    ).finish()
    metrics = run.metrics()
    assert abs(metrics[0]["fst/kl_to_base"]) < NOISE and metrics[2]["fst/kl_to_base"] > 10 * NOISE
    assert "fst/kl_to_base_seed_prompt" not in metrics[2]
