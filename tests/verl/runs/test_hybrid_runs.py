"""Prompts that evolve beside the slow steps, in real verl runs on CPU: four launches."""

import json

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

from test_runs import FST, G, anchor_rows, batch_of, by_uid, prompts_of, slow_rows, template_ids  # noqa: E402

T = 4
HYBRID = (
    *(argument for argument in FST if not argument.startswith("fst.slow_steps")),
    f"fst.slow_steps={T}",
    "fst.fast.when=hybrid",
    "fst.fast.grace=100",
    "trainer.total_training_steps=10",
)


def beside(run, step):
    """What the phase asked for beside this step."""
    return run.metrics()[step]["fst/beside_rollouts"]


def test_they_are_never_trained_on_and_a_killed_run_goes_on_with_them(world, launch):
    arguments = [*HYBRID, "trainer.save_freq=1", "trainer.test_freq=4", "fst.fast.max_failed_phases=9"]
    run = launch("hybrid", *arguments)
    run.kill_when(lambda: 6 in run.metrics())  # the second cycle's second step, the third cycle's prompts under way
    first, log = run.metrics(), run.text()
    assert [beside(run, step) > 0 for step in range(1, T)] == [False, True, True]
    assert all(first[step]["fst/beside_cut"] == first[step]["fst/beside_failed"] == 0 for step in range(1, 7))
    assert first[5]["fst/beside"] == 1 and first[5]["fst/rollouts_late"] == 0
    course = json.loads((run.out / "checkpoints" / "global_step_6" / "fst" / "alongside.json").read_text())
    assert [wave["step"] for wave in course["waves"]] == [5, 6]

    # beside a step only its own problems, one rollout a prompt, at the training's temperature
    asked = anchor_rows(run)
    assert asked[2] | asked[3] and all(asked[step] <= batch_of(step) for step in (2, 3, 4, 6))
    single = [group[0] for group in by_uid(run.sent()).values() if len(group) == 1 and group[0]["index"] < 100]
    assert {entry["temperature"] for entry in single if entry["step"] > 1} == {1.0}

    # from here on nothing beside a step is waited for, and it comes to the engine when the step has ended
    run = launch("hybrid", *arguments, "fst.fast.grace=0", PROBE_LATE_S="20").finish()
    assert "cycle_0002 is of a life that went further than the checkpoint" in run.text()[len(log) :]
    metrics = run.metrics()
    assert sorted(metrics)[-1] == 10 and metrics[10]["fst/cycle"] == 2
    assert metrics[7]["fst/beside_cut"] == metrics[7]["fst/beside_failed"] == beside(run, 7) > 0
    # servers whose requests were aborted take the next step's, with new weights
    slow = slow_rows(run)
    for step in range(1, 11):
        prompts = prompts_of(run, (step - 1) // T)
        assert {group[0]["index"] for group in slow[step]} == batch_of(step)
        for group in slow[step]:
            for entry in group:
                assert entry["ids"] == template_ids(world, prompts[entry["session"] % len(prompts)], entry["index"])
    assert all(len(group["rewards"]) == G for group in run.groups())
    # what was cut off is in no validation
    assert all(f"val-core/sums{arm}/reward/mean@1" in metrics[step] for arm in ("", "/seed_prompt") for step in (8, 10))
    validated = [entry for entry in run.sent() if entry["index"] >= 100 and entry["step"] in (8, 10)]
    assert len(validated) == 2 * 4 * 2, "four problems under two prompts"


@pytest.mark.parametrize("mode", ["colocate_async", "separate_async"])
def test_they_ride_along_where_verl_rolls_out_ahead(world, launch, mode):
    """Cycles of six steps, of which the first may train on rollouts of before; what goes out with one step is in with
    the next."""
    separate = ["+fst_cpu=separate_async", "trainer.v1.separate_async.parameter_sync_step=1"]
    run = launch(
        mode,
        *(argument for argument in HYBRID if not argument.startswith(("fst.slow", "trainer.total"))),
        "fst.slow_steps=6",
        "trainer.total_training_steps=15",
        "trainer.test_freq=3",
        f"trainer.v1.trainer_mode={mode}",
        *(separate if mode == "separate_async" else []),
    ).finish()
    metrics = run.metrics()
    assert sorted(metrics) == list(range(1, 16)) and metrics[15]["fst/cycle"] == 2
    sent = {step: metrics[step].get("fst/beside_rollouts", 0) for step in metrics}
    out = [step for step, n in sent.items() if n]
    assert out and all(later - step >= 2 for step, later in zip(out, out[1:], strict=False))
    assert not {1, 6, 7, 12} & set(out), "a cycle's first step brings scores, and nothing is under way as it ends"
    assert metrics[7]["fst/beside"] == metrics[13]["fst/beside"] == 1
    assert sum(found["fst/beside_cut"] for found in metrics.values()) == 0
    assert all(metrics[step]["fst/rollouts_late"] == 0 for step in (7, 13))
    validated = [entry for entry in run.sent() if entry["index"] >= 100]
    assert len(validated) == 5 * 2 * 4, "rollouts under way are no part of a validation"
    for groups in slow_rows(run).values():
        assert all(len(group) == G for group in groups)
