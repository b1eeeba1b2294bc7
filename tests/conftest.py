"""Child processes find what the tests share, as this one does (`pythonpath` in pyproject.toml)."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = [str(ROOT / "tests" / "support"), str(ROOT / "recipes")]
os.environ["PYTHONPATH"] = os.pathsep.join([*SHARED, *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.pop("COLUMNS", None)  # xdist's, which a console made at import would keep whatever a test sets
os.environ.setdefault("VERL_PLATFORM", "cpu")  # of what is imported here; launched runs ask for it by +fst_cpu


SEEN_BY_A_RUN = ("CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "PYTHONPATH", "VERL_PLATFORM", "VERL_USE_EXTERNAL_MODULES")


@pytest.fixture(autouse=True)
def no_variable_is_left_behind():
    """What a test sets of these would reach every run that a later one starts."""
    before = {name: os.environ.get(name) for name in SEEN_BY_A_RUN}
    yield
    assert {name: os.environ.get(name) for name in SEEN_BY_A_RUN} == before, "left in the environment"
