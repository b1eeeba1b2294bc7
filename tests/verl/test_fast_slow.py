"""The hooks' plain object on a made-up trainer: no verl, no Ray, no transfer queue."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from rule_world import SEED

pytest.importorskip("omegaconf")

from fast_slow_kit import BATCH, make, play  # noqa: E402
from fst_verl import batches, fast_slow, transfer  # noqa: E402
from fst_verl.fast_rollouts import FastRollouts  # noqa: E402

from fst_plugin.rollouts import Cell  # noqa: E402


@pytest.fixture
def made(tmp_path, monkeypatch):
    return make(tmp_path, monkeypatch)


def test_a_checkpoint_brings_back_the_population(made, monkeypatch, tmp_path):
    fst, trainer, _ = made
    fst.begin()
    play(fst, trainer, monkeypatch, [1, 2])
    fst.save()
    again = fast_slow.FastSlow(trainer, trainer.config, lambda: None)
    again.fit_to_data()
    again.begin()  # trainer.global_steps is 2: verl has loaded global_step_2
    assert again.weights.population == fst.weights.population
    assert again.weights.state.counters == fst.weights.state.counters
    trainer.config.trainer.resume_mode = "resume_path"
    trainer.config.trainer.resume_from_path = str(tmp_path / "global_step_9")
    with pytest.raises(ValueError, match="global_step_9 holds no fast weights"):
        again.begin()


def test_a_saved_checkpoint_takes_older_fast_weights_away_as_verl_does_with_its_own(made, monkeypatch, tmp_path):
    fst, trainer, _ = made
    trainer.config.trainer.max_actor_ckpt_to_keep = 1
    fst.begin()
    for step in (1, 2, 3):
        play(fst, trainer, monkeypatch, [step])
        fst.save()
    assert sorted(folder.parent.name for folder in tmp_path.glob("global_step_*/fst")) == [
        "global_step_2",
        "global_step_3",
    ]


def test_fetched_rows_that_are_not_the_checkpoints_are_refused_before_they_are_read(made, monkeypatch, tmp_path):
    fst, trainer, _ = made
    fst.begin()
    play(fst, trainer, monkeypatch, [1, 2])
    fst.save()
    read = []
    monkeypatch.setattr(fast_slow.LookAhead, "load", lambda *given: read.append(given))
    rows = tmp_path / "global_step_2" / "fst" / "lookahead.pt"
    rows.write_text("rows of another run")
    with pytest.raises(ValueError, match="lookahead.pt is damaged.*another checkpoint.*trainer.resume_mode=disable"):
        fst.begin()
    rows.unlink()
    with pytest.raises(ValueError, match="lookahead.pt is damaged or edited .it is missing"):
        fst.begin()
    assert read == []


def test_validation_rows_run_under_the_best_prompt_and_the_seed(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    play(fst, trainer, monkeypatch, [1])
    best, seed = (fst._validation_column(arm, "own", "p") for arm in ("best", "seed"))
    held = fst.rollouts.prompts.held
    assert held[best["prompts"]] == [fst.weights.population.best.text] and held[seed["prompts"]] == [SEED]
    assert best["split"] == seed["split"] == "val" and best["problem"] == "p"


def test_rollouts_get_room_for_a_prompt_and_the_data_stays_as_it_is(made, capsys):
    fst, trainer, _ = made
    assert trainer.config.data.max_prompt_length == 512
    assert trainer.config.actor_rollout_ref.rollout.prompt_length == 512 + 400


def rows_with(*systems):
    chats = [[{"role": "system", "content": s}] if s else [] for s in systems]
    return [{"raw_prompt": [*c, {"role": "user", "content": f"q{i}"}]} for i, c in enumerate(chats)]


@pytest.mark.parametrize(
    ("rows", "placement", "seed"),
    [
        (rows_with("be brief", "be brief"), "system", "be brief"),
        (rows_with(None, None), "system", "You are a helpful assistant."),
        (rows_with(*["be brief"] * 150, "be a pirate"), "append", "Follow the instructions carefully."),
        (rows_with("be brief", None), "append", "Follow the instructions carefully."),
    ],
)
def test_prompts_go_where_the_data_wants_them(made, capsys, rows, placement, seed):
    _, trainer, _ = made
    trainer.train_dataset, trainer.config.fst.context.placement = rows, "auto"
    fst = fast_slow.FastSlow(trainer, trainer.config, lambda: None)
    fst.fit_to_data()
    assert trainer.config.fst.context.placement == fst.settings.context.placement == placement
    assert fst.seed.text == seed
    said = capsys.readouterr().out
    assert f"prompts go by {placement!r}" in said
    if len(rows) > 100:
        assert "2 different system messages" in said and "'be a pirate' in rows 150" in said


def test_what_the_template_cannot_send_is_refused_before_any_engine_starts(made):
    _, trainer, _ = made
    trainer.tokenizer = SimpleNamespace(chat_template="no roles", apply_chat_template=lambda chat, **_: "no roles")
    trainer.train_dataset, trainer.config.fst.context.placement = rows_with("be brief", "be a pirate"), "auto"
    fst = fast_slow.FastSlow(trainer, trainer.config, lambda: None)
    with pytest.raises(ValueError, match="fst.context.placement.*2 different system messages"):
        fst.fit_to_data()


def test_the_look_ahead_ends_where_the_run_does(made):
    fst, trainer, _ = made
    fst.begin()
    trainer.global_steps, trainer.total_training_steps = 1, 1
    fst.evolve_if_due()
    assert len(fst.look_ahead.pending()) == BATCH  # of one step, not of T


def test_several_outputs_a_session_are_refused_where_they_would_count_as_rollouts(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    monkeypatch.setattr(transfer, "keys_of", lambda batch: ["u_0_0", "u_0_1", "u_1_0"])
    monkeypatch.setattr(transfer, "scored", lambda batch: [])
    fst.collect(None)  # verl's grpo takes the last one
    trainer.config.algorithm.adv_estimator = "fst_grpo"
    with pytest.raises(ValueError, match="adv_estimator=fst_grpo.*use grpo"):
        fst.collect(None)


def test_dumps_name_prompt_and_arm_of_every_generation(made, monkeypatch):
    fst, trainer, _ = made
    dump = {"reward_extra_infos_dict": {"uid": ["v1_0_0", "v2_0_0"], "acc": [1, 0]}}
    assert fst.named(dump) == dump  # no prompts yet
    fst.begin()
    trainer.val_dataloader = SimpleNamespace(arm_of=lambda: {"v1": "best", "v2": "seed"})
    assert fst.named({"inputs": ["a"]}) == {"inputs": ["a"]}
    play(fst, trainer, monkeypatch, [1, 2, 3])
    best, seed = fst.weights.population.best.digest, fst.weights.seed.digest
    found = {**dump["reward_extra_infos_dict"], "fst_prompt": [best, seed], "fst_arm": ["best", "seed"]}
    assert fst.named(dump) == {"reward_extra_infos_dict": found} and best != seed
    (infos,) = fst.named({"reward_extra_infos_dict": {"uid": ["u0_0_0", "u0_1_0", "pad_0_0"]}}).values()
    assert infos["fst_prompt"] == [*(p.digest for p in fst.weights.population.prompts), ""] and "fst_arm" not in infos


def test_the_phases_time_is_a_part_of_the_steps(made, monkeypatch):
    fst, trainer, _ = made
    fst.begin()
    play(fst, trainer, monkeypatch, [1])
    found = fst.metrics()
    assert found["timing_s/fst_phase"] == found["fst/seconds"] > 0
    assert "timing_s/fst_phase" not in fst.metrics()


def test_it_needs_no_verl():
    code = "import sys; sys.modules['verl'] = sys.modules['ray'] = None; import fst_verl.fast_slow"
    subprocess.run([sys.executable, "-c", code], check=True)


OURS = {"fst_context": "is ours to give", "fst_reflect": "is ours to give", "fst_episode": "plays no episodes"}


@pytest.mark.parametrize("loop", OURS)
def test_rows_of_the_data_cannot_ask_for_our_agent_loops(made, loop):
    fst, trainer, _ = made
    fst.begin()
    batch = fst.look_ahead.next()
    batch.columns["agent_name"] = ["own"] * (BATCH - 1) + [loop]
    with pytest.raises(ValueError, match=OURS[loop]):
        fst.assign(batch)
    assert fst.weights.state.counters.rollouts_slow == 0  # nothing was dealt


@pytest.mark.parametrize("loop", OURS)
def test_such_rows_are_refused_before_the_fast_phase_spends_anything_on_them(made, monkeypatch, loop):
    fst, trainer, _ = made
    rollouts, sent = FastRollouts(trainer, show_answer=False), []
    monkeypatch.setattr(rollouts, "_run", lambda *asked: sent.append(asked))
    batch = fst.look_ahead.next()
    batch.columns["agent_name"] = [loop] * BATCH
    rollouts.open([batch])
    with pytest.raises(ValueError, match=OURS[loop]):
        rollouts.evaluate([Cell(fst.seed, batches.problems(batch)[0])])
    assert sent == []
