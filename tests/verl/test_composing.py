"""The config of a command is the one that Hydra would hand to its main function, and verl is not imported for it.

The kinds of command lines are those of the launch scripts in verl's repository: 74 of them compose in plain verl 0.9.1.
"""

import ast
import json
import subprocess
import sys

import pytest

pytest.importorskip("verl")

from fst_verl import check, composing  # noqa: E402
from fst_verl.command_line import Command  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

MEGATRON = ("actor_rollout_ref.actor.strategy", "megatron")

KINDS = {
    # kind: (words, key, the value that it must have)
    "arguments alone": ([], "algorithm.adv_estimator", "gae"),
    "a folder beside the main module": (["--config-path=config", "--config-name=ppo_trainer.yaml"], "data.seed", None),
    "Megatron by its config's name": (
        ["--config-path", "./config", "--config-name", "ppo_megatron_trainer"],
        *MEGATRON,
    ),
    "Megatron, short flags": (["-cn", "ppo_megatron_trainer"], *MEGATRON),
    "Megatron, short and joined": (["-cn=ppo_megatron_trainer.yaml"], *MEGATRON),
    "Megatron, flags last": (["data.seed=1", "--config-name=ppo_megatron_trainer"], *MEGATRON),
    "Megatron by its engine": (["model_engine=megatron"], *MEGATRON),
    "VeOmni": (["model_engine=veomni"], "actor_rollout_ref.actor.strategy", "veomni"),
    "SGLang": (["actor_rollout_ref.rollout.name=sglang"], "actor_rollout_ref.rollout.name", "sglang"),
    "several turns": (
        ["actor_rollout_ref.rollout.multi_turn.enable=True", "actor_rollout_ref.rollout.multi_turn.format=hermes"],
        "actor_rollout_ref.rollout.multi_turn.format",
        "hermes",
    ),
    "LoRA": (["actor_rollout_ref.model.lora_rank=32"], "actor_rollout_ref.model.lora_rank", 32),
    "a list in quotes": (["trainer.logger=['console','wandb']"], "trainer.logger", ["console", "wandb"]),
    "two files": (['data.train_files=["/a.parquet", "/b.parquet"]'], "data.train_files", ["/a.parquet", "/b.parquet"]),
    "a dollar sign": (["fst.seed_prompt='costs \\${5}'"], "fst.seed_prompt", "costs ${5}"),
    "quotes within quotes": (["""fst.seed_prompt='it\\'s "so"'"""], "fst.seed_prompt", """it's "so\""""),
    "an interpolation": (["data.seed=${trainer.nnodes}"], "data.seed", 1),
    "a short prompt": (["data.max_prompt_length=24"], "data.max_prompt_length", 24),
    "a plus sign for a new key": (["+data.mine.x=1"], "data.mine.x", 1),
    "a removed key": (["~trainer.esi_redundant_time"], "trainer.nnodes", 1),
    "the paper's settings": (["+fst=paper"], "algorithm.adv_estimator", "fst_grpo"),
    **{f"G={g}": ([f"actor_rollout_ref.rollout.n={g}"], "actor_rollout_ref.rollout.n", g) for g in (1, 2, 5, 12, 16)},
    **{
        name: ([f"algorithm.adv_estimator={name}"], "algorithm.adv_estimator", name)
        for name in ("gae", "grpo", "rloo", "reinforce_plus_plus", "opo", "gpg", "grpo_passk")
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_command_line_is_accepted_with_our_own_defaults(kind):
    words, key, value = KINDS[kind]
    for given in (words, ["python3", "-m", "verl.trainer.main_ppo", *words]):
        config = composing.compose(Command.parse(given))
        assert OmegaConf.select(config, key) == value
        assert "hydra" not in config and check.problems(config) == []


def test_remax_is_refused_for_a_reason_of_the_table():
    (problem,) = check.problems(composing.compose(["algorithm.adv_estimator=remax"]))
    assert problem.key == "algorithm.adv_estimator" and "reward baselines" in problem.message


@pytest.fixture
def own_folder(tmp_path):
    """A config folder of a user's own, which extends verl's as their recipes do."""
    (tmp_path / "mine.yaml").write_text(
        f"hydra:\n  searchpath: [file://{composing.source_of('verl.trainer.main_ppo').parent / 'config'}]\n"
        "defaults: [ppo_trainer, _self_]\ndata: {seed: 77}\n"
    )
    return tmp_path


def test_a_config_folder_of_ones_own_is_read(own_folder):
    words = [f"--config-path={own_folder}", "--config-name=mine", "data.train_batch_size=8"]
    config = composing.compose(words)
    assert (config.data.seed, config.data.train_batch_size, config.fst.population) == (77, 8, 4)
    assert check.problems(config) == []


def test_a_folder_is_added_to_verls_own(own_folder):
    assert composing.compose(["--config-dir", str(own_folder), "--config-name=mine"]).data.seed == 77


def test_a_search_path_among_the_arguments_is_kept(own_folder):
    (own_folder / "data").mkdir()
    (own_folder / "data" / "small.yaml").write_text("defaults: [legacy_data, _self_]\ntrain_batch_size: 3\n")
    config = composing.compose([f"hydra.searchpath=[file://{own_folder}]", "data=small"])
    assert config.data.train_batch_size == 3 and check.problems(config) == []


def test_a_config_file_may_choose_the_group_itself(own_folder):
    (own_folder / "chosen.yaml").write_text(
        (own_folder / "mine.yaml").read_text().replace("ppo_trainer,", "ppo_trainer, {fst: paper},")
    )
    command = Command.parse([f"--config-path={own_folder}", "--config-name=chosen", "fst.population=3"])
    full, config = composing.complete(command)
    assert full == command and config.fst.population == 3 and config.algorithm.adv_estimator == "fst_grpo"


@pytest.mark.parametrize("words", [["no.such.key=1"], ["--config-name=nothing"], ["a=[1"], ["--config-dir=/nowhere"]])
def test_what_does_not_compose_is_told_in_hydras_words(words):
    with pytest.raises(ValueError, match="the arguments do not compose"):
        composing.compose(words)


RECIPE = """
import hydra
print("imported: noise on the screen")

@hydra.main(config_path="settings", config_name="recipe", version_base=None)
def main(config):
    open("started", "w").write("it ran")

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def recipe(own_folder, monkeypatch):
    """A package with a main module of its own, in the current folder."""
    (own_folder / "recipe" / "settings").mkdir(parents=True)
    (own_folder / "recipe" / "__init__.py").write_text("")
    (own_folder / "recipe" / "main_own.py").write_text(RECIPE)
    (own_folder / "recipe" / "main_other.py").write_text("open('started', 'w').write('it ran')")
    text = "trainer: {nnodes: 1}\ndata:\n  seed: ${trainer.nnodes}\nalgorithm: {}\nactor_rollout_ref: {}\n"
    (own_folder / "recipe" / "settings" / "recipe.yaml").write_text(text)
    monkeypatch.chdir(own_folder)
    return own_folder


def test_another_main_module_is_asked_for_its_config_and_not_run(recipe):
    for program in (["-m", "recipe.main_own"], ["recipe/main_own.py"]):
        command = Command.parse(["python3", *program, "+data.x=5", "trainer.nnodes=2"])
        config = composing._there(command)
        assert (config.data.seed, config.data.x) == (2, 5) and not (recipe / "started").exists()


def test_a_program_that_is_not_hydras_is_refused_and_not_run(recipe):
    with pytest.raises(ValueError, match="recipe.main_other does not use hydra.main"):
        composing.compose(Command.parse(["python3", "-m", "recipe.main_other"]))
    with pytest.raises(ValueError, match="there is no such program"):
        composing.compose(Command.parse(["python3", "recipe/nothing.py"]))
    assert not (recipe / "started").exists()


def test_a_verl_with_other_plug_ins_is_asked_itself(monkeypatch):
    asked = []
    monkeypatch.setattr(composing, "_there", lambda command: asked.append(command) or OmegaConf.create({}))
    composing.compose(["data.seed=1"])
    assert not asked
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "theirs")
    composing.compose(["data.seed=1"])
    assert [command.overrides for command in asked] == [("+fst=default", "data.seed=1")]


def test_verls_main_module_still_names_the_config_that_is_read():
    tree = ast.parse(composing.source_of("verl.trainer.main_ppo").read_text())
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    named = {k.arg: ast.literal_eval(k.value) for k in main.decorator_list[0].keywords}
    assert (named["config_path"], named["config_name"]) == (composing.CONFIG_PATH, composing.CONFIG_NAME)


def test_what_is_read_is_what_verls_main_module_would_be_given():
    command = Command.parse(["+fst=paper", "--config-name=ppo_megatron_trainer"])
    here, there = composing._here(command), composing._there(command)
    assert OmegaConf.to_container(here) == OmegaConf.to_container(there)


@pytest.mark.parametrize(
    "env", ["data.env.id=fst_envs:fst/HouseRules-v0", "data.env.tasks=[{id: fst_envs:fst/HouseRules-v0}]"]
)
def test_a_check_imports_neither_verl_nor_torch(env):
    code = (
        "import sys, json; from fst_verl.command_line import Command; from fst_verl import report;"
        f"report.look(Command.parse(['+fst_env=default', {env!r}]));"
        "print(json.dumps([m for m in ('verl', 'torch', 'ray', 'vllm', 'litellm', 'dspy') if m in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == []
