"""The GPU benchmark, on CPU in tiny sizes, and the page that is made of its files."""

import importlib.util
import json
import re
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
    return done.stdout


def run_of(arm, seed, rate, curve, **more):
    own = {"seed_prompt": [], "kl": 0.1, "slow_rollouts": 8, "fast_rollouts": 0, "prompt": "P", "seconds": 9.0}
    return {"arm": arm, "seed": seed, "rate": rate, "best_prompt": curve, "rewards": [0.5], **own, **more}


def cost(part, **found):
    sizes = {"parameters": 5e8, "model": {"num_hidden_layers": 24}, "dtype": "bfloat16", "answer": 128}
    sizes |= {"problems": 16, "group": 8, "prompt": 200, "steps": 4}
    return {"part": part, "machine": MACHINE, "sizes": sizes, **found}


def step_of(off):
    each = {"plain": 1.0, "off": off, "on": 1.02, "bare": 0.9}
    arms = {
        arm: {"seconds": [4 * one, 4 * one], "median": 4 * one, "ratio": one, "ratio_of_each_round": [one]}
        for arm, one in each.items()
    }
    return cost("step", rounds=1, arms=arms)


VERSIONS = dict.fromkeys(("fst_plugin", "torch", "transformers", "trl", "python"), "1")
MACHINE = {"device": "a card", "cores": 16, "load": 0.5, "date": "2026-01-01", **VERSIONS}


def smollm2(runs, left=0):
    sizes = {"steps": 8, "problems": 2, "group": 4, "cycle": 4, "validation": 4, "tries": 2}
    return {"part": "smollm2", "machine": MACHINE, "sizes": sizes, "jobs": 4, "left": left, "runs": runs}


@pytest.mark.trl
def test_a_slow_step_and_a_fast_phase_are_measured_and_shown(tmp_path):
    said = run("cost", tmp_path, "--seconds", "0")
    assert re.findall(r"^(\w+): .* \d+ s after the start$", said, re.M) == ["step", "phase", "phase", "phase"]
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
    assert shown.count("\n\nCPU, ") == 2
    assert shown.count("Not measured: the time ran out") == 1  # SmolLM2-135M


@pytest.mark.trl
def test_a_fast_phase_is_on_file_before_its_rollouts_are_made_again(monkeypatch):
    monkeypatch.syspath_prepend(str(GPU))
    measured = load("cost")
    found = measured.phase(measured.World("cpu", measured.QUICK))
    first = json.loads(json.dumps(next(found)))
    assert first["again"] == {} and first["seconds"] >= first["generating"] > 0
    assert [list(one["again"]) for one in found] == [["training_batches"], ["training_batches", "one_batch"]]


@pytest.mark.trl
def test_runs_of_a_model_are_measured_one_by_one(tmp_path):
    from fst_envs.house import policy

    run("smollm2", tmp_path, "--model", str(policy.path("rules")), "--jobs", "1")
    found = json.loads((tmp_path / "smollm2.json").read_text())
    fst, rl = found["runs"]
    assert [(one["arm"], one["seed"], len(one["best_prompt"])) for one in (fst, rl)] == [("fst", 0, 3), ("rl", 0, 3)]
    assert (fst["slow_rollouts"], rl["slow_rollouts"], rl["fast_rollouts"], found["left"]) == (8, 8, 0, 0)
    assert fst["fast_rollouts"] > 0
    assert len(fst["kl_of_each_step"]) == 1 + found["sizes"]["steps"] and fst["kl_of_each_step"][-1] == fst["kl"]
    assert len(fst["seed_prompt"]) == 3 and rl["seed_prompt"] == []


