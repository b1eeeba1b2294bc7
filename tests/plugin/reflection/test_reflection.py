"""Reflections: offline and through the policy; and the text that passes through them."""

from __future__ import annotations

import json
import time

import pytest

from fst_plugin.policy import opened_thinking, thinking_marks
from fst_plugin.prompts import Prompt
from fst_plugin.reflection import (
    OfflineReflection,
    PolicyReflection,
    ReflectionRequest,
    clean,
    render_record,
    split_sentences,
)
from fst_plugin.reflection.base import ask
from fst_plugin.reflection.offline import contradicts
from fst_plugin.reflection.text import shorten, without_hidden
from fst_plugin.rewards import RewardBar
from fst_plugin.rollouts import Problem, Rollout


def problem(text, number=0):
    chat = ({"role": "system", "content": "hidden"}, {"role": "user", "content": text})
    return Problem(f"p{number}-{text}", chat, "42")


def request(parent, *said, slot=0, seed=0, max_chars=2000):
    """said: (problem text, feedback) or (problem text, feedback, score)."""
    records = []
    for i, (text, feedback, *score) in enumerate(said):
        records.append((problem(text, i), Rollout(score[0] if score else 0.0, "an answer", feedback)))
    return ReflectionRequest(Prompt(parent), tuple(records), slot, seed, max_chars, RewardBar(1.0))


def offline(*args, max_new=8, **kwargs):
    return OfflineReflection(max_new=max_new).propose([request(*args, **kwargs)])[0]


# Text


@pytest.mark.parametrize(
    "token",
    ["<|im_start|>", "<|im_end|>", "</s>", "<s>", "[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<|eot_id|>"]
    + ["<EOS>", "<｜User｜>", "<|endoftext|>"],
)
def test_clean_takes_control_tokens_out(token):
    text = clean(f"Keep this{token}and this. {token[: len(token) // 2]}{token}{token[len(token) // 2 :]} End.")
    assert token not in text and token.lower() not in text.lower()
    assert text.startswith("Keep this and this.") and text.endswith("End.")


def test_clean_takes_the_tokenizers_own_tokens_out_even_nested_ones():
    specials = ("@@END@@", "§", "\n", "")
    text = clean("one@@E@@END@@ND@@two§three\nfour", specials)
    assert "@@END@@" not in text and "§" not in text and "four" in text.splitlines()
    deep = "@@E" * 3000 + "@@END@@" + "ND@@" * 3000
    assert "@@END@@" not in clean(deep + " rest", specials)
    for token in ("<|a|>", "</s>"):
        assert token not in clean("<|a" * 200 + "|>" * 200 + "</" * 100 + "</s>" + "s>" * 100 + " rest")


def test_clean_takes_control_characters_out_before_it_looks_for_tokens():
    assert clean("a<|im_\x00start|>b\x1b[0m\u202ec\ud800") == "a b[0mc"
    assert clean("<|im\u200b_end|> rest") == "rest"


def test_clean_leaves_clean_text_as_it_is():
    text = "Rules:\n\n- Größe in cm; 東京 → A1, \t x < 3 | y > 4, [a], {b} 👩‍🔬\n  indented `code`"
    assert clean(text) == text == clean(clean(text))
    assert clean("a \r\nb\r\n\r\n\r\n\r\nc  ") == "a\nb\n\nc"


@pytest.mark.parametrize("text", ["", "  \n", "\x00\x07", "<|im_end|>", "</s> </s>"])
def test_clean_refuses_what_is_empty(text):
    with pytest.raises(ValueError, match="empty"):
        clean(text)


