"""The demo's arithmetic on made-up metrics files."""

import json

import pytest

pytest.importorskip("rich")
demo = pytest.importorskip("fst_verl.experiments.demo")


def metrics_file(path, accuracy, kl, **extra):
    with open(path, "w") as file:
        for step, value in accuracy.items():
            data = {"val-core/x/acc/mean@4": value, "val-aux/x/reward/mean@4": 9.0, "actor/kl_loss": kl * step, **extra}
            file.write(json.dumps({"step": step, "data": data}) + "\n")
    return path


def test_figures_come_from_verls_own_log(tmp_path):
    extra = {"val-core/x/seed_prompt/acc/mean@4": 0.1, "fst/rollouts_fast_total": 50}
    result = demo.read_metrics(metrics_file(tmp_path / "m", {0: 0.0, 6: 0.5, 12: 0.7}, 0.01, **extra), 100)
    assert result.val_acc_by_step == {0: 0.0, 6: 0.5, 12: 0.7}
    assert result.val_acc_seed_prompt_by_step == {0: 0.1, 6: 0.1, 12: 0.1}
    assert (result.rollouts_slow, result.rollouts_fast) == (1200, 50)
    assert result.rollouts_by_step == {0: 0, 6: 650, 12: 1250}
    assert result.kl_to_base == pytest.approx(0.12)


def test_the_seconds_of_a_run_add_up_by_part(tmp_path):
    path = tmp_path / "m"
    marks = demo.Marks(path)
    marks.look()
    assert marks.started is None
    path.touch()
    marks.look()
    assert marks.started is not None and marks.validated is None
    lines = [{}, {"timing_s/step": 20.0}, {"timing_s/step": 4.0, "timing_s/testing": 8.0}]
    path.write_text("".join(json.dumps({"step": i, "data": data}) + "\n" for i, data in enumerate(lines)))
    marks.look()
    assert marks.validated >= marks.started
    marks = demo.Marks(path, started=100.0, validated=110.0)
    found = demo.parts(path, 150.0, marks)
    assert found == {"start-up": 100.0, "validation": 18.0, "steps": 24.0, "rest": 8.0}
    report = pytest.importorskip("fst_verl.experiments.demo_report")
    table = report.time_table({"rl": {0: demo.Result(seconds=150.0, seconds_by_part=found)}})
    assert [list(column.cells)[0] for column in table.columns] == ["RL alone, seed 0", "100", "18", "24", "8", "150"]


def result(**accuracy):
    return demo.Result(val_acc_by_step={int(k[1:]): v for k, v in accuracy.items()})


def test_steps_to_rls_peak_for_every_arm():
    results = {
        "rl": {0: result(s0=0.1, s6=0.6, s12=0.5)},
        "fst": {0: result(s0=0.1, s6=0.5, s12=0.7)},
        "prompts": {0: result(s0=0.1, s6=0.4, s12=0.4)},
    }
    demo.compare(results)
    assert [results[a][0].steps_to_rl_peak for a in ("rl", "fst", "prompts")] == [6, 12, None]


def test_the_verdict_names_whoever_was_first():
    report = pytest.importorskip("fst_verl.experiments.demo_report")
    results = {"rl": {0: result(s0=0.1, s6=0.6)}, "fst": {0: result(s0=0.1, s6=0.5)}}
    demo.compare(results)
    assert "did not reach" in report.verdict(results)
    assert report.spread([None, None]) == "never" and report.spread([1.0, None]) == "1.00 (1 never)"


@pytest.mark.parametrize("arm", list(demo.ARMS))
def test_every_arms_command_line_passes_the_check(arm, tmp_path):
    pytest.importorskip("verl")
    from fst_verl import check

    arguments = demo.arguments(arm, 0, demo.Setup(), tmp_path / "model", tmp_path / "out")
    config = check.compose([a for a in arguments if not a.startswith("hydra.")])
    assert check.problems(config) == []
    assert config.fst.enabled is (arm != "rl")
    assert (
        config.algorithm.adv_estimator == "fst_grpo" and config.actor_rollout_ref.actor.policy_loss.loss_mode == "cispo"
    )
