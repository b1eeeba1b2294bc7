"""What is adopted from a language model's answer was meant as a prompt, and is adopted as it was written."""

from __future__ import annotations

import time

import pytest

from fst_plugin.reflection import extract_prompt
from fst_plugin.reflection.answers import THINKING, NoPrompt, read_prompt

FENCES = "Write:\n```python\nprint(1)\n```\nThen stop."

SHAPES = [
    # Tags
    ("<prompt>\nDo this.\n</prompt>", "Do this."),
    ("Sure! <prompt>\nDo this.\n</prompt> Bye", "Do this."),
    ("Draft: <prompt>One.</prompt> Better: <prompt>Two.</prompt>", "Two."),
    ("I answer between <prompt> and </prompt>: <prompt>Do this.</prompt>", "Do this."),
    ("I use the <prompt> tag.\n<prompt>Do this.</prompt>\nBye", "Do this."),
    ("<prompt>Put it between <prompt> and </prompt>.</prompt>", "Put it between <prompt> and </prompt>."),
    ("<prompt>Begin with <prompt>, always.</prompt>", "Begin with <prompt>, always."),
    ("```xml\n<prompt>\nDo this.\n</prompt>\n```", "Do this."),
    ("<prompt>\n```\nDo this.\n```\n</prompt>", "Do this."),
    (f"<prompt>{FENCES}</prompt>", FENCES),
    ("<prompt>Open a fence:\n```</prompt>", "Open a fence:\n```"),
    ("<PROMPT>Do this.</PROMPT>", "Do this."),
    ("<prompt>Do this, and", None),
    ("Here: <prompt>Do this, and", None),
    ("<prompt>One.</prompt> Better: <prompt>Two, and", None),
    ("<prompt></prompt>", None),
    ("I shall answer between <prompt> and </prompt> tags.", None),
    # Thinking
    ("<think><prompt>no</prompt></think><prompt>Yes.</prompt>", "Yes."),
    ("\n<think>\n\n</think>\n\n<prompt>Yes.</prompt>", "Yes."),
    ("Let me see. <prompt>no</prompt> is weak.\n</think>\n<prompt>Yes.</prompt>", "Yes."),
    ("I write <prompt> tags.</think><prompt>Yes.</prompt>", "Yes."),
    ("<think>a<think>b</think>c</think><prompt>Yes.</prompt>", "Yes."),
    ("<think>only thoughts", None),
    ("<think>thoughts, then <prompt>Yes, but", None),
    ("thoughts</think>", None),
    ("thoughts</think>Just talk.", None),
    ("Hm, <prompt>no</prompt>.</think>Just talk.", None),
    ("Hm.</think>Here is the new prompt:\nYes.", "Yes."),
    ('Hm.</think>{"prompt": "Yes."}', "Yes."),
    ("Hm:\n```\nno\n```\n</think>\n```\nYes.\n```", "Yes."),
    ("<think>a</think><prompt>First write <think>, then </think>.</prompt>", "First write <think>, then </think>."),
    ("<prompt>First write <think> and your thoughts.</prompt>", "First write <think> and your thoughts."),
    ("<prompt>End your thoughts with </think>, then answer.</prompt>", "End your thoughts with </think>, then answer."),
    ("```\nEnd your thoughts with </think>.\n```", "End your thoughts with </think>."),
    # gpt-oss
    (
        "<|channel|>analysis<|message|>Hm, <prompt>no</prompt>.<|end|><|start|>assistant"
        "<|channel|>final<|message|><prompt>Yes.</prompt><|return|>",
        "Yes.",
    ),
    ("<|channel|>analysis<|message|>Hm, <prompt>no</prompt>, let me", None),
    ("analysisHm, <prompt>no</prompt>.assistantfinal<prompt>Yes.</prompt>", "Yes."),
    # JSON
    ('{"prompt": "Do this."}', "Do this."),
    ('{"reasoning": "because", "new_instruction": "Do this.\\nAnd that."}', "Do this.\nAnd that."),
    ('```json\n{"prompt": "Do this."}\n```', "Do this."),
    ('<think>Hm.</think>{"prompt": "Do this."}', "Do this."),
    ('{"prompt": ["Do this.", "Do that."]}', "Do this.\nDo that."),
    ('{"prompt": {"text": "Do this."}}', "Do this."),
    ('{"prompt": {"role": "a helper", "rules": ["x"]}}', None),
    ('{"prompt": 7}', None),
    ('{"prompt": ["Do this.", {"rule": "x"}]}', None),
    ('{"thoughts": "a", "more": "b"}', None),
    ('{"prompt": "Do this, and', None),
    (r'{"prompt": "Answer in \boxed{}, not \frac{1}{2}."}', r"Answer in \boxed{}, not \frac{1}{2}."),
    (r'{"prompt": "Use \\boxed{}.\nUse \theta \times \nabla \rho \(x\) \underline{y}."}',
     "Use \\boxed{}.\n" r"Use \theta \times \nabla \rho \(x\) \underline{y}."),
    (r'{"prompt": "Say \"hi\".\tThen\nNext, \u00e9 C:\\new."}', 'Say "hi".\tThen\nNext, é C:\\new.'),
    # Fences
    ("Here:\n```text\nDo that.\nAnd this.\n```\nDone", "Do that.\nAnd this."),
    ("~~~\nDo that.\n~~~", "Do that."),
    ("````markdown\nWrite:\n```\nx\n```\n````", "Write:\n```\nx\n```"),
    (f"```\n{FENCES}\n```", FENCES),
    ("```\nopen fence", None),
    ("```python\nprint(1)\n```", None),
    ("```\nOne.\n```\nor\n```\nTwo.\n```", None),
    # Announcements
    ("Here is the improved prompt:\n\nDo this.\nDo that.", "Do this.\nDo that."),
    ("Sure! Here's the new system prompt:\n```\nDo this.\n```\nI hope it helps.", "Do this."),
    ("**Improved instructions:**\nDo this.", "Do this."),
    # Anything else
    ("Follow these instructions:\n1. Do this.", None),
    ("Just the text.", None),
    ("I'm sorry, but I can't help with that.", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "prompt"), SHAPES)
