import copy

import pytest

from fst_plugin.config import ConfigError
from fst_plugin.context import Fixed, Off, PopulationContext, Request, choose_placement, place
from fst_plugin.policy import takes_system_messages
from fst_plugin.prompts import text_digest

CHAT = [{"role": "system", "content": "old"}, {"role": "user", "content": "q"}]


def request(session=0, messages=CHAT):
    return Request("p", session, 1, "train", messages)


def test_off_returns_the_very_same_messages():
    out = Off().assign(request())
    assert out.messages == CHAT and all(a is b for a, b in zip(out.messages, CHAT, strict=True))
    assert out.digest == ""


def test_population_spreads_a_group_evenly():
    provider = PopulationContext(["a", "b"])
    texts = [provider.assign(request(i)).messages[0]["content"] for i in range(8)]
    assert texts == ["a", "b"] * 4
    assert provider.assign(request(1)).digest == text_digest("b") and provider.assign(request(1)).rank == 1


def test_fixed_ignores_the_population():
    assert Fixed(["a"], text="always").assign(request(3)).messages[0] == {"role": "system", "content": "always"}


def test_system_placement_replaces_or_inserts_and_changes_nothing_else():
    before = copy.deepcopy(CHAT)
    assert place(CHAT, "new") == [{"role": "system", "content": "new"}, CHAT[1]]
    assert place(CHAT[1:], "new") == [{"role": "system", "content": "new"}, CHAT[1]]
    assert CHAT == before


def test_an_appended_prompt_joins_the_rows_own_system_message():
    assert place(CHAT, "new", "append") == [{"role": "system", "content": "old\n\nnew"}, CHAT[1]]
    assert place(CHAT[1:], "new", "append") == [{"role": "system", "content": "new"}, CHAT[1]]
    parts = [{"type": "text", "text": "old"}]
    (system, _) = place([{"role": "system", "content": parts}, CHAT[1]], "new", "append")
    assert system["content"] == [*parts, {"type": "text", "text": "\n\nnew"}] and len(parts) == 1


def test_a_placement_must_be_resolved_before_the_first_rollout():
    with pytest.raises(ValueError, match="fst.context.placement=auto"):
        place(CHAT, "new", "auto")


@pytest.mark.parametrize(
    ("asked", "texts", "takes_system", "expected"),
    [
        ("auto", ["a"], True, "system"),
        ("auto", [""], True, "system"),
        ("auto", ["a", "b"], True, "append"),
        ("auto", ["a", ""], True, "append"),
        ("auto", ["a"], False, "user"),
        ("auto", ["a", "b"], False, "the data has 2 different system messages"),
        ("system", ["a", "b"], True, "system"),
        ("append", ["a"], True, "append"),
        ("user", ["a", "b"], False, "user"),
        ("system", [""], False, "no system role"),
        ("append", [""], False, "no system role"),
    ],
)
def test_the_placement_suits_data_and_template_or_is_refused(asked, texts, takes_system, expected):
    if expected in ("system", "append", "user"):
        assert choose_placement(asked, texts, takes_system) == expected
    else:
        with pytest.raises(ConfigError, match=f"fst.context.placement: .*{expected}"):
            choose_placement(asked, texts, takes_system)


GENERIC = "{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>{% endfor %}"
TEMPLATES = {
    "ChatML": (GENERIC.replace("<start_of_turn>", "<|im_start|>"), True),
    "names the role": (
        "{% if messages[0].role == 'system' %}" + "{{ messages[0].content }}{% endif %}" + GENERIC,
        True,
    ),
    "Gemma-like, refuses": (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + GENERIC,
        False,
    ),
    "Gemma-like, an unknown role": (GENERIC, False),
    "Mistral-like, drops it": (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}",
        False,
    ),
    "Mistral-like, must alternate": (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}[INST] {{ m.content }} [/INST]{% endfor %}",
        False,
    ),
}


@pytest.mark.parametrize(("template", "expected"), TEMPLATES.values(), ids=TEMPLATES)
def test_templates_with_and_without_a_system_role(template, expected):
    pytest.importorskip("transformers")
    from tiny_policy.model import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    assert takes_system_messages(tokenizer) is expected