def test_the_page_has_the_median_every_seed_and_the_step_that_nine_in_ten_are_right_at():
    runs = [
        run_of("rl", 1, 5e-5, [0.0, 0.0, 0.0]),
        run_of("fst", 1, 5e-5, [0.0, 0.95, 0.5], seed_prompt=[0.0, 0.0, 0.2], prompt="Say #.", kl=0.3),
        run_of("fst", 2, 5e-5, [0.0, 0.0, 0.4], seed_prompt=[0.0, 0.0, 0.1], prompt="Say #.", kl=0.2),
        run_of("fst", 0, 5e-5, [0.0, 0.25, 0.9], seed_prompt=[0.0, 0.0, 0.4], prompt="Use | and <b>."),
    ]
    lines = load("table").page([smollm2(runs)]).splitlines()
    rows = [line for line in lines if "| FST |" in line or "| RL alone |" in line]
    assert rows == [
        "| RL alone | 5e-05 | never | 0.00 | 0.00 | – | 0.10 | 0 | 9 |",
        "| FST | 5e-05 | 8, 4, never | 0.90 (0.90, 0.95, 0.40) | 0.50 (0.90, 0.50, 0.40) | 0.20 (0.40, 0.20, 0.10)"
        " | 0.20 (0.10, 0.30, 0.20) | 0 | 9 |",
    ]
    assert "    Use | and <b>." in lines  # indented, as code: a model's text is no markup
    assert "FST's best prompt at the end, seed 1 at 5e-05, seed 2 at 5e-05:" in lines


def test_runs_without_any_reward_are_counted_as_one_run_at_several_rates():
    runs = [run_of("rl", 0, rate, [0.0, 0.0], rewards=[0.0, 0.0]) for rate in (1e-4, 2e-4)]
    shown = load("table").page([smollm2([*runs, run_of("rl", 1, 1e-4, [0.0, 0.0], rewards=[0.0, 0.1])])])
    assert "2 of the 3 runs of RL alone never saw a reward other than 0 (seeds 0)" in shown


def test_a_part_that_was_cut_off_is_shown_as_not_measured():
    shown = load("table").page([step_of(1.0)])
    assert "## A fast phase\n\nNot measured: the time ran out.\n\n## SmolLM2-135M\n\nNot measured" in shown


def test_a_fast_phase_that_was_cut_off_is_shown_with_what_it_has():
    found = {"batches": [48, 16], "rollouts": 64, "seconds": 8.0, "generating": 7.0}
    shown = load("table").page([cost("phase", **found, again={})])
    assert "| the phase | 8.0 | 8.0 | – |" in shown
    missing = "at once, in batches as large as a slow step's; at once, as one batch."
    assert f"Not measured: the time ran out, for: {missing}" in shown
    shown = load("table").page([cost("phase", **found, again={"training_batches": 4.0})])
    assert "| the phase | 8.0 | 8.0 | 0.50 |" in shown
    assert "Not measured: the time ran out, for: at once, as one batch." in shown


def test_no_ratio_is_shown_if_what_must_be_equal_differs():
    unclear, clear = load("table").page([step_of(1.27)]), load("table").page([step_of(1.01)])
    assert "is not resolved here" in unclear and "they differ by 27%" in unclear
    assert "steps took 3.6 to 5.1 s" in unclear and "÷" not in unclear
    assert "| FSTGRPOTrainer, K=4 prompts | 2 | 4.08 | 4.08 to 4.08 | 1.020 | 1.020 to 1.020 |" in clear
    assert "not resolved" not in clear


def test_a_file_of_another_program_is_refused():
    with pytest.raises(ValueError, match="not a part of this benchmark: controls"):
        load("table").page([{"part": "controls"}])


def test_the_docs_show_the_committed_results():
    results = [json.loads(path.read_text()) for path in sorted((GPU / "results").glob("*.json"))]
    table = load("table")
    assert (ROOT / "docs" / "gpu.md").read_text() == table.page(results)
    shown = (ROOT / "examples" / "smollm2" / "README.md").read_text()
    assert table.runs_table(next(one for one in results if one["part"] == "smollm2")) in shown


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
