"""`fst env check --all`: every environment of the package and every reasoning-gym task; minutes on two cores."""

from __future__ import annotations

import importlib.util
import json

from fst_envs import ENVIRONMENTS
from fst_envs.check import NEED_ARGUMENTS, targets
from fst_envs.commands import app
from fst_envs.reasoning.env import DENIED
from typer.testing import CliRunner


def test_every_environment_is_fit_to_train_on(tmp_path):
    file = tmp_path / "check.json"
    result = CliRunner().invoke(app, ["check", "--all", "--json", str(file)])
    assert result.exit_code == 0, result.output
    data = json.loads(file.read_text())
    assert data["ok"] and [e["name"] for e in data["environments"] if not e["ok"]] == []
    names = {e["name"] for e in data["environments"]}
    assert names >= set(ENVIRONMENTS) - set(NEED_ARGUMENTS) - {"fst/ReasoningGym-v0"} and len(names) == len(targets())
    left_out = set(data["not_checked"])
    assert left_out - set(NEED_ARGUMENTS) <= {f"fst/ReasoningGym-v0 {task}" for task in DENIED} | {
        "fst/ReasoningGym-v0"
    }
    if importlib.util.find_spec("reasoning_gym") is not None:
        assert len(names) > 100
    unscored = [e["name"] for e in data["environments"] if not e["gold"]]
    assert {name.split()[-1] for name in unscored} <= {
        "boxnet",
        "graph_color",
        "propositional_logic",
        "rubiks_cube",
        "rush_hour",
    }
    assert all(e["feedback"] == "own" for e in data["environments"])
