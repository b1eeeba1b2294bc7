"""The model and its tokenizer: a two-layer Llama with attention biases, a word-level vocabulary, a ChatML template.

Why Llama and not Qwen2, which computes the same: for the model type qwen2, transformers 5 loads Qwen's own byte-level
tokenizer, whatever the folder says.

torch, tokenizers and transformers are imported inside the functions. Head size 32 is one that vLLM's CPU attention
supports; the vocabulary is exactly the tokenizer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .dialect import IM_END, IM_START, PAD, RULES, UNK, Dialect

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Size of the network (all ours): 0.3 M parameters, which one CPU core pre-trains in two to three minutes.

    width, layers, heads, mlp: hidden size, blocks, attention heads (head size = width / heads), MLP size.
    context: longest sequence in tokens. rope_theta: base of the rotary embedding; small, because neighbours count.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    mlp: int = 256
    context: int = 2048
    rope_theta: float = 100.0
    init_std: float = 0.02


def make_tokenizer(dialect: Dialect = RULES) -> PreTrainedTokenizerFast:
    """Word-level tokenizer. Unknown words become <|unk|>; decoding puts a space between all tokens."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(dialect.ids, unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(dialect.pattern), behavior="removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNK,
        bos_token=IM_START,
        eos_token=IM_END,
        padding_side="left",
        model_max_length=Shape().context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(shape: Shape, seed: int, dialect: Dialect = RULES) -> LlamaForCausalLM:
    """A freshly initialised float32 model."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ids = dialect.ids
    special: dict[str, Any] = {
        "pad_token_id": ids[PAD],
        "bos_token_id": ids[IM_START],
        "eos_token_id": ids[IM_END],
    }
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        attention_bias=True,
        tie_word_embeddings=True,
        initializer_range=shape.init_std,
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, **special)
    return model
