"""The check of a whole verl config. Needs verl, starts nothing."""

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from fst_verl import check, hydra_door  # noqa: E402
from fst_verl.support import POOL_KEY  # noqa: E402
from stub_lm import Reply, stub_lm  # noqa: E402
from typer.testing import CliRunner  # noqa: E402
from verl_commands import usable  # noqa: E402

from fst_plugin.cli import app  # noqa: E402


def keys(*arguments):
    return {p.key for p in check.problems(check.compose(["actor_rollout_ref.rollout.n=8", *arguments]))}


def test_a_sound_config_has_no_problems():
    assert keys() == set() and keys("+fst=paper") == set()


@pytest.mark.parametrize(
    "argument, key",
    [
        ("fst.population=0", "fst.population"),
        ("actor_rollout_ref.rollout.n=null", "actor_rollout_ref.rollout.n"),
        ("fst.seed_prompt='say ${x}'", "fst.seed_prompt"),
        ("fst.max_prompt_tokens=4", "fst.max_prompt_tokens"),
        ("fst.reflection.kind=lm", "fst.reflection.model"),
        ("trainer.v1.trainer_mode=snyc", "trainer.v1.trainer_mode"),
        ("trainer.use_v1=false", "trainer.use_v1"),
        ("fst.context.path=nowhere.Provider", "fst.context.path"),
        ("+fst_env=default", "data.env.id"),
        ("+fst_cpu=default algorithm.filter_groups.enable=true", "algorithm.filter_groups.enable"),
        (
            "+fst_cpu=default trainer.v1.sampler.sync_refill_failed_groups=true",
            "trainer.v1.sampler.sync_refill_failed_groups",
        ),
        (
            "+fst=paper actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean",
            "actor_rollout_ref.actor.loss_agg_mode",
        ),
        (
            "+fst=paper algorithm.rollout_correction.bypass_mode=true algorithm.rollout_correction.rollout_rs=token_k1",
            "algorithm.rollout_correction.rollout_rs",
        ),
        ("trainer.val_only=true trainer.val_before_train=false", "trainer.val_before_train"),
        ("actor_rollout_ref.actor.use_prefix_grouper=true", "actor_rollout_ref.actor.use_prefix_grouper"),
    ],
)
def test_each_problem_is_told_by_its_key(argument, key):
    assert keys(*([argument] if "'" in argument else argument.split())) == {key}


HYBRID = ("fst.fast.when=hybrid", "fst.slow_steps=5")
ASYNC = "trainer.v1.trainer_mode=colocate_async"
MODEL = "reward.reward_model.enable=true"


@pytest.mark.parametrize(
    "arguments, told",
    [
        (HYBRID, set()),
        ((*HYBRID, ASYNC), {"fst.slow_steps"}),  # one batch ahead, one step for scores, two for each of two batches
        ((*HYBRID, ASYNC, "trainer.v1.colocate_async.num_warmup_batches=0"), set()),
        ((*HYBRID, ASYNC, "trainer.v1.colocate_async.num_warmup_batches=1.5", "fst.slow_steps=6"), {"fst.slow_steps"}),
        ((*HYBRID, MODEL, "reward.reward_model.enable_resource_pool=false"), {POOL_KEY}),
        (("fst.slow_steps=5", MODEL, "reward.reward_model.enable_resource_pool=false"), set()),
    ],
)
def test_what_cannot_evolve_beside_the_steps_is_told_by_its_key(arguments, told):
    assert keys(*arguments) == told


OWN_REWARD = "reward.custom_reward_function.path=reward.py"


@pytest.mark.parametrize(
    "arguments, told",
    [
        ((MODEL, OWN_REWARD), {POOL_KEY}),
        ((MODEL,), set()),
        ((MODEL, OWN_REWARD, f"{POOL_KEY}=true"), set()),
        ((MODEL, OWN_REWARD, "reward.reward_manager.source=importlib"), set()),  # may ask for less
        ((OWN_REWARD,), set()),
    ],
)
def test_a_reward_function_that_would_be_handed_half_a_row_is_told(arguments, told):
    assert keys(*arguments) == told


def test_verls_reward_managers_ask_for_what_its_trainers_leave_out_next_to_a_reward_model():
    import inspect

    from fst_verl.compat import names
    from verl.experimental.reward_loop.reward_manager import registry

    handed_over = inspect.getsource(names.trainer_base.PPOTrainer._compute_reward_colocate)
    assert 'fields = ["prompts", "responses", "raw_prompt"]' in handed_over
    for manager in registry.REWARD_MANAGER.values():
        assert 'non_tensor_batch["data_source"]' in inspect.getsource(sys.modules[manager.__module__])


def test_all_problems_at_once():
    assert keys("fst.population=0", "fst.max_prompt_tokens=4", "fst.slow_steps=0") == {
        "fst.population",
        "fst.max_prompt_tokens",
        "fst.slow_steps",
    }


