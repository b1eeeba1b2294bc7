"""Distillation: the teacher is the same model under the evolved prompt, and only the student's own tokens count."""

import inspect

import pytest
from trl_kit import BATCH, G, house, policy

from fst_plugin.context import place
from fst_plugin.prompts import Population, Prompt

PROMPT = "You are a helpful assistant.\nWrite report A3.\nWrite letter E2."


@pytest.fixture(scope="module")
def distillation():
    from fst_trl import distill

    return distill


@pytest.fixture(scope="module")
def data():
    return house(train=8)["train_dataset"]


def arguments(distillation, out, **more):
    quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, "bf16": False}
    settings = {"per_device_train_batch_size": BATCH * G, "num_generations": G, "max_completion_length": 12}
    return distillation.FSTDistillConfig(output_dir=str(out), **settings, **quiet, **more)


def trainer(distillation, out, data, prompts=PROMPT, model=None, placement="system", **more):
    args = arguments(distillation, out, **more)
    return distillation.FSTDistillTrainer(model or policy(), prompts, args, data, placement=placement)


def test_every_name_of_trl_is_there(distillation):
    assert [name for name in distillation.TABLE if getattr(distillation.names, name) is None] == []
    assert "_compose_teacher_prompt" in vars(distillation.names.TeacherContext)
    source = inspect.getsource(distillation.names.SDFTTrainer)
    used = ("teacher_context_builder", "_tokenize_prompts", "max_completion_length", "train_dataset")
    assert [name for name in used if name not in source and not hasattr(distillation.names.SDFTTrainer, name)] == []


@pytest.mark.parametrize("placement", ["system", "user"])
def test_the_teacher_reads_the_prompt_before_the_students_own_answer(distillation, data, tmp_path, placement):
    one = trainer(distillation, tmp_path, data, placement=placement)
    rows = [one.train_dataset[i] for i in range(4)]
    batch, tokenizer = one._prepare_training_batch(rows), one.processing_class

    def read(ids, mask, i):
        return batch[ids][i][batch[mask][i].bool()].tolist()

    def rendered(chat):
        return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]

    for i, row in enumerate(rows):
        assert read("prompt_ids", "prompt_mask", i) == rendered(row["prompt"])
        placed, answer = rendered(place(row["prompt"], PROMPT, placement)), read("completion_ids", "completion_mask", i)
        assert read("teacher_input_ids", "teacher_attention_mask", i) == placed + answer


def test_the_loss_is_the_reverse_kl_on_the_students_tokens(distillation, data, tmp_path):
    import torch

    one = trainer(distillation, tmp_path, data)
    batch = one._prepare_training_batch([one.train_dataset[i] for i in range(4)])
    one.current_gradient_accumulation_steps = 1
    loss = one.compute_loss(one.model, batch)

    count = batch["completion_ids"].shape[1]
    student_ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    student_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        ours = one.model(input_ids=student_ids, attention_mask=student_mask).logits
        theirs = one.teacher_model(input_ids=batch["teacher_input_ids"], attention_mask=batch["teacher_attention_mask"])
    p, q = (logits[:, -count - 1 : -1].log_softmax(-1) for logits in (ours, theirs.logits))
    kl = (p.exp() * (p - q)).sum(-1) * batch["completion_mask"]
    assert loss.item() == pytest.approx((kl.sum(1) / batch["completion_mask"].sum(1)).mean().item(), rel=1e-4)
    assert loss.item() > 0.01 and loss.requires_grad


def test_several_prompts_and_a_population_are_dealt_in_turn(distillation, data, tmp_path):
    rows = distillation.with_prompts(data, ["a", "b", "c"], "system")
    assert rows[distillation.COLUMN] == ["a", "b", "c", "a", "b", "c", "a", "b"]
    one = trainer(distillation, tmp_path, data, prompts=Population((Prompt("best"), Prompt("second"))))
    assert one.train_dataset[distillation.COLUMN] == ["best", "second"] * 4


def test_a_model_in_memory_is_refused_unless_it_is_its_own_teacher(distillation, data, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(policy())
    with pytest.raises(ValueError, match="model is in memory.*teacher_model_kind=base.*save it.*live"):
        trainer(distillation, tmp_path, data, model=model)
    live = trainer(distillation, tmp_path, data, model=model, teacher_model_kind="live")
    assert live.teacher_model is live.model


@pytest.mark.parametrize(
    "more, named",
    [
        ({"max_prompt_length": 64}, "max_prompt_length=64.*leave it at None"),
        ({"max_completion_length": 2040}, "max_completion_length=2040 takes 20.. tokens, and the model 2048"),
        ({"prompts": []}, "prompts: give the text"),
        ({"prompts": ["a", " "]}, "none may be empty"),
        ({"placement": "auto"}, "fst.context.placement=auto"),
    ],
)
def test_what_would_go_wrong_unseen_is_refused_with_how_to_fix_it(distillation, data, tmp_path, more, named):
    settings = {k: v for k, v in more.items() if k.startswith("max_")}
    given = {k: v for k, v in more.items() if k not in settings}
    args = arguments(distillation, tmp_path)
    for name, value in settings.items():
        setattr(args, name, value)
    with pytest.raises(ValueError, match=named):
        distillation.FSTDistillTrainer(policy(), given.pop("prompts", PROMPT), args, data, **given)


def test_data_without_a_place_for_a_prompt_is_refused(distillation, data):
    texts = data.remove_columns("prompt").add_column("prompt", ["What is it?"] * len(data))
    with pytest.raises(ValueError, match="row 0: its prompt is not a chat.*give it as messages"):
        distillation.with_prompts(texts, ["p"], "system")
    with pytest.raises(ValueError, match="load a stream whole"):
        distillation.with_prompts(iter(data), ["p"], "system")
