"""A checkpoint is taken up whole or refused."""

import shutil
from dataclasses import replace

import pytest

from fst_plugin.prompts import Population, Prompt
from fst_plugin.record import checkpoint
from fst_plugin.record import state as durable
from fst_plugin.record.slow_scores import SlowScores
from fst_plugin.rollouts import Rollout

SAID = {"data_key": "data.train_files", "start_over": "trainer.resume_mode=disable"}
PROMPT = Prompt("p")


def saved(folder, score):
    """A checkpoint with one slow score and an adapter's own file."""
    slow = SlowScores()
    slow.add(1, "w", [("problem", PROMPT.digest, Rollout(score))])
    folder.mkdir(parents=True)
    (folder / "rows.bin").write_text(f"rows {score}")
    state = durable.State(Population((PROMPT,)), "seed", "data", "w", cycle=0, cycle_start=1)
    checkpoint.save(folder, state, slow, ["rows.bin"])
    return state, slow


def load(folder, parts=("rows.bin",)):
    return checkpoint.load(folder, seed_digest="seed", dataset_digest="data", parts=parts, **SAID)


def test_it_comes_back_whole(tmp_path):
    written = saved(tmp_path / "fst", 0.5)
    state, slow = load(tmp_path / "fst")
    assert sorted(state.parts) == ["rows.bin", "traces.jsonl"]
    assert written == (replace(state, parts={}), slow)


@pytest.mark.parametrize("name", ["traces.jsonl", "rows.bin"])
def test_files_of_another_run_cut_or_missing_are_refused_by_name(tmp_path, name):
    saved(tmp_path / "fst", 0.5)
    saved(tmp_path / "other", 1.0)
    path = tmp_path / "fst" / name
    shutil.copy(tmp_path / "other" / name, path)
    with pytest.raises(
        ValueError, match=f"{name} is damaged.*another run.*another checkpoint.*trainer.resume_mode=disable"
    ):
        load(tmp_path / "fst")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load(tmp_path / "fst")
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is damaged or edited .it is missing"):
        load(tmp_path / "fst")


def test_a_state_that_does_not_answer_for_its_files_is_refused(tmp_path):
    state, _ = saved(tmp_path / "fst", 0.5)
    with pytest.raises(ValueError, match="more.bin is damaged or edited .it is missing"):
        load(tmp_path / "fst", ["more.bin"])
    durable.save(state, tmp_path / "fst")  # as of a live folder
    with pytest.raises(ValueError, match="rows.bin is damaged or edited .it is missing"):
        load(tmp_path / "fst")
