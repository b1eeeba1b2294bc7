import json

import pytest

from fst_plugin.prompts import Population, Prompt, Score
from fst_plugin.record import sealed
from fst_plugin.record import state as durable
from fst_plugin.record.sealed import UnusableFile
from fst_plugin.record.state import State


def make():
    best = Prompt("best", ("d",), "reflection", 1, {"p": Score(0.5, 2)})
    return State(Population((best, Prompt("seed"))), "s", "d", "w", cycle=1, cycle_start=7, pending=("p", "q")).count(
        rollouts_fast=5
    )


def test_round_trip(tmp_path):
    durable.save(make(), tmp_path)
    assert durable.load(tmp_path) == make()
    assert (tmp_path / "best_prompt.txt").read_text() == "best"


def test_the_marker_is_written_last(tmp_path, monkeypatch):
    def full_disk(path, obj):
        raise OSError("no space left")

    monkeypatch.setattr(durable.sealed, "write", full_disk)
    with pytest.raises(OSError, match="no space"):
        durable.save(make(), tmp_path)
    with pytest.raises(FileNotFoundError):
        durable.load(tmp_path)


def test_an_edited_population_is_refused(tmp_path):
    durable.save(make(), tmp_path)
    path = tmp_path / "state.json"
    data = json.loads(path.read_text())
    data["population"]["prompts"].reverse()
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="digest"):
        durable.load(tmp_path)


@pytest.mark.parametrize("edit", [{"cycle": "x"}, {"cycle": -5}, {"rewards": ["a"]}, {"counters": {"tokens_fast": -1}}])
def test_what_is_not_of_its_type_is_named_even_under_a_right_digest(tmp_path, edit):
    durable.save(make(), tmp_path)
    body = json.loads((tmp_path / "state.json").read_text())
    sealed.write(tmp_path / "state.json", {k: v for k, v in (body | edit).items() if k not in ("format", "digest")})
    with pytest.raises(UnusableFile, match=f"state.json is damaged or edited .{next(iter(edit))}"):
        durable.load(tmp_path)


@pytest.mark.parametrize(
    "other, named", [({"seed_digest": "x"}, "fst.seed_prompt"), ({"dataset_digest": "x"}, "data.train_files")]
)
def test_another_seed_or_dataset_stops(tmp_path, other, named):
    fits = {"seed_digest": "s", "dataset_digest": "d"}
    where = {"where": tmp_path, "data_key": "data.train_files", "start_over": "trainer.resume_mode=disable"}
    durable.refuse_mismatch(make(), **fits, **where)
    with pytest.raises(ValueError, match=named):
        durable.refuse_mismatch(make(), **(fits | other), **where)
