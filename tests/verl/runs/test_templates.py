"""Other people's chat templates and rows, on real verl and vLLM: the evolved prompt is found in the token ids."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

PROBES = Path(__file__).parent / "probes"
FST = (
    "+fst=default",
    "fst.population=2",
    "fst.fast.path=probe_prompts.Evolved",  # two prompts, however a random model answers
    "fst.max_prompt_tokens=96",
    "fst.reflection.kind=offline",
    "actor_rollout_ref.rollout.n=4",
    "algorithm.adv_estimator=grpo",
    "trainer.total_training_steps=1",
    "data.max_prompt_length=192",
    "actor_rollout_ref.rollout.max_model_len=200",  # as short as plain verl needs it: room is made
)
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{% endif %}{% endfor %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>tools\n{{ tools | map(attribute='function') | map(attribute='name') | join(' ') }}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def model_with(world, folder, template):
    from transformers import AutoTokenizer

    shutil.copytree(world / "model", folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


def population(run):
    record = run.out / "checkpoints" / "fst" / "cycle_0000" / "evolution.json"
    return [p["text"] for p in json.loads(record.read_text())["population"]["prompts"]]


def training_rows(run):
    """Rollouts of step 1: four to an uid; a fast-phase cell is alone under its."""
    sent = run.sent()
    return [e for e in sent if sum(other["uid"] == e["uid"] for other in sent) == 4]


PYTHON_API = {"program": (str(PROBES / "python_api.py"),), "VERL_PLATFORM": "cpu"}


@pytest.mark.parametrize(
    ("template", "started"), [(GEMMA, {}), (MISTRAL, PYTHON_API)], ids=["Gemma-like", "Mistral-like, by Python"]
)
def test_without_a_system_role_prompts_precede_the_question(world, launch, tmp_path, template, started):
    folder, tokenizer = model_with(world, tmp_path / "model", template)
    run = launch("run", *FST, f"actor_rollout_ref.model.path={folder}", **started).finish()
    assert "fst.context.placement=auto: prompts go by 'user'" in run.text()
    prompts, rows = population(run), training_rows(run)
    assert len(prompts) == 2 and len(rows) == 16
    for entry in rows:
        question = f"What is {entry['index']} plus {entry['index']}?"
        chat = [{"role": "user", "content": f"{prompts[entry['session'] % 2]}\n\n{question}"}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert entry["ids"] == list(ids)


def test_rows_keep_their_personas_and_tools_and_the_prompt_follows(world, launch, tmp_path):
    import pandas

    folder, tokenizer = model_with(world, tmp_path / "model", TOOLS)
    rows = pandas.read_parquet(world / "train.parquet")
    personas = [f"You are pirate {i % 2}." for i in range(len(rows))]
    rows["prompt"] = [
        [{"role": "system", "content": who}, *chat] for who, chat in zip(personas, rows["prompt"], strict=True)
    ]
    rows.to_parquet(tmp_path / "train.parquet")
    run = launch(
        "run",
        *FST,
        f"actor_rollout_ref.model.path={folder}",
        f"data.train_files={tmp_path / 'train.parquet'}",
        f"actor_rollout_ref.rollout.multi_turn.function_tool_path={PROBES / 'probe_tools.py'}",
        "actor_rollout_ref.rollout.agent.default_agent_loop=recording_tools",
    ).finish()
    assert "prompts go by 'append'" in run.text() and "2 different system messages" in run.text()
    prompts, sent = population(run), training_rows(run)
    assert len(prompts) == 2 and len(sent) == 16
    for entry in sent:
        text = tokenizer.decode(entry["ids"])
        own = f"<|im_start|>system\n{personas[entry['index']]}\n\n{prompts[entry['session'] % 2]}<|im_end|>"
        assert text.startswith("<|im_start|>tools\nadd<|im_end|>") and own in text
