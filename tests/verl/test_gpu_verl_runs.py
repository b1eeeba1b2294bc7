"""verl's part of the GPU benchmark: its commands, its limits, and the page made of its files. Starts nothing."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

from fst_verl import report  # noqa: E402
from fst_verl.command_line import Command  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "benchmarks" / "gpu"
VERSIONS = dict.fromkeys(("fst_plugin", "torch", "transformers", "verl", "vllm", "python"), "1")
MACHINE = {"device": "a card", "cores": 16, "load": 0.5, "date": "2026-01-01", **VERSIONS}
SIZES = {"parameters": 5e8, "model": {"num_hidden_layers": 24}, "dtype": "bfloat16", "answer": 128}
SIZES |= {"problems": 16, "group": 8, "prompt": 200, "steps": 4}


def load(name):
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def verl_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(GPU.parent))
    monkeypatch.syspath_prepend(str(GPU))
    return load("verl_runs")


def page(*parts):
    return load("table").page([{"machine": MACHINE, "sizes": SIZES, "unfinished": {}, **part} for part in parts])


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_run_is_a_command_that_the_check_has_nothing_against(verl_runs, tmp_path, monkeypatch, device):
    monkeypatch.setattr(verl_runs, "FULL", verl_runs.QUICK)
    world = verl_runs.World("cpu", verl_runs.QUICK, tmp_path)
    told = world.make()
    assert told["dtype"] == "float32" and told["parameters"] > 0
    world.device = device
    runs = [*verl_runs.step_runs(world), *verl_runs.phase_runs(world), verl_runs.demo_run(device, False, tmp_path)]
    assert [one.folder.name for one in runs] == ["plain", "off", "on", "before", "hybrid", "demo"]
    for one in runs[1:]:
        looked = report.look(one.command)
        assert looked.problems == [], one.folder.name
        assert looked.config.trainer.device == device
    settings = [report.look(one.command).config.actor_rollout_ref for one in runs]
    assert all(one == settings[0] for one in settings[1:5])  # the arms differ in nothing but fast weights
    assert not any(word.lstrip("+").startswith(("fst.", "fst=")) for word in runs[0].arguments)


def test_the_tokenizer_that_verl_loads_is_the_random_models_own(verl_runs, tmp_path):
    from transformers import AutoTokenizer

    world = verl_runs.World("cpu", verl_runs.QUICK, tmp_path)
    world.make()
    found, text = AutoTokenizer.from_pretrained(tmp_path / "model"), verl_runs.words(9, "any")
    assert len(found.encode(text)) == 9 and found.decode(found.encode(text)) == text


def test_the_plan_is_every_command_in_full_and_starts_nothing(verl_runs, tmp_path, capsys):
    assert verl_runs.main([str(tmp_path / "out"), "--device", "cuda", "--plan", "--parts", "step,demo"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["plain", "off", "on", "demo"] and not (tmp_path / "out").exists()
    demo = Command.parse(shlex.split(lines["demo"]))
    assert demo.of_verl and "+fst=paper" in demo.overrides and "trainer.n_gpus_per_node=1" in demo.overrides
    assert not any("fst_cpu" in word or "UniProc" in word for word in demo.overrides)
    with pytest.raises(SystemExit):
        verl_runs.main([str(tmp_path), "--parts", "step,dmeo"])


def test_a_run_that_takes_too_long_or_fails_says_so_and_stops_no_other(verl_runs, tmp_path, monkeypatch):
    def run(one, on_step):
        one.folder.mkdir(parents=True)
        if one.arm == "off":
            (one.folder / "metrics.jsonl").touch()
            raise RuntimeError("verl ended with 1; its log ends:\nout of memory")
        lines = [{"step": step, "data": {"timing_s/step": float(step)}} for step in range(1, 6)]
        (one.folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        if one.arm == "on":
            on_step(5)

    monkeypatch.setattr(verl_runs.runner, "run", run)
    *_, found = verl_runs.step(verl_runs.World("cpu", verl_runs.QUICK, tmp_path), seconds=-1)
    assert {arm: one["seconds"] for arm, one in found["arms"].items()} == {
        "plain": [3.0, 4.0, 5.0],  # the first two do not count
        "off": [],
        "on": [3.0, 4.0, 5.0],
    }
    assert found["unfinished"]["on"] == "ended after -1 s" and "out of memory" in found["unfinished"]["off"]


def test_rollouts_beside_a_step_are_those_that_came_in_since_the_last_and_its_fast_phase_is_no_part_of_it(verl_runs):
    def at(total, seconds, **more):
        return {"fst/rollouts_fast_total": total, "timing_s/step": seconds, "fst/beside_cut": 1.0, **more}

    steps = [at(10.0, 9.0), at(10.0, 2.0), at(14.0, 2.5), at(20.0, 7.0, **{"timing_s/fst_phase": 4.0})]
    assert verl_runs.beside(steps) == [
        {"rollouts": 4.0, "cut": 1.0, "seconds": 2.5},
        {"rollouts": 6.0, "cut": 1.0, "seconds": 3.0},
    ]


def test_what_was_not_measured_is_shown_as_never_run():
    shown = page()
    for title in ("A slow step through verl", "A fast phase through verl", "The demo through verl"):
        assert f"## {title}\n\nNot measured: written and checked on CPU, never run on a GPU." in shown


def test_the_page_shows_slow_steps_through_verl_and_which_run_did_not_end():
    arms = {"plain": {"seconds": [2.0, 2.2], "hooks": []}, "off": {"seconds": [2.1], "hooks": []}}
    arms["on"] = {"seconds": [2.2, 2.3, 2.4], "hooks": [0.01, 0.02, 0.03]}
    shown = page({"part": "verl_step", "arms": arms, "unfinished": {"on": "verl ended with 1:\nout of memory"}})
    assert "| verl | 2 | 2.10 | 2.00 to 2.20 | – |" in shown
    assert "| with fast weights, K=4 prompts | 3 | 2.30 | 2.20 to 2.40 | 2.00% |" in shown
    assert "by chance alone, here by 0%." in shown and "Not finished: on: out of memory" in shown
    assert "a card, 16 CPU cores" in shown and "verl 1, vllm 1" in shown


def test_the_page_shows_what_rollouts_cost_before_and_beside_slow_steps_and_as_one_batch():
    before = {"rollouts": 480, "seconds": 24.0, "generating": 20.0, "one_batch": 12.0}
    steps = [{"rollouts": 60.0, "cut": 2.0, "seconds": 3.5}, {"rollouts": 40.0, "cut": 0.0, "seconds": 2.5}]
    shown = page({"part": "verl_phase", "before": before, "alone": [2.0, 2.0, 2.5], "beside": steps})
    assert "| before the slow steps | 480 | 24.0 | 20.0 |" in shown and "| as one batch | 480 | 12.0 | 40.0 |" in shown
    assert "| next to slow steps | 100 | 2.0 | 50.0 |" in shown
    assert "in 2 steps; 2 rollouts were cut off" in shown
    cut_off = page({"part": "verl_phase", "alone": [], "unfinished": {"before": "ended after 180 s"}})
    assert "Not finished: before: ended after 180 s" in cut_off and "next to slow steps" not in cut_off


def test_the_page_shows_the_demos_curve_and_its_prompt_as_text():
    found = {
        "best_prompt": {"0": 0.1, "6": 0.9},
        "seed_prompt": {"0": 0.1},
        "fast_rollouts": 512,
        "prompt": "Say | <b>.",
    }
    shown = page({"part": "verl_demo", **found})
    assert "| 0 | 0.10 | 0.10 |\n| 6 | 0.90 | – |" in shown and "512 rollouts in fast phases" in shown
    assert "\n    Say | <b>." in shown
