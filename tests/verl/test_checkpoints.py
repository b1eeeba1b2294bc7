"""Fast weights follow verl's rules for checkpoints: how many are kept, and where they are copied to."""

import pytest

pytest.importorskip("verl")

from fst_verl.checkpoints import Checkpoints  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager  # noqa: E402


def write(root, step):
    folder = root / f"global_step_{step}" / "fst"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(str(step))
    return folder


def there(root):
    return sorted(int(folder.parent.name.rpartition("_")[2]) for folder in root.glob("global_step_*/fst"))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"max_actor_ckpt_to_keep": 2}, [3, 4, 5]),
        ({"max_actor_ckpt_to_keep": 1}, [4, 5]),
        ({"remove_previous_ckpt_in_save": True}, [4, 5]),
        ({"max_actor_ckpt_to_keep": None}, [1, 2, 3, 4, 5]),
        ({}, [1, 2, 3, 4, 5]),
    ],
)
def test_of_older_checkpoints_the_fast_weights_go_too_but_not_before_verl_has_written_its_part(
    tmp_path, settings, kept
):
    checkpoints = Checkpoints(OmegaConf.create(settings), print)
    for step in range(1, 6):
        checkpoints.wrote(write(tmp_path, step))
        if settings.get("max_actor_ckpt_to_keep") == 1 and step > 1:
            assert step - 1 in there(tmp_path)  # the last whole checkpoint
    assert there(tmp_path) == kept


def test_every_checkpoint_that_verl_keeps_has_its_fast_weights(tmp_path):
    theirs = object.__new__(type("Theirs", (BaseCheckpointManager,), {}))
    theirs.previous_saved_paths = []
    ours = Checkpoints(OmegaConf.create({"max_actor_ckpt_to_keep": 2}), print)
    for step in range(1, 7):
        ours.wrote(write(tmp_path, step))
        theirs.ensure_checkpoint_capacity(2)
        actor = tmp_path / f"global_step_{step}" / "actor"
        actor.mkdir()
        theirs.register_checkpoint(str(actor), 2)
        whole = {int(folder.parent.name.rpartition("_")[2]) for folder in tmp_path.glob("global_step_*/actor")}
        assert whole <= set(there(tmp_path)) and len(there(tmp_path)) <= 3


def test_checkpoints_of_an_earlier_process_are_left_alone(tmp_path):
    write(tmp_path, 1)
    checkpoints = Checkpoints(OmegaConf.create({"max_actor_ckpt_to_keep": 1}), print)
    for step in (2, 3, 4):
        checkpoints.wrote(write(tmp_path, step))
    assert there(tmp_path) == [1, 3, 4]  # as verl does with its own


def test_the_fast_weights_are_copied_to_verls_remote_folder(tmp_path):
    remote = tmp_path / "remote"
    checkpoints = Checkpoints(OmegaConf.create({"default_hdfs_dir": str(remote)}), print)
    folder = write(tmp_path / "local", 7)
    for _ in range(2):  # saved twice: a run that goes on from before it
        checkpoints.wrote(folder)
    assert (remote / "global_step_7" / "fst" / "state.json").read_text() == "7"


@pytest.mark.parametrize("failing", [lambda **_: False, lambda **_: (_ for _ in ()).throw(OSError("disk full"))])
def test_a_copy_that_fails_is_said_with_what_to_do(tmp_path, monkeypatch, failing):
    from fst_verl.compat import names

    said = []
    monkeypatch.setattr(names.hdfs_io, "copy", failing)
    Checkpoints(OmegaConf.create({"default_hdfs_dir": str(tmp_path / "r")}), said.append).wrote(write(tmp_path, 7))
    (line,) = said
    assert "global_step_7 could not be copied" in line and "trainer.default_hdfs_dir" in line and "yourself" in line
