"""Drift on verl's own types with made-up log probabilities, against a KL worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("verl")

import torch  # noqa: E402
from fst_verl import batches as rows  # noqa: E402
from fst_verl import drift  # noqa: E402
from fst_verl.assignment import CONTEXT_LOOP  # noqa: E402
from fst_verl.compat import names  # noqa: E402
from fst_verl.validation import BEST, SEED, PairedLoader  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

# a policy that says A with p=0.8 and B with p=0.2, over a base of 0.5 each
A, B = (math.log(0.8), math.log(0.5)), (math.log(0.2), math.log(0.5))
KL = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)  # 0.1927 nats
SAMPLED = [A] * 8 + [B] * 2  # in just these proportions, the estimate has no noise


class World:
    """A trainer, its servers and its queue. said: arm -> the sampled tokens of one of its trajectories."""

    def __init__(self, monkeypatch, said, mode="sync", fast=True, **fst):
        import transfer_queue

        self.said, self.calls, self.sent, self.kept = said, [], [], set()
        data = {
            "raw_prompt": np.array([[{"role": "user", "content": "q"}]] * 2 + [None], dtype=object)[:2],
            "index": np.array([0, 1], dtype=object),
        }
        config = OmegaConf.create(
            {
                "fst": {"drift": True, **fst},
                "data": {},
                "actor_rollout_ref": {
                    "actor": {"ppo_mini_batch_size": 3},
                    "rollout": {"n": 4, "agent": {"default_agent_loop": "own"}},
                },
            }
        )
        loader = [data]
        if fast:
            arms = [BEST, SEED]
            loader = PairedLoader(
                loader, arms, lambda arm, inner, problem: {"inner": inner, "arm": arm, "split": "val"}, config
            )
        self.trainer = SimpleNamespace(
            config=config,
            use_reference_policy=True,
            trainer_mode=mode,
            global_steps=7,
            tokenizer=SimpleNamespace(eos_token_id=11),
            val_dataloader=loader,
            agent_loop_manager=SimpleNamespace(generate_sequences=self.sent.append),
            checkpoint_manager=SimpleNamespace(
                **{
                    name: lambda *a, name=name: self.calls.append(name)
                    for name in ("abort_replicas", "sleep_replicas", "update_weights", "resume_generation_replicas")
                }
            ),
            _balance_batch=self.balance,
            _compute_old_log_prob=lambda batch, metrics: self.scored("old", batch),
            _compute_ref_log_prob=lambda batch, metrics: self.scored("ref", batch),
        )
        monkeypatch.setattr(names, "upsample_batch", self.pad)
        monkeypatch.setattr(transfer_queue, "kv_batch_put", lambda **k: self.kept.update(k["keys"]))
        monkeypatch.setattr(transfer_queue, "kv_batch_get", self.fetch)
        monkeypatch.setattr(transfer_queue, "kv_list", self.listed)
        monkeypatch.setattr(transfer_queue, "kv_clear", lambda keys, partition_id: self.kept.difference_update(keys))

    def listed(self, partition_id):
        """All have ended, two sessions each."""
        uids = rows.column(self.sent[-1], "uid")
        keys = [*uids, *(f"{uid}_{session}_0" for uid in uids for session in (0, 1))]
        self.kept.update(keys)
        return {partition_id: {key: {"status": "finished"} for key in keys}}

    def pad(self, batch, batch_multiple, eos_token_id):
        assert eos_token_id == 11
        more = [f"pad{i}_0_0" for i in range(-len(batch.keys) % batch_multiple)]
        self.kept.update(more)
        return SimpleNamespace(keys=[*batch.keys, *more])

    def balance(self, batch, metrics):
        return SimpleNamespace(keys=batch.keys[::-1])

    def scored(self, what, batch):
        self.calls.append(what)
        assert len(batch.keys) % 12 == 0, "no whole mini-batches: 3 problems of 4 rollouts"
        return batch

    def fetch(self, keys, partition_id, select_fields):
        columns = rows.column(self.sent[-1], "fst")
        arm = {u: c.get("arm", BEST) for u, c in zip(rows.column(self.sent[-1], "uid"), columns, strict=True)}
        tokens = [self.said[arm[key.split("_")[0]]] if "pad" not in key else [(5.0, -5.0)] for key in keys]
        padded = [[*t, (9.0, -9.0)] for t in tokens]  # a last token that was not sampled

        def nested(values):
            return torch.nested.as_nested_tensor([torch.tensor(v) for v in values], layout=torch.jagged)

        return {
            "old_log_probs": nested([[p for p, _ in t] for t in padded]),
            "ref_log_prob": nested([[r for _, r in t] for t in padded]),
            "response_mask": nested([[1] * len(t) + [0] for t in tokens]),
        }


def test_the_kl_of_each_arm_is_the_one_worked_out_by_hand(monkeypatch):
    world = World(monkeypatch, {BEST: SAMPLED, SEED: [A]})
    found = drift.measure(world.trainer)
    assert found["fst/kl_to_base"] == pytest.approx(KL, abs=1e-6)
    assert found["fst/kl_to_base_seed_prompt"] == pytest.approx(math.log(1.6), abs=1e-6)
    assert not world.kept, "rows of ours are left in verl's queue"


def test_tokens_weigh_the_same_not_trajectories(monkeypatch):
    world = World(monkeypatch, {BEST: SAMPLED})
    monkeypatch.setattr(drift, "_batches", lambda trainer: [(0, [], {}), (1, [], {})])
    gaps = [[(BEST, torch.tensor([1.0, 1.0, 1.0]))], [(BEST, torch.tensor([5.0]))]]
    monkeypatch.setattr(drift, "_gaps", lambda trainer, batch, columns, arms: gaps[batch])
    assert drift.measure(world.trainer) == {"fst/kl_to_base": 2.0}


def test_rollouts_are_the_trainings_own_under_each_arms_prompt(monkeypatch):
    world = World(monkeypatch, {BEST: SAMPLED, SEED: SAMPLED})
    drift.measure(world.trainer)
    (batch,) = world.sent
    assert rows.column(batch, "agent_name") == [CONTEXT_LOOP] * 4
    sent = [(c["arm"], c["inner"], c["sampling"], c["on_error"]) for c in rows.column(batch, "fst")]
    assert sent == [(arm, "own", "training", "record") for arm in (BEST, BEST, SEED, SEED)]


def test_plain_rl_keeps_the_datas_own_chat(monkeypatch):
    from fst_verl.assignment import RowColumn

    world = World(monkeypatch, {BEST: SAMPLED}, fast=False, enabled=False)
    assert drift.measure(world.trainer) == {"fst/kl_to_base": pytest.approx(KL, abs=1e-6)}
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    (column, _) = rows.column(world.sent[0], "fst")
    assert column["inner"] == "own" and RowColumn(**column).assign(chat, 0, {}, ()).messages == chat


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("sync", ["sleep_replicas", "old", "ref", "update_weights"]),
        (
            "colocate_async",
            ["abort_replicas", "sleep_replicas", "old", "ref", "update_weights", "resume_generation_replicas"],
        ),
    ],
)
def test_servers_make_way_for_the_workers(monkeypatch, mode, expected):
    world = World(monkeypatch, {BEST: SAMPLED, SEED: SAMPLED}, mode)
    drift.measure(world.trainer)
    assert world.calls == expected


def test_servers_beside_others_make_way_as_verl_lets_them_and_the_weights_are_those_of_now(monkeypatch):
    world = World(monkeypatch, {BEST: SAMPLED, SEED: SAMPLED}, "separate_async")
    for name in ("switch_to_trainer", "switch_to_rollout"):
        setattr(world.trainer, name, lambda name=name: world.calls.append(name))
    world.trainer.local_trigger_step = 3  # of 4, for which verl would take the weights of before the step
    world.trainer._compute_old_log_prob = lambda batch, metrics: world.scored(world.trainer.local_trigger_step, batch)
    drift.measure(world.trainer)
    assert world.calls == ["switch_to_trainer", 0, "ref", "switch_to_rollout"]


def test_off_by_default_and_refused_without_a_reference(monkeypatch):
    world = World(monkeypatch, {}, drift=False)
    assert drift.measure(world.trainer) == {} and not world.sent
    world = World(monkeypatch, {})
    world.trainer.use_reference_policy = False
    with pytest.raises(ValueError, match="use_kl_loss=true"):
        drift.measure(world.trainer)


def test_the_check_tells_what_drift_needs():
    from fst_verl import check

    config = check.compose(["actor_rollout_ref.rollout.n=8", "fst.drift=true"])
    assert [p.key for p in check.problems(config)] == ["fst.drift"]
    config.actor_rollout_ref.actor.use_kl_loss = True
    assert check.problems(config) == []
    config.fst.enabled = False  # plain RL
    assert check.problems(config) == []
