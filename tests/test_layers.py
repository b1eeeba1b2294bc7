"""The import contracts of pyproject.toml hold, and each of them fails when it is broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "fst_plugin": "fst_plugin",
    "fst_verl": "integrations/fst_verl",
    "fst_trl": "integrations/fst_trl",
    "fst_envs": "envs/fst_envs",
}


@pytest.fixture
def tree(tmp_path):
    """A copy of the packages, so that contracts can be broken in it."""
    for name, folder in PACKAGES.items():
        shutil.copytree(ROOT / folder, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "policies"))
    return tmp_path


def lint(tree):
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    env = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)


def test_the_contracts_hold(tree):
    found = lint(tree)
    assert found.returncode == 0 and "5 kept, 0 broken" in found.stdout, found.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("fst_plugin/prompts.py", "import fst_verl.compat", "the method knows neither an RL stack nor an environment"),
        ("fst_plugin/evolve/leaks.py", "import torch", "the method knows neither an RL stack nor an environment"),
        ("fst_envs/make.py", "from fst_plugin import prompts", "environments know nothing of training"),
        ("fst_plugin/record/state.py", "from ..evolve import leaks", "the core's layers"),
        ("fst_trl/rows.py", "import fst_verl.compat", "RL stacks know nothing of each other"),
        ("fst_verl/compat.py", "from . import check", "no circle of packages or modules"),
    ],
)
def test_a_broken_contract_is_named(tree, module, line, broken):
    path = tree / module
    path.write_text(f"{path.read_text()}\n\ndef late():\n    {line}\n")
    found = lint(tree)
    assert found.returncode == 1 and f"{broken} BROKEN" in found.stdout, found.stdout
