"""The table of what works with what: what is refused, what is named as untested, and what the README says."""

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from fst_verl import check, support  # noqa: E402
from fst_verl.compat import names  # noqa: E402

ROOT = Path(__file__).parents[2]


def refused(*arguments):
    return {problem.key: problem.message for problem in support.refused(check.compose(list(arguments)))}


def test_readme_and_docs_print_this_table_and_its_reasons():
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/support.md"))
    assert support.markdown() in readme and support.markdown() in page and support.reasons() in page


def test_every_value_that_is_called_tested_names_a_test_that_makes_the_run():
    named = {name for row in support.TABLE for name in row.tested.values()}
    for module, _, test in (name.partition("::") for name in named):
        assert f"def {test}(" in (ROOT / "tests" / "verl" / "runs" / module).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("trainer.use_v1=false", "false picks verl's old trainers, which fast weights do not go with: set it to true"),
        ("algorithm.adv_estimator=remax", "plain verl fails, too"),
        ("skip.rollout_tq.enable=true", "under the prompts of an earlier run"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(argument, reason):
    found = refused(argument)
    assert list(found) == [argument.split("=")[0]] and reason in next(iter(found.values()))


def test_advantages_are_refused_exactly_if_verls_trainers_cannot_compute_them():
    from verl import DataProto
    from verl.trainer.ppo.core_algos import AdvantageEstimator
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    ones, rewards = torch.ones(8, 3), torch.tensor([[0.0, 0.0, float(i % 3)] for i in range(8)])
    tensors = {"rm_scores": rewards, "token_level_scores": rewards, "token_level_rewards": rewards}
    tensors |= {
        name: ones for name in ("response_mask", "rollout_log_probs", "old_log_probs", "ref_log_prob", "values")
    }
    uids = np.array(["a"] * 4 + ["b"] * 4, dtype=object)  # nothing else is read by a trainer's _compute_advantage
    algorithm = check.compose(["+algorithm.gdpo_reward_keys=[score]"]).algorithm

    def computed(name):
        batch = DataProto.from_dict({key: one.clone() for key, one in tensors.items()}, {"uid": uids})
        keys = [f"{uid}_{place % 4}_0" for place, uid in enumerate(uids)]
        try:
            compute_advantage_for_multi_trajectories(batch, keys, name, num_repeat=4, config=algorithm)
        except (AssertionError, KeyError, TypeError):
            return False
        return True

    (advantages,) = (row for row in support.TABLE if row.key == "algorithm.adv_estimator")
    assert {one.value for one in AdvantageEstimator if not computed(one.value)} == set(advantages.refused)


def test_rollouts_of_an_earlier_run_pass_by_the_hook_that_deals_prompts(monkeypatch):
    from verl.utils.skip import SkipManager

    cached = SimpleNamespace(is_enabled=lambda: True, steps=[1], maybe_load_and_inject=lambda step, uids: True)
    monkeypatch.setattr(SkipManager, "skip_instances", {"rollout_tq": cached})
    monkeypatch.setattr(SkipManager, "step", 1)
    called = []
    trainer = SimpleNamespace(_next_train_batch=lambda: {"uid": ["a"]}, _submit_batch_to_rollout=called.append)
    names.trainer_base.PPOTrainer._add_batch_to_generate(trainer)
    assert called == []  # and so without prompts: this is why it is refused


def test_what_was_never_run_here_is_accepted_and_named():
    config = check.compose(["actor_rollout_ref.rollout.name=sglang", "model_engine=megatron", "trainer.nnodes=4"])
    assert support.refused(config) == []
    assert support.untested(config, "verl.trainer.main_ppo") == [
        "actor_rollout_ref.actor.strategy=megatron",
        "actor_rollout_ref.rollout.name=sglang",
        "trainer.device=cuda",
        "trainer.nnodes=4",
        "trainer.n_gpus_per_node=8",
    ]


def test_where_a_reward_model_runs_is_asked_of_a_run_that_has_one():
    colocated = check.compose(["+fst_cpu=default", "reward.reward_model.enable=true"])
    assert support.untested(colocated, "verl.trainer.main_ppo") == ["reward.reward_model.enable_resource_pool=false"]
    apart = check.compose(
        ["+fst_cpu=default", "reward.reward_model.enable=true", "reward.reward_model.enable_resource_pool=true"]
    )
    assert support.untested(apart, "verl.trainer.main_ppo") == []


@pytest.mark.parametrize(
    ("where", "named"), [("/mnt/copies", []), ("hdfs://a/b", ["trainer.default_hdfs_dir=hdfs://a/b"])]
)
def test_copies_into_a_folder_were_tested_whatever_its_name_and_those_to_hdfs_were_not(where, named):
    plain = support.untested(check.compose([]), "verl.trainer.main_ppo")
    config = check.compose([f"trainer.default_hdfs_dir={where}"])
    assert [one for one in support.untested(config, "verl.trainer.main_ppo") if one not in plain] == named


def test_the_old_names_of_our_trainers_are_accepted_as_verls_own():
    config = check.compose(["trainer.v1.trainer_mode=fst_colocate_async", "+fst_cpu=default", "+fst=paper"])
    assert support.refused(config) == support.untested(config, "verl.trainer.main_ppo") == []


def test_an_engine_that_nobody_has_heard_of_is_untested_and_not_refused():
    config = check.compose(["actor_rollout_ref.rollout.name=tomorrows"])
    assert "actor_rollout_ref.rollout.name=tomorrows" in support.untested(config, "verl.trainer.main_ppo")


def test_what_our_own_tests_run_with_is_not_named():
    config = check.compose(["+fst_cpu=default", "+fst=paper", "trainer.v1.trainer_mode=colocate_async"])
    assert support.untested(config, "verl.trainer.main_ppo") == []


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("verl.experimental.one_step_off_policy.main_ppo", "trainers of its own"),
        ("verl.experimental.fully_async_policy.fully_async_main", "trainers of its own"),
        ("verl.trainer.sft_trainer_ray", "does not train by RL"),
        ("verl.trainer.main_generation_server", "does not train by RL"),
    ],
)
def test_main_modules_that_would_run_without_fast_weights_are_refused(module, reason):
    (problem,) = support.refused_module(module)
    assert problem.key == module and reason in problem.message


def test_a_main_module_of_ones_own_is_accepted_and_named():
    assert support.refused_module("recipe.dapo.main_dapo") == support.refused_module("verl.trainer.main_ppo") == []
    assert "main module recipe.dapo.main_dapo" in support.untested(check.compose([]), "recipe.dapo.main_dapo")
