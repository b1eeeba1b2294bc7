"""Room for evolved prompts in verl's lengths."""

import pytest

pytest.importorskip("omegaconf")

from fst_verl import room  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

ACTOR = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
PROMPT, MODEL = "actor_rollout_ref.rollout.prompt_length", "actor_rollout_ref.rollout.max_model_len"


def config(max_model_len=None, prompt_length="${data.max_prompt_length}", packed=16384):
    return OmegaConf.create(
        {
            "data": {"max_prompt_length": 1024, "max_response_length": 512},
            "actor_rollout_ref": {
                "actor": {"ppo_max_token_len_per_gpu": packed},
                "rollout": {"prompt_length": prompt_length, "max_model_len": max_model_len},
            },
        }
    )


@pytest.mark.parametrize(
    ("given", "context", "expected"),
    [
        ({}, None, {PROMPT: 1536}),
        ({}, 4096, {PROMPT: 1536}),
        ({"max_model_len": 1536}, 4096, {PROMPT: 1536, MODEL: 2048}),
        ({"max_model_len": 4000}, 4096, {PROMPT: 1536}),
        ({"prompt_length": 1400}, None, {PROMPT: 1536}),
        ({"prompt_length": 3000}, None, {}),
        ({"packed": 1536}, None, {PROMPT: 1536, ACTOR: 2048}),
        ({"max_model_len": 1536}, 1800, {PROMPT: 1288, MODEL: 1800}),  # room ends where the model's context does
        ({}, 1536, {}),
        (
            {"prompt_length": 1400, "packed": 1500, "max_model_len": 1600},
            1800,
            {ACTOR: 1912},
        ),  # longer than the context
    ],
)
def test_lengths_grow_by_what_a_prompt_needs(given, context, expected):
    made = config(**given)
    assert room.lengths(made, 512, context) == expected
    room.make(made, 512, context)
    assert {key: OmegaConf.select(made, key) for key in expected} == expected
    assert made.data.max_prompt_length == 1024


def test_every_length_of_verls_packed_batches_grows():
    pytest.importorskip("verl")
    from fst_verl import check

    def packed(node, at=""):
        for name, value in OmegaConf.to_container(node, resolve=False).items():
            key = f"{at}{name}"
            if isinstance(value, dict):
                yield from packed(node[name], f"{key}.")
            elif "max_token_len" in name:
                yield key

    whole = check.compose([])
    assert set(packed(whole)) == set(room.PACKED)
    found = room.lengths(whole, 40_000)
    assert {found[key] for key in room.PACKED} == {
        whole.data.max_prompt_length + 40_000 + whole.data.max_response_length
    }


TEACHER = "distillation.teacher_models.teacher_model.inference"


@pytest.mark.parametrize(
    ("given", "grown"),
    [
        ([], {f"{TEACHER}.prompt_length": 1536}),
        ([f"{TEACHER}.prompt_length=1500"], {f"{TEACHER}.prompt_length": 1536}),
        ([f"{TEACHER}.prompt_length=4000", f"{TEACHER}.max_model_len=9000"], {}),
        ([f"{TEACHER}.max_model_len=1537"], {f"{TEACHER}.prompt_length": 1536, f"{TEACHER}.max_model_len": 2049}),
    ],
)
def test_a_teacher_has_room_for_the_rollouts_that_it_scores(given, grown):
    pytest.importorskip("verl")
    from fst_verl import check
    from verl.utils.config import omega_conf_to_dataclass

    sizes = ["data.max_prompt_length=1024", "data.max_response_length=512", "distillation.nnodes=1"]
    one = [f"{TEACHER}.tensor_model_parallel_size=1", f"{TEACHER}.response_length=512"]
    made = check.compose([*sizes, *one, *given, "distillation.enabled=true", f"{TEACHER}.name=vllm"])
    made.distillation.teacher_models.teacher_model.model_path = "some/model"
    found = {key: value for key, value in room.lengths(made, 512).items() if key.startswith(TEACHER)}
    assert found == grown
    room.make(made, 512)
    assert OmegaConf.select(made, f"{TEACHER}.prompt_length") >= 1536
    omega_conf_to_dataclass(made.distillation)  # verl's own check of the lengths
    plain = check.compose([*sizes, *one, *given])
    assert not any(key.startswith(TEACHER) for key in room.lengths(plain, 512))


def test_what_was_changed_and_what_is_missing_is_said():
    assert room.make(config(), 512, 4096) == [f"room for evolved prompts of 512 tokens: {PROMPT} 1024 -> 1536"]
    *_, last = room.make(config(), 512, 1800)
    assert "no room for the last 248" in last and "1288 tokens" in last and "fst.max_prompt_tokens" in last