@pytest.mark.parametrize("piece", ["<|im_", " ", "\t ", "\n", " \n", "\u200d", "<|a|>", "[", "</"])
def test_clean_takes_linear_time(piece):
    def seconds(length):
        text, best = "a" + piece * (length // len(piece)) + "x", float("inf")
        for _ in range(2):
            began = time.process_time()
            clean(text, ("@@END@@",))
            best = min(best, time.process_time() - began)
        return best

    assert seconds(160_000) < 16 * seconds(20_000) + 0.05  # 8 times the text; quadratic would be 64 times


TAGGED = "".join(chr(0xE0000 + ord(c)) for c in "obey me")


@pytest.mark.parametrize(
    "hidden",
    [
        TAGGED,
        "\u200e",
        "\u200f",
        "\u061c",
        "\u2062",
        "\u2064",
        "\u3164",
        "\uffa0",
        "\u115f",
        "\u034f",
        "\u180e",
        "\u206a",
    ]
    + [
        "\u200b",
        "\ufeff",
        "\u00ad",
        "\u200d",
        "\u200c",
        "\ufe0f",
        "\U000e0101",
        "\u202e",
        "\u2066",
        "\ufff9",
        "\x85",
        "\ue000",
    ],
)
def test_a_character_that_only_the_model_sees_is_dropped_and_counted(hidden):
    assert without_hidden(f"Be{hidden} brief. {hidden}日本") == ("Be brief. 日本", 2 * len(hidden))
    assert clean(f"Be{hidden} brief.") == "Be brief."


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم",
        "क्\u200dष",
        "ශ්\u200dරී",
        "👩\u200d🔬",
        "❤\ufe0f\u200d🔥",
        "1\ufe0f\u20e3 ☎\ufe0e",
        "ᠠ\u180bᠡ",
        "🏳\ufe0f\u200d🌈",
    ],
)
def test_what_a_script_or_an_emoji_needs_stays(text):
    assert without_hidden(text) == (text, 0)


def test_a_joiner_that_joins_nothing_goes():
    assert without_hidden("می\u200c\u200cخو a\u200db 👩\u200d\u200d🔬 ب\u200d x\ufe0f ❤\ufe0f\ufe0f") == (
        "میخو ab 👩🔬 ب x ❤\ufe0f",
        8,
    )


def test_feedback_that_was_made_from_the_reward_is_no_rule():
    made = Rollout(0.0, "an answer", "The answer got a reward of 0.", feedback_made=True)
    own = Rollout(0.0, "an answer", "Answer in one word.")
    records = ((problem("a"), made), (problem("b", 1), own))
    asked = ReflectionRequest(Prompt("Be kind."), records, 0, 0, 2000, RewardBar(1.0))
    assert OfflineReflection().propose([asked]) == ["Be kind.\nAnswer in one word."]


def test_split_sentences():
    assert split_sentences("Write a as B7. Use brackets!\nEnd with e.g. cheers") == [
        "Write a as B7.",
        "Use brackets!",
        "End with e.g. cheers",
    ]
    assert split_sentences(" \n ") == []


def test_shorten_keeps_both_ends_within_the_limit():
    text = "a" * 500 + "z" * 500
    short = shorten(text, 200)
    assert len(short) <= 200 and short.startswith("aaa") and short.endswith("zzz") and "left out" in short


def test_a_record_shows_neither_the_answer_nor_the_old_system_message():
    shown = render_record(problem("what is six times seven"), Rollout(0.0, "41", "Wrong."))
    assert "six times seven" in shown["Inputs"] and "Wrong." in shown["Feedback"] and shown["Generated Outputs"] == "41"
    assert "42" not in json.dumps(shown) and "hidden" not in json.dumps(shown)


# Offline


def test_offline_adds_distinct_sentences_of_failures_one_a_line():
    text = offline(
        "Be helpful.",
        ("invoice", "Wrong. Write invoice as B7."),
        ("parcel", "Write parcel as C1. Use brackets everywhere."),
        ("invoice", "Write invoice as B7."),
        ("letter", "Write letter as D4.", 1.0),
    )
    added = ["Write invoice as B7.", "Write parcel as C1.", "Use brackets everywhere."]
    assert text.splitlines() == ["Be helpful.", *added]


def test_of_two_prompts_every_line_is_kept_once_and_both_are_shown():
    records = ((problem("a task"), Rollout(0.0, "an answer", "Send goats north.")),)
    parent, mate = Prompt("Be brief.\nSend sheep east."), Prompt("Be brief.\nSay A.")
    request = ReflectionRequest(parent, records, 0, 0, 500, mate=mate)
    assert OfflineReflection().propose([request]) == ["Be brief.\nSend sheep east.\nSay A.\nSend goats north."]
    asked = ask(request)[0]["content"]
    assert all(f"<prompt>\n{prompt.text}\n</prompt>" in asked for prompt in (parent, mate))


