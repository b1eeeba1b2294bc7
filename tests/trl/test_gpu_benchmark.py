"""The GPU benchmark, on CPU in tiny sizes, and the page that is made of its files."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks" / "gpu"


def load(name):
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, out, *more):
    command = [sys.executable, str(GPU / f"{name}.py"), str(out), "--device", "cpu", "--quick", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def run_of(arm, seed, rate, curve, **more):
    own = {"seed_prompt": [], "kl": 0.1, "slow_rollouts": 8, "fast_rollouts": 0, "prompt": "P", "seconds": 9.0}
    return {"arm": arm, "seed": seed, "rate": rate, "best_prompt": curve, **own, **more}


def smollm2(runs, left=0):
    versions = dict.fromkeys(("fst_plugin", "torch", "transformers", "trl", "python"), "1")
    machine = {"device": "a card", "cores": 16, "load": 0.5, "date": "2026-01-01", **versions}
    sizes = {"steps": 8, "problems": 2, "group": 4, "cycle": 4, "validation": 4, "tries": 2}
    return {"part": "smollm2", "machine": machine, "sizes": sizes, "jobs": 4, "left": left, "runs": runs}


@pytest.mark.trl
def test_a_slow_step_and_a_fast_phase_are_measured_and_shown(tmp_path):
    run("cost", tmp_path, "--seconds", "0")
    step, phase = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("step", "phase"))
    assert step["rounds"] == 1
    assert {arm: len(found["seconds"]) for arm, found in step["arms"].items()} == dict.fromkeys(
        ("plain", "off", "on", "bare"), step["sizes"]["steps"] - 1
    )
    assert sum(phase["batches"]) == phase["rollouts"] > 0
    assert phase["seconds"] >= phase["generating"] > 0
    assert set(phase["again"]) == {"training_batches", "one_batch"}
    shown = load("table").page([phase, step])
    assert shown.index("## A slow step") < shown.index("## A fast phase")
    assert f"{phase['rollouts']} rollouts, in {len(phase['batches'])} batches" in shown
    assert shown.count("CPU, ") == 2


@pytest.mark.trl
def test_runs_of_a_model_are_measured_one_by_one(tmp_path):
    from fst_envs.house import policy

    run("smollm2", tmp_path, "--model", str(policy.path("rules")), "--jobs", "1")
    found = json.loads((tmp_path / "smollm2.json").read_text())
    fst, rl = found["runs"]
    assert [(one["arm"], one["seed"], len(one["best_prompt"])) for one in (fst, rl)] == [("fst", 0, 3), ("rl", 0, 3)]
    assert (fst["slow_rollouts"], rl["slow_rollouts"], rl["fast_rollouts"], found["left"]) == (8, 8, 0, 0)
    assert fst["fast_rollouts"] > 0
    assert len(fst["seed_prompt"]) == 3 and rl["seed_prompt"] == []


def test_the_page_has_the_mean_and_the_range_of_seeds_and_the_step_that_half_is_right_at():
    runs = [
        run_of("rl", 1, 5e-5, [0.0, 0.0, 0.0]),
        run_of("fst", 1, 5e-5, [0.0, 0.75, 0.5], seed_prompt=[0.0, 0.0, 0.2], prompt="Say #."),
        run_of("fst", 0, 5e-5, [0.0, 0.25, 0.7], seed_prompt=[0.0, 0.0, 0.4], prompt="Use | and <b>."),
    ]
    lines = load("table").page([smollm2(runs)]).splitlines()
    rows = [line for line in lines if "| FST |" in line or "| RL alone |" in line]
    assert rows == [
        "| RL alone | 5e-05 | 1 | 0.00 | never | 0.00 | 0.00 | – | 0.100 | 8 | 0 | 9 |",
        "| FST | 5e-05 | 2 | 0.00 | 8, 4 | 0.72 (0.70 to 0.75) | 0.60 (0.50 to 0.70) | 0.30 (0.20 to 0.40) | 0.100"
        " | 8 | 0 | 9 |",
    ]
    assert "    Use | and <b>." in lines  # indented, as code: a model's text is no markup


def test_runs_that_failed_or_were_not_begun_are_counted_on_the_page():
    failed = {"arm": "rl", "seed": 0, "rate": 5e-5, "error": "Traceback"}
    shown = load("table").page([smollm2([run_of("told", 0, 5e-5, [0.0, 1.0]), failed], left=3)])
    assert "Not run, for want of time: 3. Failed: 1." in shown


def test_no_run_begins_that_would_not_end_in_time(monkeypatch):
    monkeypatch.syspath_prepend(str(GPU))
    smollm = load("smollm2")
    clock = [100.0]

    def train(job):
        clock[0] += 30
        return {"best_prompt": [1.0]}

    monkeypatch.setattr(smollm, "train", train)
    monkeypatch.setattr(smollm.time, "time", lambda: clock[0])
    job = smollm.Job("rl", 0, 1e-4)
    assert smollm.in_time(job, 140.0) == {"arm": "rl", "seed": 0, "rate": 1e-4, "best_prompt": [1.0]}
    assert smollm.in_time(job, 140.0) is None
    assert clock[0] == 130


def test_a_run_that_fails_says_why_and_stops_no_other(monkeypatch):
    monkeypatch.syspath_prepend(str(GPU))
    smollm = load("smollm2")

    def train(job):
        raise OSError("no weights here")

    monkeypatch.setattr(smollm, "train", train)
    assert "no weights here" in smollm.in_time(smollm.Job("rl", 0, 1e-4), 1e12)["error"]
