"""What the episode tests play with: tokenizers of three chat formats, an environment, and an engine that says what the
test wants."""

import asyncio
import json
from types import SimpleNamespace

import gymnasium as gym
from fst_envs import EnvironmentFault, ReasoningEnv, content_id
from fst_verl.compat import names
from fst_verl.episodes.agent_loop import EpisodeLoop
from omegaconf import OmegaConf

# -------------------------------------------------------------------------------------------------- three chat formats

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = (  # a default system message where the chat has none
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA = (  # begins with a token of its own, headers, trimmed contents, nothing behind an end of turn
    "{{ '<|begin_of_text|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
FORMATS = {  # name: (template, special tokens, end of turn, model type)
    "qwen": (QWEN, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", "qwen2"),
    "llama": (
        LLAMA,
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|eot_id|>",
        "llama",
    ),
    "smollm2": (CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_end|>", "llama"),
}


def make_tokenizer(name):
    """A byte-level BPE tokenizer with the template and special tokens of a family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    template, special, end, _ = FORMATS[name]
    bpe = Tokenizer(models.BPE(unk_token=None))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["Say it again, louder.", "system user assistant", "what is the code for invoice"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=end, pad_token=special[0], extra_special_tokens=special
    )
    tokenizer.chat_template = template
    return tokenizer


def render(tokenizer, chat, generation_prompt):
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=generation_prompt, tokenize=True)
    return list(names.normalize_token_ids(ids))


# ---------------------------------------------------------------------------------------- an environment and an engine


class Echo(ReasoningEnv):
    """Says `again` until it hears "stop"; turn i is worth i. The episodes named in `faults`, counted from 1 over the
    test, fail in turn `fault_turn`; a wobbly one says something else in every episode."""

    started = 0

    def __init__(self, again="Say it again, louder.", last=99, faults=(), fault_turn=1, wobbly=False):
        super().__init__()
        self.again, self.last, self.wobbly, self.turn = again, last, wobbly, 0
        self.faults, self.fault_turn = tuple(faults), fault_turn

    def load(self, index, split):
        self.turn = 0
        type(self).started += 1
        self.number = type(self).started
        return f"Say something, number {index}.", {}

    def respond(self, text):
        self.turn += 1
        if self.number in self.faults and self.turn == self.fault_turn:
            raise EnvironmentFault("the lights went out")
        if "raise" in text:
            raise RuntimeError("cannot read this")
        again = f"{self.again} {self.number}" if self.wobbly else self.again
        return again, float(self.turn), "stop" in text or self.turn == self.last, f"Heard {text}."


gym.register("test/EpisodeEcho-v0", entry_point=Echo)


class Engine:
    """Says the next of `texts`, ending the turn unless it is cut; records what it was asked."""

    def __init__(self, tokenizer, texts, logprobs=False):
        self.tokenizer, self.texts, self.logprobs = tokenizer, list(texts), logprobs
        self.prompts, self.limits, self.requests, self.said = [], [], [], []

    async def generate(self, request_id, *, prompt_ids, sampling_params):
        await asyncio.sleep(0)
        self.prompts.append(list(prompt_ids))
        self.limits.append(sampling_params["max_tokens"])
        self.requests.append(request_id)
        ids = self.tokenizer.encode(self.texts.pop(0), add_special_tokens=False) + [self.tokenizer.eos_token_id]
        ids = ids[: sampling_params["max_tokens"]]
        self.said.append(ids)
        step = len(self.said)
        return SimpleNamespace(
            token_ids=ids,
            log_probs=[-float(step)] * len(ids) if self.logprobs else None,
            routed_experts=None,
            stop_reason="completed",
            num_preempted=0,
            extra_fields={"min_global_steps": step, "max_global_steps": step},
        )


def task_of(row):
    """The environment of a row, as `data.env.tasks` names it."""
    extra = row["extra_info"]
    return {"id": extra.get("env_id"), "kwargs": json.loads(extra["env_kwargs"])}


def arguments(engine, model_type, *, rows=None, turns=None, prompt=400, response=400, env=None, total=None):
    """rows: whose environments the config names; default: that of `make_row()`."""
    named = {"multi_turn": True, "tasks": [task_of(row) for row in rows or [make_row()]]}
    config = OmegaConf.create(
        {
            "fst": {"context": {"name": "population", "path": None, "kwargs": {}, "placement": "system"}},
            "actor_rollout_ref": {
                "model": {"path": model_type, "tokenizer_path": None},
                "rollout": {
                    "prompt_length": prompt,
                    "response_length": response,
                    "max_model_len": total,
                    "multi_turn": {"max_assistant_turns": turns},
                    "temperature": 1.0,
                    "top_p": 1.0,
                    "top_k": -1,
                },
            },
            "data": {
                "env": {"episode": {"backoff_s": 0.0}, **named, **(env or {})},
                "continuous_token": {"enable": False},
            },
        }
    )
    return {
        "trainer_config": SimpleNamespace(config=config),
        "server_manager": engine,
        "tokenizer": engine.tokenizer,
        "processor": None,
        "dataset_cls": object,
        "data_config": SimpleNamespace(config=config.data),
        "hf_model_type": model_type,
    }


def make_row(kwargs=None, index=0, **more):
    question = f"Say something, number {index}."
    return {
        "raw_prompt": [
            {"role": "system", "content": "Be loud."},
            {"role": "user", "content": question},
        ],
        "extra_info": {
            "env_id": "test/EpisodeEcho-v0",
            "env_kwargs": json.dumps(kwargs or {}),
            "index": index,
            "split": "train",
            "task_id": content_id(question),
        },
        "session_id": 0,
        **more,
    }


def play(engine, name, row=None, **settings):
    row = row or make_row()

    async def run():
        loop = EpisodeLoop(**arguments(engine, FORMATS[name][3], **{"rows": [row], **settings}))
        return await loop.run({"temperature": 1.0}, **row)

    return asyncio.run(run())
