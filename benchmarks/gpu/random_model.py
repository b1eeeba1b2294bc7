"""A model of random weights, its tokenizer, and problems and rewards to measure time with: nothing is learned."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from fst_plugin import Evolution, Population
from fst_plugin.prompts import Prompt, text_digest

SPECIAL = ("<pad>", "<end>", "<unk>", "system", "user", "assistant")
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"


@dataclass(frozen=True)
class Sizes:
    """model: arguments of the config. problems, group: of a slow step. micro: completions of a forward pass. prompt,
    question, answer: tokens. steps: of one training, the first of which does not count."""

    model: dict[str, int]
    problems: int = 16
    group: int = 8
    micro: int = 32
    prompt: int = 200
    question: int = 40
    answer: int = 128
    steps: int = 4


HEADS = {"num_attention_heads": 14, "num_key_value_heads": 2}
LARGE = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "vocab_size": 151936, **HEADS}
FULL = Sizes(LARGE)


def make(device: str, sizes: Sizes, kind: type[PretrainedConfig] = Qwen2Config) -> tuple[Any, PreTrainedTokenizerFast]:
    """Model and tokenizer, a word a token.

    kind: LlamaConfig for one that is loaded from a folder: transformers has tokenizers of its own for a Qwen2, and
        does not read ours there.
    """
    config = kind(**sizes.model, tie_word_embeddings=True, max_position_embeddings=2048)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    vocabulary = [*SPECIAL, *(f"w{number}" for number in range(config.vocab_size - len(SPECIAL)))]
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    names = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>", "padding_side": "left"}
    return model, PreTrainedTokenizerFast(tokenizer_object=made, chat_template=TEMPLATE, **names)


def words(count: int, *seed: Any) -> str:
    rng = random.Random(str(seed))
    return " ".join(f"w{rng.randrange(500)}" for _ in range(count))


def verdict(text: str) -> tuple[float, str]:
    """0 or 1, and one of twelve sentences, by chance: the text's digest."""
    number = int(text_digest(text)[:8], 16)
    return float(number // 12 % 2), f"Say {words(8, number % 12)}."


class Given:
    """A prompt optimizer that carries `count` prompts of this many words, and makes no rollouts."""

    def __init__(self, count: int, length: int):
        self.prompts = tuple(Prompt(words(length, "prompt", number)) for number in range(count))

    def evolve(self, population: Any, problems: Any, evaluate: Any, **_: Any) -> Evolution:
        return Evolution(Population(self.prompts))
