"""What a step of verl's trainer does to the fast weights, on fakes."""

import dataclasses
from types import SimpleNamespace

import pytest

pytest.importorskip("omegaconf")

from fast_slow_kit import BATCH, G, K, make, play  # noqa: E402
from fst_verl import batches, transfer  # noqa: E402
from fst_verl.prompt_store import PromptsLost  # noqa: E402

from fst_plugin import adapter  # noqa: E402
from fst_plugin.config import FSTConfig  # noqa: E402
from fst_plugin.prompts import Population, Prompt  # noqa: E402
from fst_plugin.record.steps import read_steps  # noqa: E402


@pytest.fixture
def made(tmp_path, monkeypatch):
    return make(tmp_path, monkeypatch)


def test_a_reward_that_is_not_finite_never_reaches_the_advantages(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    play(fst, trainer, monkeypatch, [1])
    done = [transfer.Trajectory("u", score, "", 1, {}) for score in (1.0, float("nan"), 0.0)]
    monkeypatch.setattr(transfer, "scored", lambda batch: done)
    with pytest.raises(ValueError, match=r"1 of 3 rewards are not finite \(such as nan\): fix verl's own reward"):
        fst.collect(None)


def test_before_it_begins_nothing_is_changed(made):
    fst, trainer, _ = made
    batch = fst.look_ahead.next()
    before = dict(batch.columns)
    fst.assign(batch)
    fst.collect(batch)
    fst.observe()
    fst.evolve_if_due()
    fst.save()
    assert batch.columns == before and fst.metrics() == {}


def test_a_step_that_verl_trains_on_in_parts_is_observed_once_as_a_whole(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    parts = [
        [transfer.Trajectory(f"u{part}", float(part), "answer", 3, {"fst": {"problem": "p", "digest": digest}})]
        for part, digest in enumerate([fst.weights.seed.digest] * 2)
    ]
    seen = []
    monkeypatch.setattr(fst.weights, "observe", lambda step, weights, rollouts: seen.append((step, rollouts)))
    monkeypatch.setattr(transfer, "keys_of", lambda batch: ["u_0_0"])
    monkeypatch.setattr(transfer, "texts", lambda keys, *_: ["answer"] * len(keys))
    trainer.global_steps = 1
    for part in parts:
        monkeypatch.setattr(transfer, "scored", lambda batch, part=part: part)
        fst.collect(SimpleNamespace(partition_id="train"))
        assert seen == []
    fst.observe()
    ((step, rollouts),) = seen
    assert step == 1 and [rollout.score for *_, rollout in rollouts] == [0.0, 1.0]
    fst.observe()
    assert len(seen) == 1  # handed over once


def test_with_rollouts_beside_a_step_is_handed_over_before_the_weights_are_updated(made, monkeypatch):
    """So that a reflection goes on meanwhile; and what is under way is told of when it is in."""
    fst, trainer, _ = made
    fst.begin()
    told, beside = [], SimpleNamespace(is_last_part=lambda: trainer.local_trigger_step == 1, done=lambda: found.pop())
    fst.beside, found = beside, [["rollouts"], None]
    monkeypatch.setattr(fst.weights, "observe", lambda *given: told.append("observed"))
    monkeypatch.setattr(fst.weights, "tell", told.append)
    monkeypatch.setattr(transfer, "keys_of", lambda batch: [])
    monkeypatch.setattr(transfer, "scored", lambda batch: [])
    for step in (1, 2):
        trainer.global_steps = step
        for part in (0, 1):
            trainer.local_trigger_step = part
            assert len(told) == step - 1
            fst.collect(SimpleNamespace(partition_id="train"))
        fst.observe()
    assert told == ["observed", "observed", ["rollouts"]]


def test_dumps_know_the_prompts_of_all_parts_of_a_step(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    monkeypatch.setattr(transfer, "keys_of", lambda batch: ["u_0_0"])
    monkeypatch.setattr(transfer, "texts", lambda keys, *_: ["answer"] * len(keys))
    for part in ("a", "b"):
        done = [transfer.Trajectory(part, 1.0, "answer", 3, {"fst": {"problem": "p", "digest": f"of {part}"}})]
        monkeypatch.setattr(transfer, "scored", lambda batch, done=done: done)
        fst.collect(SimpleNamespace(partition_id="train"))
    fst.observe()
    trainer.val_dataloader = SimpleNamespace(arm_of=lambda: {})
    (infos,) = fst.named({"reward_extra_infos_dict": {"uid": ["a_0_0", "b_0_0"]}}).values()
    assert infos["fst_prompt"] == ["of a", "of b"]


@pytest.mark.parametrize("hook", ["_submit_batch_to_rollout", "_compute_advantage", "step"])
def test_a_trainer_that_passes_by_a_hook_is_told_after_its_first_step(made, monkeypatch, hook):
    fst, trainer, _ = made
    fst.begin()
    skipped = {"_submit_batch_to_rollout": "assign", "_compute_advantage": "collect", "step": "observe"}[hook]
    monkeypatch.setattr(fst, skipped, lambda *batch: None)
    monkeypatch.setattr(transfer, "keys_of", lambda batch: [])
    monkeypatch.setattr(transfer, "scored", lambda batch: [])
    fst.evolve_if_due()
    batch = fst.look_ahead.next()
    fst.assign(batch)
    fst.collect(batch)
    fst.observe()
    with pytest.raises(RuntimeError, match=f"finished a step without {hook}, and so without evolved prompts"):
        fst.metrics()


def test_evolve_assign_step(made, monkeypatch):
    fst, trainer, world = made
    fst.begin()
    first, second, third = play(fst, trainer, monkeypatch, [1, 2, 3])
    assert fst.weights.state.cycle == 1  # before steps 1 and 3
    column = first.columns["fst"][0]
    assert first.columns["agent_name"] == ["fst_context"] * BATCH and column["inner"] == "own"
    assert column["split"] == "train" and not {"sampling", "on_error"} & column.keys()  # as verl has both
    assert {c.get("offset", 0) for c in first.columns["fst"]} == {0}
    assert [c["problem"] for c in first.columns["fst"]] == batches.problem_ids(first)
    assert batches.PROBLEM not in first.keys()  # it travels in the column
    assert column["prompts"] == second.columns["fst"][0]["prompts"]  # frozen for T steps
    assert third.columns["fst"][0]["prompts"] == fst.weights.population.digest
    assert fst.rollouts.prompts.held[fst.weights.population.digest] == [p.text for p in fst.weights.population.prompts]
    found = fst.metrics()
    assert found["fst/rollouts_slow_total"] == 3 * BATCH * G and found["fst/rollouts_fast_total"] == world.rollouts
    assert found["fst/reward_prompt_1"] == 1.0 and found["fst/hook_seconds"] > 0
    assert fst.metrics()["fst/hook_seconds"] == 0


def test_a_row_is_as_long_however_many_and_however_long_the_prompts_are(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    (first,) = play(fst, trainer, monkeypatch, [1])
    row = str(first.columns["fst"][0])
    long = Population(tuple(Prompt(f"{i} " + "word " * 4000) for i in range(8)))
    fst.weights.state = dataclasses.replace(fst.weights.state, population=long)
    (second,) = play(fst, trainer, monkeypatch, [2])
    assert len(str(second.columns["fst"][0])) == len(row) < 250


def test_only_the_answers_that_a_reflection_may_be_shown_are_decoded(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    asked = []
    play(fst, trainer, monkeypatch, [1])
    monkeypatch.setattr(transfer, "texts", lambda keys, *_: asked.extend(keys) or [f"answer of {key}" for key in keys])
    fst.collect(SimpleNamespace(partition_id="train"))
    fst.observe()
    shown = {entry.rollout.response for entry in fst.weights.slow.entries}
    assert len(asked) == BATCH * K < BATCH * G and shown == {f"answer of {key}" for key in asked}
    told = []
    monkeypatch.setattr(adapter, "shown_places", lambda rollouts, most, bar, solutions: told.append(solutions) or [])
    for components in (("instructions",), ("instructions", "examples")):
        fst.weights.config = FSTConfig(components=components)
        fst.collect(SimpleNamespace(partition_id="train"))
    assert told == [False, True]  # what was solved is decoded if prompts show it
    fst.weights.config = FSTConfig(fast={"free_scores": False})
    fst.collect(SimpleNamespace(partition_id="train"))
    fst.observe()
    assert len(asked) == BATCH * K  # nothing more is decoded if slow scores are not used


def test_of_a_large_step_no_more_answers_are_read_than_reflections_need_and_it_is_told(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    asked, lines = [], []
    play(fst, trainer, monkeypatch, [1])
    fst.metrics()
    fst.weights.log, before = lines.append, len(fst.weights.slow.entries)
    fst.weights.config = FSTConfig(fast={"records": 1})
    monkeypatch.setattr(transfer, "texts", lambda keys, *_: asked.extend(keys) or [f"answer of {key}" for key in keys])
    done = [dataclasses.replace(one, text=None) for one in transfer.scored(None)]
    monkeypatch.setattr(transfer, "scored", lambda batch: done)
    for step in (2, 3):
        trainer.global_steps = step
        fst.collect(SimpleNamespace(partition_id="train"))
        fst.observe()
        assert fst.metrics()["fst/answers_unread"] == BATCH * K - 2 * K
    entries = fst.weights.slow.entries[before:]
    assert len(entries) == 2 * BATCH * K and len(asked) == 2 * 2 * K
    assert {one.rollout.response for one in entries if not one.rollout.unread} == {f"answer of {key}" for key in asked}
    assert sum(one.rollout.of for one in entries) == 2 * BATCH * G  # all rewards count
    assert len([line for line in lines if "of 8 answers that a reflection could be shown, 4 stay unread" in line]) == 1


def test_prompts_of_earlier_cycles_are_forgotten_but_those_of_rollouts_under_way(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    first, _ = play(fst, trainer, monkeypatch, [1, 2])
    before = first.columns["fst"][0]["prompts"]
    fst._validation_column("seed", "own", "p")
    monkeypatch.setattr(transfer, "under_way", lambda: first.columns["fst"][:1])
    play(fst, trainer, monkeypatch, [3])
    assert set(fst.rollouts.prompts.held) == {before, fst.weights.population.digest}
    monkeypatch.setattr(transfer, "under_way", lambda: [])
    play(fst, trainer, monkeypatch, [4, 5])
    assert set(fst.rollouts.prompts.held) == {fst.weights.population.digest}


def test_prompts_that_a_worker_could_not_get_stop_the_run_wherever_it_goes_on(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    (batch,) = play(fst, trainer, monkeypatch, [1])
    batch.columns["agent_name"] = ["own"] * BATCH
    fst.rollouts.prompts.lost = "the prompts 01 of a row are not in the transfer queue"
    dealt = fst.weights.state.counters.rollouts_slow
    for go_on in (lambda: fst.assign(batch), lambda: fst.collect(batch), lambda: fst.relabel([], [], {})):
        with pytest.raises(PromptsLost, match="the prompts 01 of a row"):
            go_on()
    assert fst.weights.state.counters.rollouts_slow == dealt


def test_the_run_keeps_what_verl_logs_of_a_step(made, monkeypatch):
    fst, trainer, _ = made
    fst.keep({"timing_s/step": 1.0})  # before it begins there is nowhere to keep it
    fst.begin()
    play(fst, trainer, monkeypatch, [1])
    fst.keep({"timing_s/step": 2.0, **fst.metrics()})
    found = read_steps(fst.weights.folder).data
    assert list(found) == [1] and found[1]["timing_s/step"] == 2.0
    assert found[1]["fst/rollouts_slow_total"] == BATCH * G
