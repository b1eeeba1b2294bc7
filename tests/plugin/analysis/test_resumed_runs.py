"""Runs that were cut off and resumed: verl's log starts anew, the run's own record goes on."""

import json

import pytest
from analysis_runs import BATCH, GROUP, make_run, write_log
from cycles import fast_weights

from fst_plugin.analysis import compare
from fst_plugin.analysis.costs import costs
from fst_plugin.analysis.read import read
from fst_plugin.record.steps import STEPS_FILE, append_step, read_steps

SIZE = BATCH * GROUP


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of 8 steps, and its log's lines."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "fst_0", lambda s: 0.1 * s, steps=8, every=2)
    return folder, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def resumed(tmp_path, whole, at, keep=True):
    """The same run resumed after step `at`: verl's log begins with a validation of that step; keep: the run's own
    record holds both lives."""
    folder, lines = whole
    new = tmp_path / "fst_0"
    (new / "checkpoints").mkdir(parents=True)
    (new / "checkpoints" / "fst").symlink_to(folder / "checkpoints" / "fst")
    if keep:
        (new / "checkpoints" / "fst").unlink()
        live = new / "checkpoints" / "fst"
        live.mkdir()
        for path in (folder / "checkpoints" / "fst").iterdir():
            (live / path.name).symlink_to(path)
        for line in lines[: at + 1]:
            append_step(live, line["step"], line["data"])
    validation = {k: v for k, v in lines[at]["data"].items() if k.startswith("val-")}
    tail = [{"step": at, "data": validation}, *lines[at + 1 :]]
    write_log(new / "metrics.jsonl", [(line["step"], line["data"]) for line in tail])
    return read(str(new))


def figures(run):
    return compare.compare([run])["arms"]["fst"]


def values(found):
    names = ("slow_rollouts", "fast_rollouts", "seconds", "seconds_per_slow_step", "seconds_per_rollout", "peak")
    return {name: found[name]["value"] for name in names}


def test_a_resumed_run_that_kept_its_own_record_has_the_figures_of_the_undisturbed(tmp_path, whole):
    run, plain = resumed(tmp_path, whole, 2), read(str(whole[0]))
    assert run.missing == 0 and [s.step for s in run.trained] == list(range(1, 9))
    assert values(figures(run)) == pytest.approx(values(figures(plain)))
    assert run.rollouts() == plain.rollouts() and run.reward() == pytest.approx(plain.reward())


def test_a_resume_that_had_nothing_left_to_train_keeps_its_totals(tmp_path, whole):
    run, plain = resumed(tmp_path, whole, 8), read(str(whole[0]))
    assert values(figures(run)) == pytest.approx(values(figures(plain)))
    assert figures(run)["slow_rollouts"]["value"] == 8 * SIZE and figures(run)["fast_rollouts"]["value"] > 0


def test_rates_of_a_log_that_begins_late_are_over_its_own_steps(tmp_path, whole):
    run = resumed(tmp_path, whole, 2, keep=False)
    rows = costs(read(str(whole[0]))).rows[2:]
    found, seconds = figures(run), sum(sum(row.seconds.values()) for row in rows)
    assert found["seconds_per_slow_step"]["value"] == pytest.approx(seconds / 6), "a validation is not a step"
    paid = 6 * SIZE + sum(row.fast_rollouts for row in rows)
    assert found["seconds_per_rollout"]["value"] == pytest.approx(seconds / paid)
    assert found["seconds"] is None, "no total of what no log holds"
    assert found["slow_rollouts"]["value"] == 8 * SIZE, "which the run counted itself"
    assert "2 slow steps are in no log" in found["reasons"]["costs"]


def test_nothing_logged_gives_no_figures_rather_than_one_steps(tmp_path, whole):
    found = figures(resumed(tmp_path, whole, 8, keep=False))
    names = ("slow_rollouts", "fast_rollouts", "rollouts", "seconds", "seconds_per_slow_step", "tokens_slow")
    assert [found[name] for name in names] == [None] * len(names)