def test_the_prompt_in_an_answer(answer, prompt):
    assert extract_prompt(answer) == prompt


@pytest.mark.parametrize(("opening", "closing"), THINKING)
def test_a_lone_closing_tag_ends_the_thinking(opening, closing):
    assert extract_prompt(f"Hm, <prompt>no</prompt>.{closing}\n<prompt>Yes.</prompt>") == "Yes."
    assert extract_prompt(f"Hm, <prompt>no</prompt>.{closing}Here is the new prompt:\nYes.") == "Yes."
    assert extract_prompt(f"{opening}Hm.{closing}Here is the new prompt:\nYes.") == "Yes."
    assert extract_prompt(f"<prompt>Use {opening}x{closing}.</prompt>") == f"Use {opening}x{closing}."


@pytest.mark.parametrize(
    "answer", ["<think>on and", "<prompt>Do this, and", "```\nDo", "<|channel|>analysis<|message|>Hm"]
)
def test_an_answer_that_breaks_off_is_told_from_one_that_holds_no_prompt(answer):
    with pytest.raises(NoPrompt) as found:
        read_prompt(answer)
    assert found.value.kind == "cut"
    with pytest.raises(NoPrompt) as found:
        read_prompt("No, thank you.")
    assert found.value.kind == "unusable"


def test_answers_made_to_be_slow_are_read_fast():
    began = time.monotonic()
    for piece in (
        "<prompt> x ",
        "<prompt>x</prompt>",
        "```\n",
        "```a\n",
        "<think>",
        "</think>",
        "\\",
        '{"a":',
        "analysis ",
    ):
        extract_prompt(piece * (200_000 // len(piece)))
    assert time.monotonic() - began < 10
