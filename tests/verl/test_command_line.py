"""A command as a user has it: what python runs, Hydra's arguments, and what is refused."""

import os

import pytest

pytest.importorskip("hydra")

from fst_verl.command_line import MAIN, Command, key_of  # noqa: E402


def test_arguments_alone_are_those_of_verls_main_module():
    assert Command.parse(["a=1", "+b=2"]) == Command(("a=1", "+b=2"), (), MAIN)


@pytest.mark.parametrize(
    "words",
    [
        ["python3", "-m", "verl.trainer.main_ppo"],
        ["python", "-u", "-X", "faulthandler", "-m", "verl.trainer.main_ppo"],
        ["/opt/venv/bin/python3.11", "-m", "verl.trainer.main_ppo"],
    ],
)
def test_python_and_its_own_flags_stand_before_the_main_module(words):
    command = Command.parse([*words, "a=1"])
    assert command.program == tuple(words[1:]) and command.overrides == ("a=1",) and command.of_verl


def test_another_main_module_and_a_script_are_kept():
    assert Command.parse(["python3", "-m", "recipe.dapo.main_dapo", "a=1"]).module == "recipe.dapo.main_dapo"
    assert Command.parse(["python3", "train.py", "a=1"]).program == ("train.py",)
    assert not Command.parse(["python3", "train.py"]).of_verl


def test_variables_and_what_only_starts_python_are_told_apart():
    words = ["env", "A=1", "uv", "run", "--python", "3.11", "B=x=y", "python3", *MAIN, "c=2"]
    command = Command.parse(words)
    assert command.environment == {"A": "1", "B": "x=y"} and command.overrides == ("c=2",)
    assert command.launcher == ("uv", "run", "--python", "3.11")


def test_a_ray_job_is_read_from_its_python_on():
    words = ["ray", "job", "submit", "--address", "http://h:8265", "--", "python3", *MAIN, "a=1"]
    assert Command.parse(words).arguments == ("a=1",)


FLAGS = ("--config-path=/x", "--config-name=y", "--config-dir=z")


@pytest.mark.parametrize(
    "words",
    [
        ["--config-path", "/x", "--config-name", "y", "--config-dir", "z", "a=1", "b='$c'"],
        ["--config-path=/x", "--config-name=y", "--config-dir=z", "a=1", "b='$c'"],
        ["-cp", "/x", "-cn", "y", "-cd", "z", "a=1", "b='$c'"],
        ["-cp=/x", "-cn=y", "-cd=z", "a=1", "b='$c'"],
        ["a=1", "b='$c'", "--config-path=/x", "-cn", "y", "-cd=z"],
    ],
)
def test_hydras_flags_are_read_in_every_spelling_and_stand_before_the_overrides(words):
    assert Command.parse(words).arguments == (*FLAGS, "a=1", "b='$c'")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["torchrun", "--nproc", "8", "-m", "verl.trainer.main_ppo"], "torchrun starts several processes"),
        (["A=1", "/opt/bin/deepspeed", "train.py"], "/opt/bin/deepspeed starts several processes"),
        (["mpirun", "-n", "8", "python3", *MAIN], "mpirun starts several processes"),
        (["python3", "-m", "torch.distributed.run", *MAIN], "torch.distributed.run starts several processes"),
        (["bash", "run.sh"], "'bash' is neither an argument nor python"),
        (["python3", "-c", "import verl"], "'python3' is neither"),
        (["--multirun", "a=1,2"], "--multirun sweeps over several runs"),
        (["python3", *MAIN, "-m", "a=1,2"], "--multirun sweeps over several runs"),
        (["a=1", "--cfg", "job"], "--cfg only prints the config"),
        (["python3", *MAIN, "a=1", "", "b=2"], "argument 2 is empty"),
        (["a=1", " "], "argument 2 is empty"),
        (["a=1", "--config-name=x", "b=2"], "unrecognized arguments: b=2"),
    ],
)
def test_what_is_not_one_run_of_a_python_program_is_refused(words, told):
    with pytest.raises(ValueError, match=told):
        Command.parse(words)


def test_the_config_group_is_added_only_where_no_override_names_one():
    assert Command.parse(["a=1"]).with_group().overrides == ("+fst=default", "a=1")
    for group in ("+fst=paper", "fst=paper", "++fst=default"):
        assert Command.parse([group]).with_group().overrides == (group,)
    assert Command.parse(["fst.seed=1"]).with_group().overrides[0] == "+fst=default"


def test_a_key_is_told_from_its_sign_and_value():
    assert [key_of(word) for word in ("a.b=1", "+a.b=c=d", "++a=1", "~a")] == ["a.b", "a.b", "a", "a"]


def test_the_variables_before_a_command_are_set_for_it(monkeypatch):
    monkeypatch.setenv("MINE", "old")
    command = Command.take(["MINE=new", "python3", *MAIN, "a=1"])
    assert os.environ["MINE"] == command.environment["MINE"] == "new"
