"""What `fst probe` makes of a run, and that its own arguments pass the check."""

import io
import json

import pytest
from rich.console import Console

pytest.importorskip("verl")

from cycles import fast_weights  # noqa: E402
from fst_verl.check import compose, problems  # noqa: E402
from fst_verl.command_line import Command  # noqa: E402
from fst_verl.experiments import probe, runner  # noqa: E402
from rule_world import World, make_problems  # noqa: E402
from verl_commands import usable as usable_arguments  # noqa: E402

from fst_plugin.record.cycles import read_record  # noqa: E402


def test_the_default_config_can_be_probed(tmp_path):
    given = ["+fst=default", "data.train_files=x.parquet", "trainer.total_training_steps=500"]
    config = compose(probe.arguments(given, tmp_path))
    assert problems(config) == []
    assert config.trainer.total_training_steps == 1 and config.trainer.critic_warmup == 2
    assert config.fst.enabled and config.trainer.save_freq == -1


@pytest.fixture
def usable(tmp_path):
    return usable_arguments(tmp_path)


def figures(**other):
    usual = dict(seed=0.1, best=0.5, gain=0.4, error=0.1, problems=40, tested=9, mean=0.5, top=0.9, solved=0.9)
    return probe.Found(**{**usual, "perfect": 1.0, "rollouts": 100, "prompt": "text", **other})


@pytest.mark.parametrize(
    ("measured", "begins"),
    [
        (dict(top=0.55), "Prompt-limited"),
        (dict(), "Both"),
        (dict(gain=0.1), "Weight-limited"),
        (dict(gain=None, error=None, best=0.1), "Weight-limited"),
        (dict(gain=0.05, mean=0.0, top=0.0), "Inconclusive"),
        (dict(gain=None, error=None, best=0.1, tested=0), "No verdict: no new prompt was tried"),
        (dict(gain=None, error=None), "No verdict: the best new prompt was not compared"),
        (dict(gain=0.4, error=None, problems=1), "No verdict: the best new prompt was not compared"),
    ],
)
def test_the_verdict_follows_the_figures(measured, begins):
    assert figures(**measured).verdict().startswith(begins)


def test_rewards_below_zero_are_no_success():
    """Rewards of -0.5 to 0, and no problem solved: the share of solved ones is 0, and 0.25 above the mean reward."""
    alike = figures(gain=0.0, mean=-0.25, top=-0.25, solved=0.0)
    assert alike.verdict().startswith("Inconclusive")
    assert figures(gain=0.0, mean=-0.25, top=0.0, solved=0.0).verdict().startswith("Weight-limited")


def test_room_is_measured_against_the_perfect_score():
    assert not figures(mean=50.0, top=55.0, perfect=100.0).room()
    assert figures(mean=50.0, top=60.0, perfect=100.0).room()


LOG = (
    "(TaskRunnerV1 pid=7) fst: cycle 1: searching: 40/472 rollouts\nnoise\nfast phase 1: search ended: \x1b[31mbudget\n"
)


@pytest.fixture
def launched(monkeypatch):
    """`launch` without verl: the cycle, the step and the log that a probe leaves."""
    ran = []

    def launch(arguments, out, on_step, program):
        ran.append(program)
        weights, _ = fast_weights(out / "checkpoints" / "fst")
        weights.evolve(1, "w", make_problems(48), World())
        data = {"fst/group_mean": 0.25, "fst/group_best": 0.8, "fst/group_solved": 0.75, "fst/perfect_score": 1.0}
        (out / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": data}) + "\n")
        for end in (70, len(LOG)):
            (out / "log.txt").write_text(LOG[:end])
            on_step(0)

    monkeypatch.setattr(runner, "launch", launch)
    return ran


def test_the_figures_are_read_from_the_cycle_and_the_step(launched, tmp_path, usable):
    command = Command.parse(usable)
    found = probe.run(command, tmp_path)
    best = read_record(tmp_path / "probe_0" / "checkpoints").best()
    assert found.prompt == best.text and found.gain > 0 and found.problems >= 3 and found.tested > 0
    assert (found.mean, found.top, found.solved) == (0.25, 0.8, 0.75) and found.seed < found.best
    json.dumps(found.to_json(), allow_nan=False)
    assert probe.run(command, tmp_path) == found and len(launched) == 1, "a finished probe is not repeated"


def test_it_says_how_far_it_is_and_shows_the_prompt(launched, tmp_path, usable, monkeypatch):
    told, screen = [], io.StringIO()
    found = probe.run(Command.parse(usable), tmp_path, told.append)
    assert [line for line in told if line.startswith("verl starts")]
    assert told[-2:] == ["fst: cycle 1: searching: 40/472 rollouts", "fast phase 1: search ended: \\x1b[31mbudget"]
    probe.show(Console(file=screen, width=200), found)
    assert found.prompt.splitlines()[0] in screen.getvalue() and found.verdict() in screen.getvalue()


def test_a_quiet_probe_says_that_it_still_runs(tmp_path, monkeypatch):
    told, clock = [], iter((0.0, 30.0, 61.0, 90.0))
    monkeypatch.setattr(probe.time, "monotonic", lambda: next(clock))
    news = probe._News(tmp_path / "log.txt", told.append)
    for _ in range(3):
        news.look()
    assert told == ["still running after 61 s"]


def test_the_users_program_is_that_of_the_run(launched, tmp_path, usable):
    probe.run(Command.parse(["python3", "-u", "-m", "verl.trainer.main_ppo", *usable]), tmp_path)
    assert launched == [("-u", "-m", "verl.trainer.main_ppo")]


def test_what_would_fail_later_ends_the_probe_before_it_starts(launched, tmp_path, usable):
    with pytest.raises(ValueError, match="data.train_files: .*nowhere.parquet does not exist"):
        probe.run(Command.parse([*usable, "data.train_files=nowhere.parquet"]), tmp_path)
    assert launched == []


def test_a_fast_phase_that_failed_is_reported(launched, tmp_path, usable):
    probe.run(Command.parse(usable), tmp_path)
    (tmp_path / "probe_0" / "checkpoints" / "fst" / "cycle_0000" / "evolution.json").unlink()
    with pytest.raises(RuntimeError, match="did not finish: .*probe_0/log.txt"):
        probe.run(Command.parse(usable), tmp_path)
