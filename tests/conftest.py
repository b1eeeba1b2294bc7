"""Child processes find what the tests share, as this one does (`pythonpath` in pyproject.toml)."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = [str(ROOT / "tests" / "support"), str(ROOT / "recipes")]
os.environ["PYTHONPATH"] = os.pathsep.join([*SHARED, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("VERL_PLATFORM", "cpu")  # of what is imported here; launched runs ask for it by +fst_cpu


@pytest.fixture(autouse=True)
def no_variable_is_left_behind():
    """What a test sets would reach every process that a later one starts."""
    before = dict(os.environ)
    yield
    names = (before.keys() | os.environ.keys()) - {"PYTEST_CURRENT_TEST"}
    left = {name: os.environ.get(name) for name in names if before.get(name) != os.environ.get(name)}
    assert not left, f"left in the environment: {left}"