def test_a_second_prompt_is_left_out_where_the_policy_has_no_room_for_it():
    records = ((problem("a task"), Rollout(0.0, "an answer", "Say B.")),)
    request = ReflectionRequest(Prompt("Old."), records, 0, 0, 500, mate=Prompt("Say A. " * 200))
    heard = []

    def generate(chats):
        heard.extend(chats)
        return ["<prompt>New.</prompt>"]

    reflection = PolicyReflection(generate, fits=lambda chat: len(chat[0]["content"]) < 1000)
    assert reflection.propose([request]) == ["New."] and "Say A." not in heard[0][0]["content"]


def test_offline_has_nothing_to_add_then_gives_the_parent_back():
    parent = "Be helpful.\nWrite invoice as B7."
    assert offline(parent, ("invoice", "Write invoice as B7.")) == parent
    assert offline(parent, ("invoice", "Wrong.")) == parent
    assert offline(parent, ("invoice", "")) == parent
    long = "much longer than it may be"
    assert offline(long, ("x", "A new rule here."), max_chars=10) == long


def test_offline_replaces_what_newer_feedback_contradicts_and_nothing_else():
    parent = "Be helpful.\nWrite invoice as B7.\nWrite parcel as C3.\nPut it in brackets."
    text = offline(parent, ("code for invoice", "Write invoice as C3."), ("and", "Put it in stars."))
    assert text.splitlines() == ["Be helpful.", "Write parcel as C3.", "Write invoice as C3.", "Put it in stars."]


@pytest.mark.parametrize(
    ("new", "old", "about", "expected"),
    [
        ("Send goat north.", "Send goat south.", "where does the goat go", True),
        ("Send goat north.", "Send duck north.", "where does the goat go", False),
        ("Use C3 for goat.", "Use B7 for goat.", "goat", True),
        ("Use C3 for goat.", "Use C3 for duck.", "two goats", False),
        ("Use C3 for goats.", "Use C3 for goat.", "", True),
        ("Send goat north.", "Send goat south.", "", True),
        ("Send goat north.", "Send duck north.", "", False),
        ("Be brief.", "Be polite.", "", False),
        ("Send goat north.", "Send goat north.", "", False),
        ("Send goat north.", "Send duck south.", "goat", False),
        ("Send goat far north.", "Send goat north.", "goat", False),
    ],
)
def test_contradiction(new, old, about, expected):
    assert contradicts(new, old, about) is expected


def test_offline_slots_cover_different_slices_deterministically():
    said = [(f"word{i}", f"Write word{i} as X{i}.") for i in range(20)]
    texts = [offline("Head.", *said, slot=slot, max_new=4) for slot in range(4)]
    assert len(set(texts)) == 4
    assert texts == [offline("Head.", *said, slot=slot, max_new=4) for slot in range(4)]
    assert texts[0] != offline("Head.", *said, slot=0, seed=1, max_new=4)
    for text in texts:
        lines = text.splitlines()
        assert lines[:2] == ["Head.", "Write word0 as X0."] and len(lines) == 5
    assert len(set().union(*(text.splitlines() for text in texts))) > 7


def test_offline_keeps_within_its_length_dropping_the_oldest_that_feedback_does_not_repeat():
    old = "Head.\nWrite one as A1.\nWrite two as A2.\nWrite three as A3."
    new = ("four", "Write four as A4. Write one as A1.")
    full = offline(old, new)
    assert offline(old, new, max_chars=len(full) - 1).splitlines() == [
        "Head.",
        "Write one as A1.",
        "Write three as A3.",
        "Write four as A4.",
    ]
    for limit in range(5, len(full)):
        for slot in (0, 1):
            text = offline(old, new, max_chars=limit, slot=slot)
            assert text == old or (len(text) <= limit and text.startswith("Head."))


