"""What `fst check` says of a command, as a user sees it."""

import pytest

pytest.importorskip("verl")

from fst_verl import check, resolved  # noqa: E402
from typer.testing import CliRunner  # noqa: E402
from verl_commands import data_file, usable  # noqa: E402

from fst_plugin.cli import app  # noqa: E402


def fst_check(*words):
    done = CliRunner().invoke(app, ["check", *words], env={"COLUMNS": "300"})
    return done.exit_code, done.output


@pytest.fixture
def given(tmp_path):
    return usable(tmp_path)


def test_a_whole_command_is_checked_as_its_arguments_are(given):
    program = ["python3", "-m", "verl.trainer.main_ppo"]
    code, said = fst_check("uv", "run", *program, "--config-name", "ppo_megatron_trainer", *given)
    assert code == 0 and "no problems" in said
    assert "left out, as it only starts python: uv run" in said
    assert "accepted, and untested here: actor_rollout_ref.actor.strategy=megatron, trainer.device=cuda" in said


def test_a_command_that_forgot_the_group_is_told(given):
    code, said = fst_check(*given[1:])
    assert code == 0 and "+fst=default is not among the arguments: without it the run is plain verl" in said
    assert "is not among the arguments" not in fst_check(*given)[1]


ENGINE = (
    "trainer.n_gpus_per_node=8",
    "actor_rollout_ref.rollout.tensor_model_parallel_size=4",
    "actor_rollout_ref.rollout.max_num_seqs=256",
)


def test_unset_keys_are_printed_with_what_they_come_to(given):
    code, said = fst_check(*given, "data.train_batch_size=8", "fst.slow_steps=3", "fst.fast.passes=2.5", *ENGINE)
    assert code == 0
    for line in (
        "fst.seed_prompt: the default text: 'You are a helpful assistant.'",
        "fst.fast.anchors: at most 24 problems",
        "fst.fast.budget: at most 60 rollouts a fast phase",
        "fst.fast.rounds: 6 generations of new prompts",
    ):
        assert line in said


def test_a_set_key_comes_to_nothing_else(given):
    config = check.compose([*given, "fst.fast.budget=70", "fst.fast.anchors=5", "fst.fast.rounds=9"])
    found = resolved.unset_keys(check.fst_config(config), config)
    assert set(found) == {"fst.seed_prompt", "fst.max_prompt_tokens"}
    config = check.compose([*given, "fst.fast.anchors=5"])
    assert resolved.unset_keys(check.fst_config(config), config)["fst.fast.budget"].startswith("at most 25 rollouts")


def test_the_cap_that_is_printed_is_the_cap_of_the_run(given):
    config = check.compose(given)
    fst = check.fst_config(config)
    assert resolved.unset_keys(fst, config)["fst.max_prompt_tokens"] == f"{check.prompt_cap(fst, config)} tokens"


@pytest.mark.parametrize(
    ("system", "told"),
    [
        (("Answer in French.",), "the data's system message: 'Answer in French.'"),
        (("a", "b", "c"), "3 different system messages among the first 64 rows"),
        ((), "the default text: 'You are a helpful assistant.'"),
    ],
)
def test_the_seed_prompts_source_is_read_from_the_data(tmp_path, given, system, told):
    data_file(tmp_path / "train.parquet", rows=90, system=system)
    config = check.compose(given)
    assert resolved.unset_keys(check.fst_config(config), config)["fst.seed_prompt"] == told


def test_an_environments_system_prompt_is_the_seed(given):
    environment = ["+fst_env=default", "data.env.id=fst_envs:fst/HouseRules-v0", "data.env.system_prompt='Obey.'"]
    config = check.compose([*given, *environment])
    assert resolved.unset_keys(check.fst_config(config), config)["fst.seed_prompt"] == "data.env.system_prompt: 'Obey.'"


def test_a_key_is_looked_for_among_the_commands_own_variables(given, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    lm = ["fst.reflection.kind=lm", "fst.reflection.model=anthropic/some-model"]
    program = ["python3", "-m", "verl.trainer.main_ppo"]
    code, said = fst_check(*program, *given, *lm)
    assert code == 1 and "set the environment variable ANTHROPIC_API_KEY" in said
    assert fst_check("ANTHROPIC_API_KEY=abc123456", *program, *given, *lm)[0] == 0


def test_no_secret_of_an_address_is_printed(given):
    code, said = fst_check(
        *given, "fst.reflection.api_base=http://me:hunter2@host/v1", "+fst.mine='http://a:hunter2@b'"
    )
    assert code == 1 and "http://***@host/v1" in said and "fst.mine" in said and "hunter2" not in said


def test_what_a_config_holds_reaches_the_terminal_escaped(given):
    code, said = fst_check(*given, "+fst.mine='\x1b[31mred'")
    assert code == 1 and "\x1b[31m" not in said


def test_a_main_module_with_trainers_of_its_own_is_refused(given):
    code, said = fst_check("python3", "-m", "verl.experimental.one_step_off_policy.main_ppo", *given)
    assert code == 1 and "verl.experimental.one_step_off_policy.main_ppo: trains with trainers of its own" in said


def test_sweeps_and_several_processes_are_refused_in_one_line(given):
    assert fst_check("--multirun", *given) == (
        1,
        "--multirun sweeps over several runs: leave it out, and give the arguments of one run\n",
    )
    assert fst_check("torchrun", "-m", "verl.trainer.main_ppo", *given)[0] == 1


def test_a_value_that_points_nowhere_is_told_with_its_key(given):
    code, said = fst_check(*given, "algorithm.adv_estimator='${no.such.key}'")
    assert code == 1 and said.startswith("algorithm.adv_estimator: Interpolation key 'no.such.key' not found")


def test_a_config_that_is_not_of_an_rl_trainer_is_told(given, monkeypatch, tmp_path):
    (tmp_path / "own.py").write_text(
        "import hydra, fst_verl.config_groups\n@hydra.main(version_base=None)\ndef main(c): ...\nmain()\n"
    )
    monkeypatch.chdir(tmp_path)
    code, said = fst_check("python3", "own.py", "+trainer.nnodes=1", "+fst=default")
    assert code == 1 and "own.py --cfg job printed no config of verl's RL trainers: it lacks algorithm" in said
