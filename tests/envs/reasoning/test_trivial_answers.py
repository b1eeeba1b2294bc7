"""58 answers that need no thought, to all tasks of reasoning-gym: none may be right on every one of 20 instances.

A few seconds: an answer is dropped at the first instance that it gets wrong, so most are scored once.
"""

from __future__ import annotations

import fst_envs
import pytest
from fst_envs.answers import holds_non_finite

pytest.importorskip("reasoning_gym")

from fst_envs.reasoning import env as adapter  # noqa: E402

RG = "fst_envs:fst/ReasoningGym-v0"
INSTANCES = 20
NUMBERS = ["0", "1", "-1", "2", "3", "5", "10", "42", "100", "0.5", "1.0", "1e308", "1j", "0j", "1+1j", "1/0"]
NOT_FINITE = [
    *("nan", "NaN", "-nan", "+nan", "n an", "nanj", "nan+nanj", "1+nanj", "(nan)", "float('nan')"),
    *("inf", "-inf", "Infinity", "-Infinity", "infj", "inf-infj", "∞", "1e999", "-1e999", "1e999j"),
]
WORDS = ["", " ", "yes", "no", "Yes", "No", "true", "false", "True", "False", "None", "null", "x", "banana"]
STRUCTURES = ["[]", "{}", "()", "[[]]", "[0]", '""', "[nan]", "..."]
ANSWERS = [*NUMBERS, *NOT_FINITE, *WORDS, *STRUCTURES]


def test_no_trivial_answer_is_right_on_every_instance_of_a_task():
    assert len(ANSWERS) == len(set(ANSWERS)) == 58
    tasks = adapter.tasks()
    assert len(tasks) == 103
    assert {task: found for task in tasks if (found := always_right(task))} == {}


def always_right(task):
    size = {"size": 500} if task in adapter.EAGER else {}
    env = fst_envs.make(RG, task=task, binary=False, **size).unwrapped
    left = list(ANSWERS)
    for index in range(INSTANCES):
        if not left:
            break
        env.load(index, "train")
        left = [text for text in left if env.respond(f"<answer>{text}</answer>")[1] >= 1.0]
    return left


@pytest.mark.parametrize(
    "text", [*NOT_FINITE, "[nan]", "ｎａｎ", "n\u00a0an", "complex('nan')", "(2, inf)", "2*1E+999"]
)
def test_an_answer_that_is_not_finite_scores_zero_and_is_told_why(text):
    assert holds_non_finite(text)
    env = fst_envs.make(RG, task="complex_arithmetic")
    env.reset(options={"index": 0})
    _, reward, _, _, info = env.step(f"<answer>{text}</answer>")
    assert reward == 0.0 and "holds only finite numbers" in info["feedback"]


@pytest.mark.parametrize("text", ["banana", "information", "Nancy", "3+4i", "1e5", "1e-999", "0x176b9e643680", "e99"])
def test_words_and_numbers_that_merely_look_alike_are_scored(text):
    assert not holds_non_finite(text)


def test_a_gold_answer_that_holds_such_a_word_is_still_right(monkeypatch):
    env = fst_envs.make(RG, task="codeio").unwrapped
    env.load(0, "train")
    env._answer = "NaN"
    assert env.respond("<answer>NaN</answer>")[1] == 1.0
