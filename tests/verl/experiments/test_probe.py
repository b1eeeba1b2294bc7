"""What `fst probe` makes of a run, and that its own arguments pass the check."""

import json

import pytest

pytest.importorskip("verl")

from cycles import fast_weights  # noqa: E402
from fst_verl.check import compose, problems  # noqa: E402
from fst_verl.experiments import probe, runner  # noqa: E402
from rule_world import World, make_problems  # noqa: E402

from fst_plugin.record.cycles import read_record  # noqa: E402


def test_the_default_config_can_be_probed(tmp_path):
    given = ["data.train_files=x.parquet", "actor_rollout_ref.rollout.n=8", "trainer.total_training_steps=500"]
    config = compose(probe.arguments(given, tmp_path))
    assert problems(config) == []
    assert config.trainer.total_training_steps == 1 and config.trainer.critic_warmup == 2
    assert config.fst.enabled and config.trainer.save_freq == -1


@pytest.mark.parametrize(
    ("gain", "error", "mean", "solved", "begins"),
    [
        (0.4, 0.1, 0.5, 0.55, "Prompt-limited"),
        (0.4, 0.1, 0.5, 0.9, "Both"),
        (0.1, 0.1, 0.2, 0.6, "Weight-limited"),
        (None, None, 0.2, 0.6, "Weight-limited"),
        (0.05, 0.1, 0.0, 0.0, "Inconclusive"),
    ],
)
def test_the_verdict_follows_the_figures(gain, error, mean, solved, begins):
    found = probe.Found(0.1, 0.5, gain, error, 40, 10 * mean, solved, mean, 100, "text")
    assert found.verdict().startswith(begins)


@pytest.fixture
def launched(monkeypatch):
    """`launch` without verl: the cycle and the step that a probe leaves."""
    ran = []

    def launch(arguments, out, on_step):
        ran.append(arguments)
        weights, _ = fast_weights(out / "checkpoints" / "fst")
        weights.evolve(1, "w", make_problems(48), World())
        data = {"fst/group_mean": 2.5, "fst/group_solved": 0.75, "fst/group_solved_mean": 0.25}
        (out / "metrics.jsonl").write_text(json.dumps({"step": 1, "data": data}) + "\n")

    monkeypatch.setattr(runner, "launch", launch)
    return ran


GIVEN = ["data.train_files=x.parquet", "actor_rollout_ref.rollout.n=8"]


def test_the_figures_are_read_from_the_cycle_and_the_step(launched, tmp_path):
    found = probe.run(GIVEN, tmp_path)
    best = read_record(tmp_path / "probe_0" / "checkpoints").best()
    assert found.prompt == best.text and found.gain > 0 and found.problems >= 3
    assert (found.mean, found.solved, found.solved_mean) == (2.5, 0.75, 0.25) and found.seed < found.best
    json.dumps(found.to_json(), allow_nan=False)
    assert probe.run(GIVEN, tmp_path) == found and len(launched) == 1, "a finished probe is not repeated"


def test_a_fast_phase_that_failed_is_reported(launched, tmp_path):
    probe.run(GIVEN, tmp_path)
    (tmp_path / "probe_0" / "checkpoints" / "fst" / "cycle_0000" / "evolution.json").unlink()
    with pytest.raises(RuntimeError, match="did not finish: .*probe_0/log.txt"):
        probe.run(GIVEN, tmp_path)
