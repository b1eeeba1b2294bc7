"""The demo on runs that a fake verl leaves: what is launched, printed and written."""

import io
import json
import sys

import pytest

pytest.importorskip("verl")

from fst_verl import check  # noqa: E402
from fst_verl.experiments import demo, runner  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

SETUP = demo.Setup(steps=12, seeds=(0, 1))
CURVES = {"rl": (0.0, 0.5, 0.7), "prompts": (0.0, 0.6, 0.6), "fst": (0.0, 0.8, 0.9)}
PER_STEP = SETUP.batch * SETUP.group


@pytest.fixture
def launched(monkeypatch):
    """`launch` without verl: the log and Hydra's record that a run of these arguments would leave."""
    ran = []

    def launch(arguments, out, on_step, program):
        ran.append(out.name)
        arm = out.name.split("_")[0]
        (out / "hydra" / ".hydra").mkdir(parents=True)
        batch, group = (f"{{train_batch_size: {SETUP.batch}}}", f"{{rollout: {{n: {SETUP.group}}}}}")
        (out / "hydra" / ".hydra" / "config.yaml").write_text(f"data: {batch}\nactor_rollout_ref: {group}\n")
        with open(out / "metrics.jsonl", "w") as file:
            for step in range(13):
                data = {"val-aux/x/reward/mean@4": 9.0, "timing_s/gen": 1.0}
                if step % 6 == 0:
                    data["val-core/x/acc/mean@4"] = CURVES[arm][step // 6]
                    data |= {"val-core/x/seed_prompt/acc/mean@4": 0.1} if arm == "fst" else {}
                if step:
                    data |= {} if arm == "prompts" else {"actor/kl_loss": 0.01 * step, "timing_s/update_actor": 1.0}
                    data |= {} if arm == "rl" else {"fst/rollouts_fast_total": 50.0}
                file.write(json.dumps({"step": step, "data": data}) + "\n")
        on_step(12)

    monkeypatch.setattr(runner, "launch", launch)
    return ran


def perform(out, arms=("rl", "prompts", "fst"), setup=SETUP):
    console = Console(width=120, record=True, file=io.StringIO())
    with Progress(console=console) as progress:
        runs = demo.run(setup, out / "model", out, arms, 1, progress)
    return runs, console


def test_figures_come_from_verls_own_log(launched, tmp_path):
    runs, _ = perform(tmp_path)
    figures = json.loads(json.dumps(demo.figures(SETUP, runs), allow_nan=False))
    assert figures["setup"]["group"] == SETUP.group
    fst, rl, prompts = (figures["arms"][arm]["1"] for arm in ("fst", "rl", "prompts"))
    assert fst["val_acc_by_step"] == {"0": 0.0, "6": 0.8, "12": 0.9}
    assert fst["val_acc_seed_prompt_by_step"] == {"0": 0.1, "6": 0.1, "12": 0.1}
    assert (fst["rollouts_slow"], fst["rollouts_fast"], rl["rollouts_fast"]) == (12 * PER_STEP, 50, 0)
    assert fst["rollouts_by_step"] == {"0": 0} | {str(s): s * PER_STEP + 50 for s in range(1, 13)}
    assert (fst["kl_to_base"], prompts["kl_to_base"]) == (pytest.approx(0.12), 0.0)
    assert [arm["steps_to_rl_peak"] for arm in (rl, fst, prompts)] == [12, 6, None]
    assert fst["seconds"] >= 0 and fst["best_prompt"] == ""
    assert figures["comparison"]["arms"]["fst"]["steps_ratio"]["value"] == 0.5


def test_what_is_shown_and_left(launched, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    runs, _ = perform(tmp_path)
    shown = Console(width=160, record=True, file=io.StringIO())
    demo.show(shown, runs)
    demo.write_report(shown, tmp_path, runs)
    text = shown.export_text()
    assert "prompts alone" in text and "fst reached it after 6 RL steps" in text
    assert "prompts did not reach that within its run" in text and "over 2 seeds" in text
    assert (tmp_path / "reward_by_steps.png").exists() and "prompts_1" in (tmp_path / "report.html").read_text()


def test_without_the_extra_a_line_says_what_is_missing(launched, tmp_path, monkeypatch):
    runs, _ = perform(tmp_path, ("rl",))
    for name in [m for m in sys.modules if m.startswith("fst_plugin.analysis.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = Console(width=160, record=True, file=io.StringIO())
    demo.show(shown, runs)
    demo.write_report(shown, tmp_path, runs)
    assert "fst-plugin[analysis]" in shown.export_text() and not (tmp_path / "report.html").exists()


def test_a_finished_arm_is_not_repeated_and_another_one_in_its_place_is_an_error(launched, tmp_path):
    perform(tmp_path)
    perform(tmp_path)
    assert len(launched) == 6
    with pytest.raises(RuntimeError, match="another --out"):
        perform(tmp_path, setup=demo.Setup(steps=6))


@pytest.mark.parametrize("arm", list(demo.ARMS))
def test_every_arms_command_line_passes_the_check(arm, tmp_path):
    arguments = demo.arguments(arm, 0, demo.Setup(), tmp_path / "model", tmp_path / "out")
    config = check.compose([a for a in arguments if not a.startswith("hydra.")])
    assert check.problems(config) == []
    assert config.fst.enabled is (arm != "rl")
    assert (
        config.algorithm.adv_estimator == "fst_grpo" and config.actor_rollout_ref.actor.policy_loss.loss_mode == "cispo"
    )


def test_the_seconds_of_a_run_add_up_by_part(launched, tmp_path):
    runs, _ = perform(tmp_path, arms=("rl",), setup=demo.Setup(steps=12, seeds=(0,)))
    marker = tmp_path / "rl_0" / runner.DONE_FILE
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"seconds": 100.0}))
    table = demo.time_table(runs)
    parts, seconds = (list(column.cells) for column in table.columns)
    expected = {"rollouts": "12", "update": "12", "start-up and the rest": "76", "total": "100"}
    assert dict(zip(parts, seconds, strict=True)) == expected
