"""What a slow step moves through verl's transfer queue, by `benchmarks/scale.py` on the real one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

ROOT = Path(__file__).parents[3]
TRAJECTORIES, WORKERS = 256, 8


def test_what_a_step_moves_does_not_grow_with_the_prompts_but_for_one_copy_a_worker_and_cycle(tmp_path):
    file = tmp_path / "scale.json"
    command = [sys.executable, ROOT / "benchmarks" / "scale.py", "--json", file, "--trajectories", str(TRAJECTORIES)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    found = {(one["k"], one["words"]): one for one in json.loads(file.read_text())}
    plain = found[0, 0]
    assert plain["hook_bytes"] == plain["hook_s"] == 0
    for k in (1, 4, 8):
        copies = (found[k, 4000]["first_bytes"] - found[k, 100]["first_bytes"]) / (k * len("word " * 3900))
        assert WORKERS - 1 < copies < WORKERS + 2  # one is put; how often verl's buffer polls varies
        assert abs(found[k, 4000]["bytes"] - found[k, 100]["bytes"]) < 0.01 * plain["bytes"]
    added = found[1, 100]["bytes"] - plain["bytes"]
    assert 0 < found[1, 100]["hook_bytes"] < added
    assert added / TRAJECTORIES < 1900  # of this few, 500 bytes are a sample of rewards, and answers; see the docs
