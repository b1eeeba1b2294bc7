"""Rows and completions as the method's problems and rollouts."""

import pytest


@pytest.fixture(scope="module")
def rows():
    from fst_trl import rows

    return rows


def make(rows, scores=(1.0, 0.0), said=(), references=(None, None), tokens=(3, 4)):
    completions = [[{"role": "assistant", "content": f"answer {i}"}] for i in range(len(scores))]
    return rows.rollouts(scores, completions, said, tokens, references)


def test_feedback_of_several_reward_functions_is_put_together(rows):
    found = make(rows, said=["Right.", None, "Short.", "Too long."])
    assert [one.feedback for one in found] == ["Right. Short.", "Too long."]


def test_a_completion_of_several_messages_is_an_episode(rows):
    said = [{"role": "assistant", "content": "4"}]
    one, several = rows.rollouts((1.0, 1.0), [said, said * 2], (), (1, 2), (None, None))
    assert not one.episode and several.episode
    assert not rows.rollouts((1.0,), ["plain"], (), (1,), (None,))[0].episode


def test_feedback_that_is_no_text_is_read_as_text(rows):
    first, second = make(rows, said=[["Right.", "Short."], float("nan")])
    assert first.feedback == "Right.\nShort." and not first.feedback_made
    assert second.feedback == "The answer got a reward of 0." and second.feedback_made


def test_feedback_on_some_completions_only_is_refused(rows):
    with pytest.raises(ValueError, match="1 texts for 2 completions; give one for each"):
        make(rows, said=["Right."])


def test_without_feedback_it_is_made_from_the_score_and_may_quote_the_answer(rows):
    first, second = make(rows, references=[None, "B4"])
    assert first.feedback == "The answer got a reward of 1."
    assert second.feedback == "The answer got a reward of 0. The reference answer is: B4"
    assert (first.response, first.tokens, second.tokens) == ("answer 0", 3, 4)


def test_made_feedback_is_marked_as_made_and_a_reward_functions_own_is_not(rows):
    assert [one.feedback_made for one in make(rows)] == [True, True]
    assert [one.feedback_made for one in make(rows, said=["Right.", None])] == [False, True]


def test_a_completion_that_no_reward_function_could_score_is_a_failed_rollout(rows):
    good, bad = make(rows, scores=(0.5, float("nan")))
    assert good.error is None and good.score == 0.5
    assert bad.error == "the reward is nan, not a finite number"


def test_an_answer_is_private_if_the_row_or_its_extra_info_says_so(rows):
    prompt = [{"role": "user", "content": "q"}]
    assert not rows.problem({"prompt": prompt, "solution": "4"}).private
    assert rows.problem({"prompt": prompt, "answer": "4", "private_answer": True}).answer == "4"
    assert rows.problem({"prompt": prompt, "extra_info": {"private_answer": True}}).private
    assert not rows.problem({"prompt": prompt, "extra_info": None}).private


def test_every_prompt_of_a_dataset_is_read_with_or_without_columns(rows):
    from datasets import Dataset

    made = [{"prompt": [{"role": "user", "content": text}], "answer": text} for text in "abc"]
    assert [chat[0]["content"] for chat in rows.chats(Dataset.from_list(made))] == ["a", "b", "c"]
    assert [chat[0]["content"] for chat in rows.chats(made)] == ["a", "b", "c"]
