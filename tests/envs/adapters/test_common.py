"""What all adapters share, and what they do if their library is missing. Real libraries: tests/adapters."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys

import fst_envs
import gymnasium as gym
import pytest
from fst_envs.adapters import common

LIBRARIES = ("gem", "textarena", "openenv", "skyrl_gym", "reasoning_gym", "math_verify", "pint", "datasets", "pyarrow")
FILE = {"file": "nowhere.jsonl"}
ADAPTERS = {
    "fst_envs:fst/Gem-v0": ({"task": "game:Sudoku-v0-easy"}, "gem"),
    "fst_envs:fst/TextArena-v0": ({"task": "GuessTheNumber-v0"}, "textarena"),
    "fst_envs:fst/OpenEnv-v0": ({"url": "http://127.0.0.1:1"}, "openenv"),
    "fst_envs:fst/SkyRLGym-v0": ({"task": "gsm8k", **FILE}, "skyrl-gym"),
    "fst_envs:fst/Polaris-v0": (FILE, "math"),
    "fst_envs:fst/Physics-v0": (FILE, "math"),
}


def test_importing_the_environments_imports_no_library():
    program = (
        "import sys, fst_envs, fst_envs.files.paper_tasks, fst_envs.files.math_answers\n"
        "from fst_envs.adapters import gem, openenv, skyrl, textarena\n"
        f"early = [name for name in {LIBRARIES!r} if name in sys.modules]; assert not early, early"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("env_id", ADAPTERS)
def test_a_missing_library_is_named_with_its_extra(env_id, monkeypatch):
    kwargs, extra = ADAPTERS[env_id]
    make = gym.envs.registration.load_env_creator(fst_envs.ENVIRONMENTS[env_id.partition(":")[2]])

    def missing(name, *args):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=rf"pip install 'fst-plugin\[{extra}\]'"):
        make(**kwargs)


@pytest.mark.parametrize(
    ("env_id", "task"),
    [("Gem", "code:CodeContest"), ("TextArena", "TwentyQuestions-v0"), ("SkyRLGym", "lcb"), ("SkyRLGym", "rlm")],
)
def test_what_is_unsafe_is_refused_before_the_library_is_needed(env_id, task):
    with pytest.raises(ValueError, match=f"task='{task}' is refused"):
        fst_envs.make(f"fst_envs:fst/{env_id}-v0", task=task, **(FILE if env_id == "SkyRLGym" else {}))


def test_a_library_that_configures_logging_on_import_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "noisy_library.py").write_text("import logging; logging.basicConfig(level=logging.DEBUG, force=True)")
    monkeypatch.syspath_prepend(str(tmp_path))
    root = logging.getLogger()
    before = root.handlers[:], root.level
    assert common.library("noisy_library", "x", "y").__name__ == "noisy_library"
    assert (root.handlers, root.level) == before