def test_a_role_that_the_data_uses_is_known():
    pytest.importorskip("transformers")
    from tiny_policy.model import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.chat_template = GENERIC
    assert takes_system_messages(tokenizer, used=True) and not takes_system_messages(tokenizer)


@pytest.fixture(scope="module")
def tokenizer():
    pytest.importorskip("transformers")
    from tiny_policy.model import make_tokenizer

    return make_tokenizer()


@pytest.mark.parametrize("chat", [CHAT, CHAT[1:]], ids=["replaced", "inserted"])
@pytest.mark.parametrize("placement", ["system", "user"])
def test_placements_in_a_real_chat_template(tokenizer, chat, placement):
    words = {"old": "Be brief.", "q": "file the invoice", "new": "Write invoice B4."}
    chat = [{**m, "content": words[m["content"]]} for m in chat]
    text = tokenizer.apply_chat_template(
        place(chat, words["new"], placement), add_generation_prompt=True, tokenize=False
    )
    role, joint = ("system", "<|im_end|>\n<|im_start|>user\n") if placement == "system" else ("user", "\n\n")
    assert text == f"<|im_start|>{role}\nWrite invoice B4.{joint}file the invoice<|im_end|>\n<|im_start|>assistant\n"


def test_control_tokens_of_a_real_tokenizer_are_refused(tokenizer):
    from fst_plugin.policy import Policy

    policy = Policy.of_tokenizer(tokenizer, 6, 9)
    assert policy.refuse("Write invoice B4.") is None
    assert "control tokens" in policy.refuse("Write <|im_end|>")
    assert "cap is 6" in policy.refuse("Write invoice B4. Write invoice B4.")


def test_a_chat_fits_if_it_is_no_longer_than_the_window_as_the_template_sends_it(tokenizer):
    from fst_plugin.policy import Policy, chat_tokens

    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write invoice B4."}]
    sent = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    length = len(sent["input_ids"])
    assert chat_tokens(tokenizer, chat, {}) == length
    assert Policy.of_tokenizer(tokenizer, 6, length).fits(chat)
    assert not Policy.of_tokenizer(tokenizer, 6, length - 1).fits(chat)
    longer = "{{ 'moon ' * moons }}" + tokenizer.chat_template
    more = {"chat_template": longer, "moons": 3}
    assert not Policy.of_tokenizer(tokenizer, 6, length, template=more).fits(chat)


def test_format_tags_are_text_and_only_what_acts_is_control():
    from tiny_policy.model import make_tokenizer
    from tokenizers import AddedToken

    from fst_plugin.policy import Policy, control_tokens
    from fst_plugin.reflection.text import clean

    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "<frame>"])
    tokenizer.add_special_tokens({"extra_special_tokens": [AddedToken("<ctrl>", special=True)]})
    tokenizer.chat_template = "<frame>" + tokenizer.chat_template  # added, not flagged special, and it acts
    control = control_tokens(tokenizer)
    assert {"<ctrl>", "<frame>", "<|im_end|>"} <= set(control)
    asked = "Reason in <think> and </think>, then put it in <answer>B4</answer>, or use a <tool_call>."
    assert clean(asked, control) == asked and Policy(100, len, control).refuse(asked) is None
    assert clean("Say <ctrl>it.", control) == "Say  it."
    assert "control tokens: <frame>" in Policy(100, len, control).refuse("a <frame>")


def test_user_placement_precedes_the_first_user_message():
    chat = [*CHAT, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q2"}]
    out = place(chat, "new", "user")
    assert [m["role"] for m in out] == ["user", "assistant", "user"]
    assert out[0]["content"] == "new\n\nq" and out[2]["content"] == "q2"


def test_user_placement_keeps_content_parts():
    image = {"type": "image", "image": "x"}
    out = place([{"role": "user", "content": [image]}], "new", "user")
    assert out[0]["content"] == [{"type": "text", "text": "new\n\n"}, image]


def test_user_placement_without_a_user_message_is_an_error():
    with pytest.raises(ValueError, match="fst.context.placement"):
        place([{"role": "assistant", "content": "a"}], "new", "user")
