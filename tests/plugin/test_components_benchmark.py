"""The benchmark of examples: what is run, what is kept, and its table."""

import json

import pytest
from programs import imported

from fst_plugin.config import parse


@pytest.fixture(scope="module")
def benchmark():
    with imported("benchmarks", "components") as found:
        yield found["components"]


def run(score):
    best = {step: (score if step else 0.0) for step in (0, 3, 6, 9)}
    return {"best": best, "rewards": [score] * 9, "fast_rollouts": 40, "prompts": [], "seconds": 1}


def test_finished_runs_are_kept_and_the_table_has_every_seed(benchmark, tmp_path, monkeypatch, capsys):
    asked = []

    def train(model, task, arm, seed):
        asked.append((model, task, arm, seed))
        return run(0.5 + 0.25 * (arm == "examples") + 0.125 * seed)

    monkeypatch.setattr(benchmark, "train", train)
    given = ["m", "--json", str(tmp_path / "c.json"), "--seeds", "2", "--tasks", "order"]
    assert benchmark.main(given) == 0
    names = [("m", "order", arm, seed) for seed in (0, 1) for arm in ("examples", "instructions")]
    assert asked == names
    assert benchmark.main(given) == 0 and asked == names, "none is run twice"
    assert sorted(json.loads((tmp_path / "c.json").read_text())["runs"]) == sorted(
        "/".join(map(str, n[1:])) for n in names
    )
    capsys.readouterr()
    assert benchmark.main(["--json", str(tmp_path / "c.json"), str(tmp_path / "no.json")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "order" in line]
    assert "0.75, 0.88" in rows[0] and "examples" in rows[0] and "0.50, 0.62" in rows[1] and "40, 40" in rows[1]


def test_the_untrained_model_is_measured_by_itself(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "train", lambda *_: pytest.fail("nothing is trained"))
    monkeypatch.setattr(benchmark, "base", lambda model, task: {"none": 0.0625, "2 as turns": 0.8125})
    assert benchmark.main(["m", "--json", str(tmp_path / "c.json"), "--tasks", "order", "--base"]) == 0
    assert "base/order none: 0.06, 2 as turns: 0.81" in capsys.readouterr().out


def test_arms_differ_in_what_they_are_named_by_alone(benchmark):
    configs = {arm: parse(benchmark.fst_of(arm, 7)) for arm in benchmark.ARMS}
    plain = configs.pop("instructions")
    assert plain.seed == 7 and plain.enabled and not plain.shows_examples and plain.fast.when == "before"
    changed = {
        "examples": {"components": ("instructions", "examples")},
        "hybrid": {"fast": plain.fast.model_copy(update={"when": "hybrid"})},
        "rl": {"enabled": False},
    }
    assert configs == {arm: plain.model_copy(update=own) for arm, own in changed.items()}
