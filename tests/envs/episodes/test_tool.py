"""An environment as a tool that the model calls."""

import pytest
from fst_envs.base import EnvironmentFault
from fst_envs.episodes.tool import AnswerTool
from fst_envs.instances import rows

ENV = "fst_envs:fst/SecondTry-v0"


@pytest.fixture
def row():
    return rows(ENV, {"book": 0}, "train", 1)[0]


@pytest.fixture
def tool(row):
    made = AnswerTool()
    made.reset(**row)
    return made


def test_a_right_answer_ends_the_episode_with_its_reward(tool, row):
    said = tool.answer(row["reward_model"]["ground_truth"])
    assert (tool.reward, tool.done, tool.broken) == (1.0, True, False) and said == tool.feedback
    assert tool.answer("again") == "The question is closed." and tool.reward == 1.0


def test_a_wrong_answer_is_followed_by_the_hint_and_another_turn(tool, row):
    said = tool.answer("nonsense")
    assert not tool.done and row["prompt"][0]["content"] in said and tool.feedback in said
    tool.answer(row["reward_model"]["ground_truth"])
    assert (tool.reward, tool.done) == (0.5, True)


def test_a_new_episode_knows_nothing_of_the_last_one(tool, row):
    tool.answer("nonsense")
    tool.reset(**row)
    assert (tool.reward, tool.feedback, tool.done) == (0.0, "No answer was given.", False)


def test_an_environment_that_breaks_is_told_from_a_reward_of_0(tool, monkeypatch):
    def broken(*_):
        raise EnvironmentFault("gone")

    monkeypatch.setattr("fst_envs.episodes.tool.run", broken)
    with pytest.raises(EnvironmentFault):
        tool.answer("anything")
    assert tool.broken and tool.done


def test_another_instance_than_the_rows_is_refused(row):
    with pytest.raises(EnvironmentFault, match="but the row was made from task"):
        AnswerTool().reset(**{**row, "extra_info": {**row["extra_info"], "task_id": "another"}})


def test_the_tool_is_described_for_the_model():
    assert "Gives an answer" in AnswerTool.answer.__doc__ and "text: The answer." in AnswerTool.answer.__doc__
