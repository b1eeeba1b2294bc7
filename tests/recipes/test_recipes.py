"""Every recipe composes, passes the check, holds the paper's settings, and costs what its table says."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from fst_verl import check  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from fst_plugin.cli import app  # noqa: E402

FOLDER = Path(__file__).parents[2] / "recipes" / "qwen3_8b_8gpu"
spec = importlib.util.spec_from_file_location("recipe_cost", FOLDER / "cost.py")
recipe_cost = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = recipe_cost  # a dataclass looks its module up there
spec.loader.exec_module(recipe_cost)
TASKS = sorted(path.parent.name for path in FOLDER.glob("*/run.sh"))


def config(task, *extra):
    return check.compose([a for a in recipe_cost.arguments(task, list(extra)) if not a.startswith("hydra.")])


def test_the_cost_table_knows_every_recipe():
    assert sorted(recipe_cost.TASKS) == TASKS and len(TASKS) >= 3


@pytest.mark.parametrize("task", TASKS)
def test_fst_check_finds_no_problem(task, tmp_path):
    given = with_files(task, users_files(task, tmp_path))
    out = CliRunner().invoke(app, ["check", "--no-show", *given])
    assert out.exit_code == 0 and "no problems" in out.output, out.output
    broken = CliRunner().invoke(app, ["check", "--no-show", *given, "fst.slow_steps=0"])
    assert broken.exit_code == 1 and "fst.slow_steps" in broken.output


@pytest.mark.parametrize("task", TASKS)
def test_a_file_that_is_not_there_is_told(task):
    out = CliRunner().invoke(app, ["check", "--no-show", *recipe_cost.arguments(task, [])])
    assert out.exit_code == 1 and "no such file" in out.output and "TRAIN" in out.output


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_settings(task):
    found = config(task)
    actor, rollout, fst = found.actor_rollout_ref.actor, found.actor_rollout_ref.rollout, found.fst
    assert (fst.slow_steps, fst.population, rollout.n, found.data.train_batch_size) == (6, 4, 8, 32)
    assert (fst.fast.budget, fst.fast.anchors) == (960, 192)
    assert (actor.policy_loss.loss_mode, actor.clip_ratio_low, actor.clip_ratio_high) == ("cispo", 1.0, 3.0)
    assert (actor.use_kl_loss, actor.kl_loss_coef, found.algorithm.use_kl_in_reward) == (True, 0.001, False)
    assert list(actor.optim.betas) == [0.9, 0.999] and actor.optim.lr_warmup_steps == 10
    assert actor.ppo_mini_batch_size == 32 and rollout.val_kwargs.n == 4
    assert found.trainer.n_gpus_per_node == 8 and found.trainer.logger == ["console", "file"]


@pytest.mark.parametrize("task", TASKS)
def test_verl_builds_its_own_configs_for_a_model_of_this_shape(task, tmp_path):
    """verl's validation, and its typed configs of actor, rollout and model, on a folder with Qwen3-8B's shape."""
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    qwen3_8b().save_pretrained(tmp_path)
    found = config(task, f"actor_rollout_ref.model.path={tmp_path}", "+actor_rollout_ref.model.load_tokenizer=false")
    validate_config(found, use_reference_policy=True, use_critic=False)
    model = omega_conf_to_dataclass(found.actor_rollout_ref.model)
    rollout = omega_conf_to_dataclass(found.actor_rollout_ref.rollout)
    assert model.hf_config.model_type == "qwen3"
    assert model.hf_config.num_attention_heads % rollout.tensor_model_parallel_size == 0
    longest = rollout.prompt_length + rollout.response_length
    assert longest <= model.hf_config.max_position_embeddings
    assert longest <= omega_conf_to_dataclass(found.actor_rollout_ref.actor).ppo_max_token_len_per_gpu


def qwen3_8b():
    """The shape of Qwen3-8B: a config without weights."""
    transformers = pytest.importorskip("transformers")
    return transformers.Qwen3Config(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        architectures=["Qwen3ForCausalLM"],
    )


ROWS = {
    "codeio": {"problem_description": "Double a number.", "ios": [{"input": 2, "output": 4}]},
    "math": {"problem": "What is 2 + 2?", "answer": "4"},
    "hover": {"claim": "It rains.", "label": "SUPPORTED", "num_hops": 3, "supporting_facts": [["Rain", 0]]},
    "physics": {"problem_text": "How far is a light second?", "answer_number": "3.0e8", "unit": "m"},
}


def users_files(task, folder):
    """Name of a file in the recipe's command -> a file of one row with the columns that the recipe names."""
    files = {}
    for name in recipe_cost.TASKS[task]:
        kind = name.split("_")[0].lower() if task == "continual" else task
        files[name] = folder / f"a {kind} file.jsonl"
        files[name].write_text(json.dumps(ROWS[kind]) + "\n")
    return files


