"""The example for TRL trains, and stays short."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.trl
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "trl_house_rules.py"


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_two_steps_of_the_example_leave_a_run_with_better_prompts(tmp_path):
    code = f"import trl_house_rules as one; one.main('fst', 0, {str(tmp_path)!r}, steps=2, every=2)"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    from fst_plugin.analysis.read import read

    run = read(str(tmp_path / "fst_0"))
    assert run.reward()[2] > run.reward(seed_prompt=True)[2] and "Write " in run.population[0].text
