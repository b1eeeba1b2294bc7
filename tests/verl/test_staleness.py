"""How far an old prompt is behind, from scores whose parts are known."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("omegaconf")
pytest.importorskip("scipy")

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def staleness():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("staleness")
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("staleness", None)


def run(drift):
    """Each cycle's search adds 0.1; a prompt loses `drift` for every six steps that it is older than the weights."""
    steps = (0, 6, 12)
    return {now: {then: 0.5 + then / 60 - drift * max(now - then, 0) / 6 for then in steps} for now in steps}


def test_what_later_search_found_is_told_from_what_the_weights_did(staleness):
    found = staleness.by_age([run(0.0), run(0.2)])
    assert {age: own["pairs"] for age, own in found.items()} == {6: 4, 12: 2}
    assert found[6]["behind"].value == pytest.approx(0.1 + 0.2 / 2)
    assert found[6]["by the weights"].value == pytest.approx(0.2 / 2)
    assert found[12]["behind"].value == pytest.approx(0.2 + 0.4 / 2)
    assert found[12]["by the weights"].low == pytest.approx(0) and found[12]["by the weights"].high == pytest.approx(
        0.4
    )
    assert staleness.text(found[12]["by the weights"]) == "+0.200 [+0.000, +0.400]"


def test_a_task_is_read_from_its_run(staleness):
    setup = {"task": ["data.env.id=fst_envs:fst/HouseRules-v0", "+data.env.kwargs.book=3"], "val_size": 5}
    task = staleness.Task(setup)
    assert task.named == {"id": "fst_envs:fst/HouseRules-v0", "kwargs": {"book": 3}}
    assert not task.turns and task.answer == 12 and len(task.rows) == 5 * staleness.SAMPLES
    turns = staleness.Task({**setup, "task": [*setup["task"], "data.env.multi_turn=true"]})
    assert turns.turns
