"""Prompts as a table and the population as an artifact, in W&B's offline mode."""

import json

import pytest
from cycles import fast_weights
from omegaconf import OmegaConf
from rule_world import World, make_problems

wandb = pytest.importorskip("wandb")
pytest.importorskip("verl")

from fst_verl import wandb_tables as tables  # noqa: E402

from fst_plugin.record.cycles import read_record  # noqa: E402


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    run = wandb.init(mode="offline", dir=str(tmp_path), project="fst", settings=wandb.Settings(silent=True))
    yield run
    run.finish()


def config(*loggers):
    return OmegaConf.create({"trainer": {"logger": list(loggers)}})


def test_the_table_and_the_artifact_are_logged(tmp_path, run):
    weights, lines = fast_weights(tmp_path / "fst", fast={"proposals": 4})
    weights.evolve(1, "w", make_problems(48), World())
    before = len(lines)
    tables.log_cycle(weights, config("console", "wandb"), 1)
    assert lines[before:] == []  # nothing went wrong
    run.log({"done": 1}, step=1, commit=True)
    run.finish()
    files = [p for p in (tmp_path / "wandb").rglob("*.table.json")]
    assert files
    table = json.loads(files[0].read_text())
    assert tuple(table["columns"]) == tables.COLUMNS
    texts = {row[-1] for row in table["data"]}
    assert {p.text for p in weights.population.prompts} <= texts and len(table["data"]) > len(weights.population)
    words = {row[1]: row[tables.COLUMNS.index("verdict")] for row in table["data"]}
    assert words == {r.prompt.digest: r.verdict for r in read_record(tmp_path).rows()}, "as fst prompts has them"
    ranks = [row[tables.COLUMNS.index("rank")] for row in table["data"]]
    assert ranks[: len(weights.population)] == list(range(len(weights.population))) and min(ranks) == -1


def test_nothing_is_logged_without_wandb_and_a_broken_logger_is_one_line(tmp_path, run, monkeypatch):
    weights, lines = fast_weights(tmp_path / "fst")
    weights.evolve(1, "w", make_problems(24), World())
    asked = []
    monkeypatch.setattr(wandb, "Table", lambda **_: asked.append(1) or 1 / 0)
    tables.log_cycle(weights, config("console"), 1)
    assert asked == []
    tables.log_cycle(weights, config("wandb"), 1)
    assert asked and "ZeroDivisionError" in lines[-1]
