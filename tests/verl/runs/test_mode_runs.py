"""Trainer modes beside verl's two colocated ones, in real verl runs on CPU: three launches."""

import json
import re

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

from test_runs import BATCH, FST, K, batch_of, prompts_of, slow_rows, template_ids  # noqa: E402

NOISE = 1e-3
"""By which probabilities, or nats a token, of the same weights may differ in engine and trainer."""


def of_prompts(world, group, prompts):
    """Did every session of a group run under its own of these prompts?"""
    return all(
        entry["ids"] == template_ids(world, prompts[entry["session"] % len(prompts)], entry["index"]) for entry in group
    )


def test_with_servers_of_their_own_a_killed_run_goes_on_and_rollouts_under_way_keep_their_prompts(world, launch):
    arguments = [
        *FST,
        "+fst_cpu=separate_async",
        "trainer.v1.separate_async.parameter_sync_step=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        "actor_rollout_ref.actor.optim.lr=1e-2",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.actor.kl_loss_coef=0",
        "actor_rollout_ref.rollout.calculate_log_probs=true",
        "actor_rollout_ref.rollout.val_kwargs.n=4",
        "fst.drift=true",
        "trainer.val_before_train=true",
        "trainer.test_freq=2",
        "trainer.save_freq=2",
        "trainer.total_training_steps=4",
    ]
    run = launch("separate", *arguments, PROBE_HOLD=str(2 * BATCH))  # the third batch never comes back
    run.kill_when(lambda: 2 in run.metrics())
    metrics = run.metrics()
    # a step's parts are trained on as rolled out with the weights of before the step, which the actor had put aside
    assert metrics[1]["training/rollout_probs_diff_mean"] < NOISE / 100
    assert abs(metrics[0]["fst/kl_to_base"]) < NOISE < 10 * NOISE < metrics[2]["fst/kl_to_base"]
    state = json.loads((run.out / "checkpoints" / "global_step_2" / "fst" / "state.json").read_text())
    assert len(state["rewards"]) == 2  # a step's parts are observed as one
    first = [prompt["text"] for prompt in state["population"]["prompts"]]
    assert first == prompts_of(run, 0) and len(first) == K

    run = launch("separate", *arguments).finish()
    metrics = run.metrics()
    assert sorted(metrics) == [2, 3, 4] and metrics[4]["fst/cycle"] == 1
    assert metrics[4]["fst/rollouts_slow_total"] == 5 * BATCH * 4  # one batch is on its way; none is counted twice
    second = prompts_of(run, 1)
    assert second != first
    groups = {group[0]["index"]: group for groups in slow_rows(run).values() for group in groups}
    assert all(of_prompts(world, groups[index], first) for index in (*batch_of(1), *batch_of(2), *batch_of(3)))
    assert all(of_prompts(world, groups[index], second) for index in batch_of(4))
    # sent anew with the weights of step 2, which the servers got from the trainer, and trained on with just these
    assert metrics[3]["training/rollout_probs_diff_mean"] < NOISE / 100
    assert metrics[2]["fst/kl_to_base"] > 10 * NOISE  # validated before it goes on


def test_without_servers_on_the_trainers_devices_every_group_runs_under_the_evolved_prompts(world, launch):
    run = launch(
        "servers_apart",
        *FST,
        "+fst_cpu=separate_async",
        "actor_rollout_ref.hybrid_engine=false",
        "trainer.v1.separate_async.parameter_sync_step=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.actor.kl_loss_coef=0",
        "algorithm.adv_estimator=gpg",
        "fst.drift=true",
        "trainer.test_freq=2",
        "trainer.total_training_steps=4",
        VERL_LOGGING_LEVEL="WARN",  # else plain verl fails, too
    ).finish()
    metrics = run.metrics()
    assert sorted(metrics) == [1, 2, 3, 4] and metrics[4]["fst/cycle"] == 1
    assert len(set(re.findall(r"vLLMHttpServer pid=(\d+)", run.text()))) == 1  # the trainer has none of its own
    assert "val-core/sums/seed_prompt/reward/mean@1" in metrics[2] and "fst/kl_to_base" in metrics[2]
    groups = {group[0]["index"]: group for groups in slow_rows(run).values() for group in groups}
    first, second = prompts_of(run, 0), prompts_of(run, 1)
    assert all(of_prompts(world, groups[index], first) for step in (1, 2) for index in batch_of(step))
    late = [groups[index] for step in (3, 4) for index in batch_of(step)]  # some were under way as prompts changed
    assert all(of_prompts(world, group, first) or of_prompts(world, group, second) for group in late)


def test_a_mode_of_another_package_needs_no_word_from_us(world, launch):
    run = launch(
        "own",
        *FST,
        "trainer.v1.trainer_mode=own_mode",
        "trainer.total_training_steps=2",
        VERL_USE_EXTERNAL_MODULES="fst_verl.plugin,probe,own_mode",  # the CPU platform first
    ).finish()
    assert sorted(run.metrics()) == [1, 2] and run.metrics()[2]["fst/rollouts_slow_total"] == 2 * BATCH * 4
    assert (run.out / "own_steps.txt").read_text().split() == ["1", "2"]
    prompts = prompts_of(run, 0)
    groups = [group for groups in slow_rows(run).values() for group in groups]
    assert {group[0]["index"] for group in groups} == batch_of(1) | batch_of(2)
    assert all(of_prompts(world, group, prompts) for group in groups)
