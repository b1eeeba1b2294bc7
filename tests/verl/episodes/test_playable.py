"""Rows are data: an episode is played only of an environment that the run's own config names."""

import sys

import pytest

pytest.importorskip("verl")

from episode_kit import Engine, make_row, make_tokenizer, play  # noqa: E402
from fst_envs.instances import Instance  # noqa: E402
from fst_verl.dataset import EnvDataset  # noqa: E402
from fst_verl.episodes.playable import playable  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

ECHO = "test/EpisodeEcho-v0"
REFUSED = "a row of the data names the"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    (tmp_path / "row_trap.py").write_text(
        "import pathlib; pathlib.Path(__file__).with_name('sprung').touch()\ndef Env(): pass"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "sprung"
    sys.modules.pop("row_trap", None)


def played(row, **settings):
    return play(Engine(make_tokenizer("smollm2"), ["stop"]), "smollm2", row, **settings)


def test_a_row_cannot_have_a_module_of_its_own_imported(trap):
    row = make_row()
    row["extra_info"]["env_id"] = "row_trap:x/Y-v0"
    with pytest.raises(
        ValueError, match=rf"{REFUSED} environment 'row_trap:x/Y-v0'.*not imported: name both in data\.env\.id"
    ):
        played(row, rows=[make_row()])
    assert not trap.exists()


def test_a_row_cannot_give_other_arguments_to_an_environment_of_the_config(trap):
    """OpenEnv imports its argument `target`, SkyRL-Gym its `task`."""
    row = make_row({"target": "row_trap:Env"})
    with pytest.raises(
        ValueError, match=rf"{REFUSED} environment '{ECHO}' with the arguments .*row_trap.*not imported"
    ):
        played(row, rows=[make_row()])
    assert not trap.exists()


@pytest.mark.parametrize("env", [{"multi_turn": False}, {"multi_turn": None}])
def test_a_row_cannot_ask_for_episodes_where_the_config_has_none(env):
    with pytest.raises(ValueError, match=rf"{REFUSED} agent loop fst_episode.*data\.env\.multi_turn=true"):
        played(make_row(), env=env)


def test_a_run_without_an_environment_plays_no_episodes():
    with pytest.raises(ValueError, match="this run plays no episodes: take agent_name out"):
        playable({})(make_row()["extra_info"])


def test_the_environment_of_the_config_is_played():
    assert played(make_row(), env={"tasks": None, "id": ECHO}).reward_score == 1.0
    assert played(make_row({"last": 3}), env={"tasks": None, "id": ECHO, "kwargs": {"last": 3}}).reward_score == 1.0
    assert played(make_row({"last": 3}), rows=[make_row(), make_row({"last": 3})]).reward_score == 1.0


def test_rows_of_the_dataset_are_playable():
    env = {
        "tasks": [
            {
                "id": "fst_envs:fst/SecondTry-v0",
                "from_step": 1,
                "kwargs": {"tries": 3, "wrap": {"extract": ["tag", "line"]}},
            },
            {"id": "fst_envs:fst/SecondTry-v0", "from_step": 2, "kwargs": {"book": 1}},
        ],
        **{"train_size": 8, "val_size": 4, "multi_turn": True},
    }
    config = OmegaConf.create({"env": env, "train_batch_size": 4, "shuffle": False})
    data = EnvDataset("train", None, config)
    find = playable(env)
    found = [find(data[i]["extra_info"]) for i in range(len(data))]
    assert found == [Instance.of(data[i]["extra_info"]) for i in range(8)]
    assert {str(dict(instance.env_kwargs)) for instance in found} == {str(task["kwargs"]) for task in env["tasks"]}
