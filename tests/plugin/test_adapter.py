"""What adapters of RL stacks share."""

import pytest

from fst_plugin import adapter
from fst_plugin.config import parse
from fst_plugin.context import Fixed, Off, PopulationContext
from fst_plugin.imports import Names
from fst_plugin.prompts import Prompt

SEED = Prompt("Be good.")
CHATS = [[{"role": "user", "content": "one two three"}], [{"role": "user", "content": "four"}]]


def words(chat):
    return sum(len(str(m["content"]).split()) for m in chat)


def fit(count=words, cap=10, window=20, **config):
    given = {"cap": cap, "window": window, "count_text": lambda text: len(text.split()), "count_chat": count}
    return [str(p) for p in adapter.fit_problems(parse(config), SEED, CHATS, **given)]


def test_sampled_places_are_spread_over_the_whole_dataset():
    assert adapter.sampled_places(3) == [0, 1, 2]
    places = adapter.sampled_places(6400)
    assert len(places) == 64 and places[:2] == [0, 100] and places[-1] == 6300


def test_the_system_text_of_a_chat_is_its_first_system_message():
    assert adapter.system_text([{"role": "system", "content": "Hi."}, *CHATS[0]]) == "Hi."
    assert adapter.system_text(CHATS[0]) == ""


@pytest.mark.parametrize(
    ("context", "cls"), [({}, PopulationContext), ({"name": "fixed", "kwargs": {"text": "x"}}, Fixed)]
)
def test_the_provider_is_the_one_that_the_config_names(context, cls):
    assert type(adapter.provider(parse({"context": context}).context, ["a"])) is cls
    assert type(adapter.provider(parse({"context": context}).context, [])) is Off


def test_every_part_that_cannot_be_imported_is_reported():
    config = parse({"context": {"path": "no.such.Part"}, "fast": {"path": "os.path.join"}, "reflection": {"path": "x"}})
    assert [p.key for p in adapter.part_problems(config)] == ["fst.context.path", "fst.reflection.path"]


def test_a_cap_fits_if_the_longest_problem_has_room_next_to_it():
    assert fit(cap=17) == []
    assert "a prompt of 18 tokens and a problem of 3 do not fit the 20" in fit(cap=18)[0]


def test_a_template_that_leaves_the_system_message_out_is_found():
    found = fit(lambda chat: words([m for m in chat if m["role"] != "system"]))
    assert found == ["fst.context.placement: the chat template leaves the prompt out: set it to 'user'"]
    assert fit(lambda chat: words([m for m in chat if m["role"] != "system"]), context={"placement": "user"}) == []


def test_a_template_that_refuses_the_system_message_is_found():
    def count(chat):
        raise ValueError("no system role")

    assert fit(count) == [
        "fst.context.placement: the chat template refuses the prompt (no system role): set it to 'user'"
    ]


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
