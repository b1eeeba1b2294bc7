"""The hooks' plain object on a made-up trainer: no verl, no Ray, no transfer queue."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import pytest
from rule_world import SEED, World, make_problems

pytest.importorskip("omegaconf")

from fst_verl import batches, check, fast_slow, plain_rows, transfer  # noqa: E402
from fst_verl.compat import names  # noqa: E402
from fst_verl.fast_rollouts import FastRollouts  # noqa: E402
from fst_verl.prompt_store import PromptsLost  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from fst_plugin.config import FSTConfig  # noqa: E402
from fst_plugin.prompts import Population, Prompt, text_digest  # noqa: E402
from fst_plugin.record.atomic import write_text  # noqa: E402
from fst_plugin.record.steps import read_steps  # noqa: E402
from fst_plugin.rollouts import Cell  # noqa: E402

BATCH, G, K, T = 4, 8, 2, 2


class Batch:
    """As much of a TensorDict as is used: columns by name, one value a row."""

    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return len(self.columns["raw_prompt"])

    def __getitem__(self, rows):
        return Batch({name: [values[i] for i in rows] for name, values in self.columns.items()})

    def keys(self):
        return self.columns.keys()

    def copy(self):
        return Batch(dict(self.columns))

    def del_(self, name):
        del self.columns[name]


def join(chunks):
    return Batch({name: [v for c in chunks for v in c.columns[name]] for name in chunks[0].keys()})


class Tokenizer:
    all_special_tokens = ("<|im_end|>",)
    chat_template = "{% for m in messages %}<|im_start|>...{% endfor %}"
    name_or_path = "nowhere"

    def apply_chat_template(self, chat, **_):
        return "".join(f"{m['role']}:{m['content']}" for m in chat)

    def __call__(self, text, add_special_tokens):
        return {"input_ids": text.split()}


class Prompts:
    """A store of prompts that is a dict, `held`: digest -> texts."""

    def __init__(self):
        self.held, self.lost = {}, None

    def put(self, *sets):
        digests = [Population(tuple(prompts)).digest for prompts in sets]
        self.held |= {one: [p.text for p in prompts] for one, prompts in zip(digests, sets, strict=True)}
        return digests

    def forget(self, keep):
        self.held = {digest: texts for digest, texts in self.held.items() if digest in keep}

    def refuse_lost(self):
        if self.lost:
            raise PromptsLost(self.lost)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """(FastSlow, trainer, world): the world rolls fast-phase cells out, and answers slow rollouts."""
    utils = SimpleNamespace(
        assign_non_tensor_stack=lambda batch, name, values: batch.columns.update({name: list(values)}),
        concat_tensordict=join,
    )
    monkeypatch.setattr(names, "tensordict_utils", utils)
    monkeypatch.setattr(batches, "column", lambda batch, name: batch.columns.get(name))
    monkeypatch.setattr(check, "problems", lambda config: [])
    monkeypatch.setattr(check, "fst_config", lambda config: FSTConfig(**OmegaConf.to_container(config.fst)))
    monkeypatch.setattr(plain_rows, "from_chunks", lambda chunks: None)
    monkeypatch.setattr(fast_slow.LookAhead, "save", lambda self, path: write_text(path, "rows"))
    monkeypatch.setattr(fast_slow.LookAhead, "load", lambda self, path, expected: None)
    problems, world = make_problems(200), World(reliability=0.9)
    rows = [{"raw_prompt": list(p.messages), "reward_model": {"ground_truth": p.answer}} for p in problems]
    config = OmegaConf.create(
        {
            "fst": {
                "context": {"placement": "auto"},
                "population": K,
                "slow_steps": T,
                "max_prompt_tokens": 400,
                "reflection": {"kind": "offline"},
            },
            "data": {"train_batch_size": BATCH, "max_prompt_length": 512, "max_response_length": 64},
            "trainer": {"default_local_dir": str(tmp_path), "resume_mode": "auto", "logger": ["console"]},
            "algorithm": {"adv_estimator": "grpo"},
            "actor_rollout_ref": {
                "model": {"path": "m"},
                "rollout": {
                    "n": G,
                    "max_num_seqs": 64,
                    "agent": {"default_agent_loop": "own"},
                    "prompt_length": "${data.max_prompt_length}",
                },
            },
        }
    )
    monkeypatch.setattr(check, "rollout_setup", lambda config: {"reward": "r"})
    monkeypatch.setattr(check, "engine_width", lambda config: 64)
    at = iter(range(0, 200, BATCH))

    def fetch():
        first = next(at)
        some = rows[first : first + BATCH]
        return Batch({name: [row[name] for row in some] for name in ("raw_prompt", "reward_model")})

    trainer = SimpleNamespace(config=config, global_steps=0, tokenizer=Tokenizer(), processor=None, train_dataset=rows)
    trainer.total_training_steps = 40
    monkeypatch.setattr(fast_slow, "context_length", lambda tokenizer, config: None)
    made = fast_slow.FastSlow(trainer, config, fetch)
    made.fit_to_data()
    monkeypatch.setattr(made.rollouts, "evaluate", world)
    made.rollouts.prompts = Prompts()
    monkeypatch.setattr(transfer, "under_way", lambda: [])
    return made, trainer, world


def play(made, trainer, monkeypatch, steps):
    """Slow steps as verl makes them: evolve, fetch, assign, roll out, observe. Returns the batches as submitted."""
    sent = []
    for step in steps:
        trainer.global_steps = step
        made.evolve_if_due()
        batch = made.look_ahead.next()
        made.assign(batch)
        done = [
            transfer.Trajectory(f"u{row}", float(rank), "", None, {"fst": mark}, str(session), f"u{row}_{session}_0")
            for row, column in enumerate(batch.columns["fst"])
            for session in range(G)
            for texts in [made.rollouts.prompts.held[column["prompts"]]]
            for rank in [(session + column["offset"]) % len(texts)]
            for mark in [{"problem": column["problem"], "digest": text_digest(texts[rank])}]
        ]
        batch.partition_id = "train"
        monkeypatch.setattr(transfer, "scored", lambda batch, done=done: done)
        monkeypatch.setattr(transfer, "texts", lambda keys, partition, tokenizer: [f"answer of {key}" for key in keys])
        monkeypatch.setattr(transfer, "keys_of", lambda batch, done=done: [f"{one.uid}_0_0" for one in done])
        made.collect(batch)
        made.observe()
        sent.append(batch)
    return sent


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
    assert seen[1] == (1, [])  # handed over once


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
    assert column["split"] == "train" and column["sampling"] == "row" and column["on_error"] == "raise"
    assert {c["offset"] for c in first.columns["fst"]} == {0}
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
    fst.weights.config = FSTConfig(fast={"free_scores": False})
    fst.collect(SimpleNamespace(partition_id="train"))
    fst.observe()
    assert len(asked) == BATCH * K  # nothing more is decoded if slow scores are not used


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
