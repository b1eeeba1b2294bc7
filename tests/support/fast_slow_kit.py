"""`FastSlow` on fakes of verl's trainer, batches and queue."""

from types import SimpleNamespace

import pytest
from rule_world import World, make_problems

pytest.importorskip("omegaconf")

from fst_verl import batches, check, fast_slow, plain_rows, transfer  # noqa: E402
from fst_verl.compat import names  # noqa: E402
from fst_verl.prompt_store import PromptsLost  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from fst_plugin.config import FSTConfig  # noqa: E402
from fst_plugin.prompts import Population, text_digest  # noqa: E402
from fst_plugin.record.atomic import write_text  # noqa: E402

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


def make(tmp_path, monkeypatch):
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
            for rank in [(session + column.get("offset", 0)) % len(texts)]
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
