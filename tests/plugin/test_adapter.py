"""What adapters of RL stacks share."""

import pytest

from fst_plugin import adapter
from fst_plugin.config import parse
from fst_plugin.context import Fixed, Off, PopulationContext
from fst_plugin.imports import Names

CHATS = [[{"role": "user", "content": "one two three"}], [{"role": "user", "content": "four"}]]


def words(chat):
    return sum(len(str(m["content"]).split()) for m in chat)


class Tokenizer:
    all_special_tokens = ()

    def __init__(self, chat_template):
        self.chat_template = chat_template

    def apply_chat_template(self, chat, **_):
        shown = [m for m in chat if m["role"] != "system" or self.chat_template != "user only"]
        return " ".join(m["content"] for m in shown)


def test_sampled_places_are_spread_over_the_whole_dataset():
    assert adapter.sampled_places(3) == [0, 1, 2]
    places = adapter.sampled_places(6400)
    assert len(places) == 64 and places[:2] == [0, 100] and places[-1] == 6300


def test_the_system_text_of_a_chat_is_its_first_system_message():
    assert adapter.system_text([{"role": "system", "content": "Hi."}, *CHATS[0]]) == "Hi."
    assert adapter.system_text(CHATS[0]) == ""


def test_every_system_message_of_a_dataset_is_found_and_told_if_they_differ():
    chats, lines = [list(CHATS[0]) for _ in range(300)], []
    assert adapter.system_messages(chats, lines.append) == {"": [0, 1, 2]} and lines == []
    chats[64].insert(0, {"role": "system", "content": "be brief"})
    assert adapter.system_messages(chats, lines.append) == {"": [0, 1, 2], "be brief": [64]}
    said = "'' in rows 0, 1, 2, ...; 'be brief' in rows 64, ..."
    assert lines == [f"fst: the data has 2 different system messages: {said}"]


@pytest.mark.parametrize(
    ("context", "cls"), [({}, PopulationContext), ({"name": "fixed", "kwargs": {"text": "x"}}, Fixed)]
)
def test_the_provider_is_the_one_that_the_config_names(context, cls):
    assert type(adapter.provider(parse({"context": context}).context, ["a"])) is cls
    assert type(adapter.provider(parse({"context": context}).context, [])) is Off


def test_every_part_that_cannot_be_imported_is_reported():
    config = parse({"context": {"path": "no.such.Part"}, "fast": {"path": "os.path.join"}, "reflection": {"path": "x"}})
    assert [p.key for p in adapter.part_problems(config)] == ["fst.context.path", "fst.reflection.path"]


@pytest.mark.parametrize(
    ("template", "found", "placement", "seed"),
    [
        ("system", ["Be good."], "system", "Be good."),
        ("system", ["Be good.", "Be quick."], "append", "Follow the instructions carefully."),
        ("user only", ["Be good."], "user", "Be good."),
        ("system", [""], "system", "You are a helpful assistant."),
        ("all roles alike", ["Be good."], "system", "Be good."),  # the data's rows make use of the role
        ("all roles alike", [""], "user", "You are a helpful assistant."),
    ],
)
def test_placement_and_first_prompt_follow_from_data_and_template(template, found, placement, seed):
    lines = []
    settings, prompt = adapter.begin_with(parse({}), Tokenizer(template), found, lines.append)
    assert lines == [f"fst: fst.context.placement=auto: prompts go by {placement!r}"]
    assert (settings.context.placement, prompt.text) == (placement, seed)


@pytest.mark.parametrize("placement", ["system", "append", "user"])
def test_a_placement_that_the_config_names_is_taken_without_a_word(placement):
    lines = []
    settings, _ = adapter.begin_with(
        parse({"context": {"placement": placement}}), Tokenizer("system"), ["Hi."], lines.append
    )
    assert settings.context.placement == placement and lines == []


def test_a_reward_function_is_named_by_its_code():
    assert "sum(len(" in adapter.source_of(words)
    assert adapter.source_of(len) == "len"


def test_a_foreign_name_is_imported_on_first_use():
    names = Names({"join": "os.path:join", "path": "os.path"}, "this test needs os")
    assert names.join("a", "b") == "a/b" and names.path.join is names.join
    with pytest.raises(AttributeError):
        _ = names.other
    with pytest.raises(ImportError, match="os.path:nothing is not there.*this test needs os"):
        _ = Names({"gone": "os.path:nothing"}, "this test needs os").gone