def with_files(task, files):
    """The recipe's verl arguments with these files."""
    given = "\0".join(recipe_cost.arguments(task, []))
    for name, file in files.items():
        given = given.replace(f"'{name}'", f"'{file}'")
    return [argument for argument in given.split("\0") if not argument.startswith("hydra.")]


@pytest.mark.parametrize("task", TASKS)
def test_the_environment_reads_a_users_file(task, tmp_path):
    """Each recipe's environments, with the kwargs that the recipe gives them, on one row of the columns it names."""
    from fst_envs import make
    from omegaconf import OmegaConf

    if task in ("math", "continual"):
        pytest.importorskip("math_verify")
    node = OmegaConf.to_container(check.compose(with_files(task, users_files(task, tmp_path))).data.env, resolve=True)
    for stage in node["tasks"] or [node]:
        env = make(stage["id"], **stage["kwargs"])
        question, info = env.reset(options={"index": 0, "split": "train"})
        answer = env.unwrapped.gold(env.unwrapped.row)
        _, reward, done, _, told = env.step(answer)
        assert question and info["answer"] == answer and reward == 1.0 and done and "Correct" in told["feedback"]


def test_the_continual_recipe_changes_its_task_every_200_steps():
    tasks = config("continual").data.env.tasks
    assert [(task.id.split("/")[1], task.from_step) for task in tasks] == [
        ("HoVer-v0", 1),
        ("CodeIO-v0", 201),
        ("Physics-v0", 401),
    ]


def run_script(task, *arguments, **environment):
    return subprocess.run(
        [FOLDER / task / "run.sh", *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_what_follows_wins_and_the_reflection_model_is_passed_on():
    assert config("codeio", "fst.population=8", "data.train_batch_size=16").fst.population == 8
    out = run_script(
        "codeio", "M", "T", "V", "a=b", LAUNCH="printf %s\\n", REFLECTION_MODEL="openai/x"
    ).stdout.splitlines()
    assert "fst.reflection.kind=lm" in out and "fst.reflection.model=openai/x" in out and out[-1] == "a=b"


def test_too_few_arguments_are_told():
    done = run_script("hover", "MODEL", LAUNCH="echo")
    assert done.returncode == 2 and "usage:" in done.stderr and "TRAIN_FILE" in done.stderr


# -------------------------------------------------------------------------------------------------------------- cost


class Node(SimpleNamespace):
    def get(self, name):
        return getattr(self, name, None)


def test_the_cost_of_a_run_counted_by_hand():
    """10 steps of 4 problems x 8; T=4: three fast phases of 50; validated before, at 5, at 10: 3 x 6 x 2 x 2 arms."""
    found = SimpleNamespace(
        fst=SimpleNamespace(
            enabled=True,
            slow_steps=4,
            validate_seed=True,
            fast=SimpleNamespace(anchors=None, budget=50, passes=5, minibatch=3),
        ),
        actor_rollout_ref=SimpleNamespace(rollout=SimpleNamespace(n=8, val_kwargs=SimpleNamespace(n=2))),
        trainer=SimpleNamespace(total_training_steps=10, test_freq=5, val_before_train=True),
        data=SimpleNamespace(train_batch_size=4, max_response_length=100, env=Node(val_size=6)),
    )
    counted = recipe_cost.cost(found)
    assert (counted.slow, counted.fast, counted.validation, counted.reflections) == (320, 150, 72, 48)
    assert counted.tokens == (320 + 150 + 72) * 100 and recipe_cost.cost(found, 10).tokens == (320 + 150 + 72) * 10
    found.data.env.tasks = ["a", "b", "c"]
    assert recipe_cost.cost(found).validation == 3 * 72
    found.data.env.tasks, found.fst.enabled = None, False
    assert (recipe_cost.cost(found).fast, recipe_cost.cost(found).validation) == (0, 36)


def test_the_readmes_table_is_what_the_script_prints(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cost.py"])
    recipe_cost.main()
    written = (FOLDER / "README.md").read_text().split("<!-- cost -->\n")[1].split("<!-- /cost -->")[0]
    assert written == capsys.readouterr().out
