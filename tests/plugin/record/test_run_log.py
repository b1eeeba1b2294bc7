"""The log of a run, for RL stacks that keep none."""

from fst_plugin.analysis.read import read
from fst_plugin.record import run_log


def test_the_log_is_read_as_a_run(tmp_path):
    folder = tmp_path / "fst_3"
    run_log.append(folder, 0, {"val-core/house/reward/mean@4": 0.25, "epoch": 0.0})
    run_log.append(folder, 1, {"fst/rollouts_slow_total": 64, "note": "text", "loss": float("nan"), "flag": True})
    run = read(str(folder))
    assert (run.arm, run.seed, run.reward(), run.slow_rollouts()) == ("fst", 3, {0: 0.25}, {0: 0, 1: 64})
    assert set(run.steps[1].data) == {"fst/rollouts_slow_total"}


def test_a_new_run_moves_an_earlier_log_aside(tmp_path):
    assert run_log.begin(tmp_path, fresh=True) is None
    run_log.append(tmp_path, 1, {"loss": 1.0})
    moved = run_log.begin(tmp_path, fresh=True)
    assert moved.read_text() == '{"step": 1, "data": {"loss": 1.0}}\n'
    assert not (tmp_path / run_log.METRICS_FILE).exists()


def test_a_moved_log_does_not_stand_in_the_way_of_reading(tmp_path):
    for loss in (1.0, 2.0):
        run_log.begin(tmp_path, fresh=True)
        run_log.append(tmp_path, 1, {"loss": loss})
    assert read(str(tmp_path)).steps[0].data["loss"] == 2.0


def test_a_resumed_run_drops_the_line_that_a_kill_cut_off(tmp_path):
    run_log.append(tmp_path, 1, {"loss": 1.0})
    with open(tmp_path / run_log.METRICS_FILE, "a") as file:
        file.write('{"step": 2, "da')
    run_log.begin(tmp_path, fresh=False)
    run_log.append(tmp_path, 2, {"loss": 2.0})
    assert [step.data["loss"] for step in read(str(tmp_path)).steps] == [1.0, 2.0]