@pytest.mark.parametrize("g, k", [(5, 4), (8, 3), (6, 4), (2, 4)])
def test_any_group_size_goes_with_any_population(g, k):
    assert keys(f"actor_rollout_ref.rollout.n={g}", f"fst.population={k}") == set()


def test_groups_smaller_than_the_population_are_fine():
    assert keys("actor_rollout_ref.rollout.n=1", "algorithm.adv_estimator=gae") == set()


def test_a_bad_config_ends_the_run_before_verl_sees_it():
    config = check.compose(["fst.slow_steps=0"])
    with pytest.raises(SystemExit, match="fst.slow_steps"):
        hydra_door.FSTCallback().on_job_start(config)


def test_a_main_module_that_trains_without_ours_ends_the_run(monkeypatch):
    main = SimpleNamespace(__spec__=SimpleNamespace(name="verl.experimental.one_step_off_policy.main_ppo"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(SystemExit, match="verl.experimental.one_step_off_policy.main_ppo: trains with trainers of its"):
        hydra_door.FSTCallback().on_job_start(check.compose([]))


def test_the_command_prints_config_and_problems(tmp_path):
    good = CliRunner().invoke(app, ["check", *usable(tmp_path), "fst.slow_steps=5"])
    assert good.exit_code == 0 and "slow_steps: 5" in good.output and "no problems" in good.output
    bad = CliRunner().invoke(app, ["check", *usable(tmp_path), "fst.slow_steps=0"])
    assert bad.exit_code == 1 and "fst.slow_steps" in bad.output


def test_the_command_shows_no_secret():
    secrets = ["fst.reflection.api_base=http://me:hunter2@host/v1", "+fst.reflection.kwargs.headers.x-api-key=hunter3"]
    out = CliRunner().invoke(app, ["check", *secrets, "+fst.password=hunter4", "+fst.slow_step=sk-proj-hunter5hunter5"])
    assert "http://***@host/v1" in out.output and "x-api-key: '***'" in out.output and "fst.slow_step" in out.output
    assert "hunter" not in out.output


def test_the_command_asks_the_reflection_lm_if_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    answers = [Reply("no such model", status=404), Reply("<prompt>New.</prompt>")]
    with stub_lm(lambda number, asked: answers[number]) as stub:
        server = [f"fst.reflection.api_base={stub.url}", "fst.reflection.kind=lm", "fst.reflection.model=openai/stub"]
        command = ["check", "--reflect", "--no-show", *usable(tmp_path), *server]
        bad = CliRunner().invoke(app, command)
        assert (
            bad.exit_code == 1 and "fst.reflection: " in bad.output and "no such model" in " ".join(bad.output.split())
        )
        good = CliRunner().invoke(app, command)
        assert good.exit_code == 0 and "no problems" in good.output and len(stub.asked) == 2


def test_arguments_that_do_not_compose_are_told():
    out = CliRunner().invoke(app, ["check", "no.such.key=1"])
    assert out.exit_code == 1 and "no.such.key" in out.output.replace("\n", "") or "Key 'no'" in out.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data.env.id=fst_envs:fst/NoSuch-v0"], "NoSuch"),
        (["data.env.id=no_such_module:x/Y-v0"], "no_such_module"),
        (["data.env.id=fst_envs:fst/HouseRules-v0", "+data.env.kwargs.bogus=3"], "bogus"),
    ],
)
def test_an_environment_that_cannot_be_made_is_told(arguments, told):
    from fst_verl.check import compose, environment

    (problem,) = environment(compose(["+fst=default", "+fst_env=default", *arguments]))
    assert problem.key == "data.env" and told in problem.message
    fine = ["+fst=default", "+fst_env=default", "data.env.id=fst_envs:fst/HouseRules-v0"]
    assert environment(compose(fine)) == []


def test_an_environment_that_goes_on_after_one_answer_needs_episodes():
    several = ["+fst_env=default", "data.env.id=fst_envs:fst/SecondTry-v0"]
    (problem,) = check.environment(check.compose(several))
    assert problem.key == "data.env.multi_turn" and "goes on after one answer" in problem.message
    assert check.environment(check.compose([*several, "data.env.multi_turn=true"])) == []


@pytest.mark.parametrize("reward", [True, False])
@pytest.mark.parametrize("loss", [True, False])
def test_the_reference_policy_is_needed_where_verl_says_so(reward, loss):
    from verl.trainer.ppo.utils import need_reference_policy

    keys = (f"algorithm.use_kl_in_reward={reward}", f"actor_rollout_ref.actor.use_kl_loss={loss}")
    config = check.compose(list(keys))
    assert check.needs_reference_policy(config) == need_reference_policy(config) == (reward or loss)
