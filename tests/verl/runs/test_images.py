"""Rows with images, on real verl and vLLM: a Qwen2.5-VL of 0.1 M parameters, made here, looks at small PNGs."""

import importlib.util
import io
import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

from fst_verl import batches  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

PROBES = Path(__file__).parent / "probes"
ROWS, SIDE, TOKENS = 8, 56, 4
"""Problems; pixels of an image's side; tokens of an image."""
SPECIAL = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def model(world, tmp_path):
    """(its folder, its tokenizer) of a random model that sees."""
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    folder = tmp_path / "model"
    shutil.copytree(world / "model", folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", *SPECIAL]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    start, end, image, video = tokenizer.convert_tokens_to_ids(SPECIAL)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024, "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, image_token_id=image, video_token_id=video,
        vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    network = Qwen2_5_VLForConditionalGeneration(config)
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    network.save_pretrained(folder)
    size = {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}
    processor = {
        "processor_class": "Qwen2_5_VLProcessor",
        "image_processor": {"image_processor_type": "Qwen2VLImageProcessor", "size": size},
        "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor", "size": size},
    }
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder, tokenizer


@pytest.fixture
def rows(tmp_path):
    """A file of problems that differ in nothing but their images."""
    import pandas
    from PIL import Image

    def row(number):
        png = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), (20 * number, 0, 0)).save(png, "PNG")
        return {
            "data_source": "colours",
            "prompt": [{"role": "user", "content": "<image>What is it?"}],
            "images": [{"bytes": png.getvalue()}],
            "reward_model": {"style": "rule", "ground_truth": "1"},
            "extra_info": {"index": number},
        }

    file = tmp_path / "train.parquet"
    pandas.DataFrame([row(number) for number in range(ROWS)]).to_parquet(file)
    return file


def test_the_evolved_prompt_stands_next_to_the_image_and_rows_are_told_apart_by_it(world, launch, model, rows):
    folder, tokenizer = model
    standin = [] if importlib.util.find_spec("torchvision") else [str(PROBES / "torchvision_standin")]
    run = launch(
        "run",
        "+fst=default",
        "fst.population=2",
        "fst.slow_steps=2",
        "fst.fast.passes=4",
        "fst.max_prompt_tokens=96",
        "fst.reflection.kind=offline",
        "actor_rollout_ref.rollout.n=4",
        "algorithm.adv_estimator=grpo",
        "trainer.total_training_steps=2",
        "data.max_prompt_length=192",
        "actor_rollout_ref.rollout.max_model_len=200",
        f"actor_rollout_ref.model.path={folder}",
        f"data.train_files={rows}",
        f"data.val_files={rows}",
        f"data.custom_cls.path={PROBES / 'probe_images.py'}",
        "data.custom_cls.name=ImageRows",
        PYTHONPATH=os.pathsep.join([*standin, str(PROBES), os.environ.get("PYTHONPATH", "")]),
    ).finish()
    assert sorted(run.metrics()) == [1, 2]
    check_what_was_sent(run, tokenizer, problems_of(rows, tokenizer))


def check_what_was_sent(run, tokenizer, problems):
    """The prompt next to the image in every rollout: the dealt ones in training, evolved ones in the fast phase."""
    cycle = run.out / "checkpoints" / "fst" / "cycle_0000"
    population = json.loads((cycle / "evolution.json").read_text())["population"]["prompts"]
    new = [json.loads(line) for line in (cycle / "candidates.jsonl").read_text().splitlines()]
    dealt = [ids(tokenizer, prompt["text"]) for prompt in population]
    tried = [ids(tokenizer, prompt["text"]) for prompt in new if prompt["tested"]]
    sent = run.sent()
    trained = [e for e in sent if sum(other["uid"] == e["uid"] for other in sent) == 4]
    assert len(trained) == 2 * 4 * 4 and {e["index"] for e in trained} == set(range(ROWS))
    assert all(entry["ids"] == dealt[entry["session"] % len(dealt)] for entry in trained)
    fast = [e["ids"] for e in sent if e not in trained]
    assert tried and all(one in fast for one in tried)
    scored = {problem for prompt in population for problem in prompt["scores"]}
    assert len(scored) > 1 and scored <= problems


def ids(tokenizer, prompt):
    """Token ids of a row's chat under a prompt."""
    question = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    chat = [{"role": "system", "content": prompt}, {"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(text.replace("<|image_pad|>", "<|image_pad|>" * TOKENS), add_special_tokens=False)


def problems_of(file, tokenizer):
    """Ids of the file's problems, made in this process: one a row."""
    from verl.utils.dataset.rl_dataset import RLHFDataset

    config = OmegaConf.create({"filter_overlong_prompts": False})
    data = RLHFDataset(str(file), tokenizer, config, processor=object())
    found = [batches.row_id(data[number]) for number in range(ROWS)]
    assert len(set(found)) == ROWS
    return set(found)