def test_a_plain_run_resumed_counts_what_its_batch_says(tmp_path):
    data = {"timing_s/step": 2.0, "timing_s/gen": 1.0}
    write_log(tmp_path / "m.jsonl", [(2, {"val-core/a/acc/mean@1": 0.5}), (3, data), (4, data)])
    assert read(str(tmp_path)).slow_rollouts() == {}
    run = read(str(tmp_path), rollouts_per_step=10)
    assert run.slow_rollouts() == {0: 0, 3: 30, 4: 40}
    assert costs(run).sum("slow_rollouts") is None and costs(run).rates("seconds")["per_rollout"] == 2.0 / 10


def test_a_run_is_read_from_its_own_record_where_it_has_no_log(tmp_path, whole):
    run = resumed(tmp_path, whole, 8)
    (tmp_path / "fst_0" / "metrics.jsonl").unlink()
    assert read(str(tmp_path / "fst_0")).steps == run.steps
    assert read(f"fst_0={tmp_path / 'fst_0' / 'checkpoints' / 'fst'}").steps == run.steps


# ------------------------------------------------------------------------------------------------------- the record


def test_a_later_life_replaces_what_it_went_back_behind(tmp_path):
    for step, value in [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (1, 10.0), (2, 20.0)]:
        append_step(tmp_path, step, {"a": value})
    found = read_steps(tmp_path)
    assert found.data == {0: {"a": 0.0}, 1: {"a": 10.0}, 2: {"a": 20.0}} and found.undone == 2


def test_a_validation_of_an_old_checkpoint_drops_no_later_step(tmp_path):
    for step in (1, 2, 3):
        append_step(tmp_path, step, {"timing_s/step": 1.0})
    append_step(tmp_path, 1, {"val-core/a/acc/mean@1": 0.5, "fst/kl_to_base": 0.1})
    found = read_steps(tmp_path)
    assert list(found.data) == [1, 2, 3] and found.undone == 0
    assert found.data[1] == {"timing_s/step": 1.0, "val-core/a/acc/mean@1": 0.5, "fst/kl_to_base": 0.1}
    append_step(tmp_path, 2, {"timing_s/step": 2.0})
    assert list(read_steps(tmp_path).data) == [1, 2] and read_steps(tmp_path).undone == 1


def test_a_torn_line_and_damage_are_left_out_and_counted(tmp_path):
    append_step(tmp_path, 1, {"a": 1.0, "nan": float("nan"), "text": "x", "none": None})
    with open(tmp_path / STEPS_FILE, "ab") as file:
        file.write(b'{"step": 2, "da')
    append_step(tmp_path, 3, {"a": 3.0})
    found = read_steps(tmp_path)
    assert found.data == {1: {"a": 1.0}, 3: {"a": 3.0}} and found.damaged == 1
    live = make_live(tmp_path / "run")
    with open(live / STEPS_FILE, "ab") as file:
        file.write(b"damaged\n")
    append_step(live, 1, {"val-core/a/acc/mean@1": 0.5})
    assert read(str(tmp_path / "run")).left_out == (f"damaged lines of {STEPS_FILE}, left out: 1",)


def make_live(folder):
    live = folder / "fst"
    (live / "cycle_0000").mkdir(parents=True)
    (live / "cycle_0000" / "identity.json").write_text("{}")
    return live


def test_a_record_that_cannot_be_written_is_said_once_and_training_goes_on(tmp_path):
    weights, lines = fast_weights(tmp_path / "fst")
    (tmp_path / "fst").mkdir()
    (tmp_path / "fst" / STEPS_FILE).mkdir()
    weights.log_step(1, {"a": 1.0})
    weights.log_step(2, {"a": 1.0})
    assert len(lines) == 1 and "step 1 and later ones are missing" in lines[0]
