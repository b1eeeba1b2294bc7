"""Answers in a model's text: which part of it counts, and how two JSON values differ."""

from __future__ import annotations

import json
import time

import pytest
from fst_envs.answers import find_answer, first_difference, last_boxed, last_line, last_tag, read_json


@pytest.mark.parametrize(
    ("find", "text", "answer"),
    [
        (last_tag, "a <answer> 1 </answer> b <answer>\n2\n</answer> c", "2"),
        (last_tag, "<answer>1</answer> <answer>2", "1"),
        (last_tag, "<answer> thinking <answer>2</answer>", "2"),
        (last_tag, "1</answer>", None),
        (last_tag, "", None),
        (last_boxed, r"\boxed{1} and \boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (last_boxed, r"\boxed{{{{{5}}}}}", "{{{{5}}}}"),
        (last_boxed, r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (last_boxed, r"\boxed{1} then \boxed{2", "1"),
        (last_boxed, r"} \boxed {3}", "3"),
        (last_boxed, r"\boxed{a \boxed{b}}", "b"),
        (last_boxed, "{1}", None),
        (last_line, "first\n last \n \n", "last"),
        (last_line, " \n", None),
    ],
)
def test_the_answer_in_a_text(find, text, answer):
    assert find(text) == answer


@pytest.mark.parametrize("find", [last_tag, last_boxed, last_line])
@pytest.mark.parametrize("piece", ["<answer>", r"\boxed{", "}", "{", "\\", "\n"])
def test_hostile_texts_take_linear_time(find, piece):
    began = time.process_time()
    find(piece * 100_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a <answer> 1 </answer> b <answer>\n2\n</answer>", "2"),
        (r"so \boxed{1} and \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} but <answer>2</answer>", "2"),
        (r"\boxed{{{{deep}}}}", "{{{deep}}}"),
        ("<answer></answer>", ""),
        ("<answer>1", None),
        ("1", None),
    ],
)
def test_the_last_marked_answer_counts(text, answer):
    assert find_answer(text) == answer


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("[[1],[2]]", "[[1], [2]]", True),
        ('```json\n{"b": 1, "a": [2]}\n```', '{"a": [2], "b": 1}', True),
        ("[[1], [3]]", "[[1], [2]]", False),
        ('{"a": 1, "b": 2.0}', '{"b": 2, "a": 1.0}', True),
        ("[true]", "[1]", False),
    ],
)
def test_json_values_are_compared_not_their_text(a, b, same):
    assert (first_difference(read_json(a), read_json(b)) is None) is same


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "not json", "", "[" * 100_000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError):
        read_json(text)


def test_first_difference_survives_deep_nesting():
    deep = json.loads("[" * 900 + "]" * 900)
    try:
        assert first_difference(deep, deep) is None
    except ValueError as e:
        assert "too deep" in str(e)