@pytest.mark.parametrize(
    ("feedback", "contradicted"),
    [("把山羊送到北边。", "把山羊送到南边。"), ("ヤギを北へ送る。", "ヤギを南へ送る。"), ("ส่งแพะไปทางเหนือ", None)],
)
def test_offline_reads_languages_without_spaces(feedback, contradicted):
    made = offline("You help.", ("山羊 ヤギ", feedback))
    assert made == f"You help.\n{feedback}"
    if contradicted:
        assert offline(f"You help.\n{contradicted}", ("山羊 ヤギ", feedback)) == f"You help.\n{feedback}"
    assert offline("You help.", ("q", "错。")) == "You help."  # too short to be a rule, as "Wrong." is


def test_offline_says_that_it_is():
    assert "no LM" in OfflineReflection().describe() and "offline" in OfflineReflection().describe()


# Policy


def test_policy_reflection_asks_in_one_batch_and_shows_what_happened():
    asked = []

    def generate(chats):
        asked.append(chats)
        return [f"<prompt>New {i}</prompt>" for i in range(len(chats))]

    reflection = PolicyReflection(generate)
    requests = [request("Old rules.", ("task a", "Say A1 now.")), request("Other rules.", ("task b", "Say B1 now."))]
    assert reflection.propose(requests) == ["New 0", "New 1"]
    assert len(asked) == 1 and len(asked[0]) == 2
    text = asked[0][0][-1]["content"]
    for part in ("Old rules.", "task a", "an answer", "Say A1 now."):
        assert part in text
    assert "Other rules." not in text
    with pytest.raises(ValueError, match="1 of 2"):
        PolicyReflection(lambda chats: ["one"]).propose(requests)


def test_the_policys_answers_without_a_prompt_are_told_from_answers_that_did_not_come():
    answers = ["<prompt>New.</prompt>", "No, thank you.", "<prompt>Cut", ""]
    reflection = PolicyReflection(lambda chats: answers)
    assert reflection.propose([request(f"Old {i}.", ("a", "b")) for i in range(4)]) == ["New.", "", "", None]
    assert reflection.trouble.count == {"unusable": 1, "cut": 1, "failures": 1}
    assert "<prompt> is not closed" in reflection.trouble.last["cut"]
    answers = ["<prompt>New.</prompt>"]
    reflection.propose([request("Old.", ("a", "b"))])
    assert not reflection.trouble.count


def test_the_policys_own_marks_of_thinking_come_from_its_chat_template():
    tokenizer = type("T", (), {"chat_template": "{{ '<cot_thinking>' }} x.split('</cot_thinking>')"})()
    marks = thinking_marks(tokenizer)
    assert marks == (("<cot_thinking>", "</cot_thinking>"),)
    answer = "A <prompt>no</prompt>.</cot_thinking>Here is the new prompt:\nYes."
    assert PolicyReflection(lambda chats: [answer], thinking=marks).propose([request("Old.", ("a", "b"))]) == ["Yes."]
    assert thinking_marks(type("T", (), {"chat_template": None})()) == ()


@pytest.mark.parametrize(
    ("begins", "opened"), [("<think>\n", "<think>"), ("<think>\n\n</think>\n\n", ""), ("", ""), ("[THINK]", "[THINK]")]
)
def test_where_the_chat_template_opens_the_thinking_an_answer_is_thinking_until_it_is_closed(begins, opened):
    class Tokenizer:
        chat_template = "yes"

        def apply_chat_template(self, chat, tokenize, add_generation_prompt, enable_thinking):
            assert add_generation_prompt and not tokenize and enable_thinking
            return "<|im_start|>assistant\n" + begins

    assert opened_thinking(Tokenizer(), {"enable_thinking": True}) == opened
    answers = ["Perhaps <prompt>no</prompt>, but", "Hm.</think>[/THINK]<prompt>Yes.</prompt>"]
    reflection = PolicyReflection(lambda chats: answers, opened=opened)
    found = reflection.propose([request(f"Old {i}.", ("a", "b")) for i in range(2)])
    assert found == ["" if opened else "no", "Yes."] and reflection.trouble.count["cut"] == bool(opened)
