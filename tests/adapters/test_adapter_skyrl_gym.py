"""The skyrl-gym adapter on the real library, over files of the rows that its environments want."""

from __future__ import annotations

import json

import adapter_contract as contract
import fst_envs
import pytest
from fst_envs import EnvironmentFault
from fst_envs.instances import load_splits
from fst_envs.score import compute_score

pytest.importorskip("skyrl_gym")

SKY = "fst_envs:fst/SkyRLGym-v0"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sums.jsonl"
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{i} + 1? End with #### and the number."}],
            "env_class": "gsm8k",
            "reward_spec": {"method": "rule", "ground_truth": str(i + 1)},
            "reward_model": {"ground_truth": str(i + 1)},
            "extra_info": {"max_turns": 3},
        }
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("task", ["gsm8k", "gsm8k_multi_turn", "aime"])
def test_contract(task, file):
    contract.keeps_to_the_contract(SKY, {"task": task, "file": file}, ["so\n#### 0", "#### 1", "#### 2"])
    contract.passes_gymnasiums_check(SKY, task=task, file=file)
    contract.is_the_same_in_every_process(SKY, {"task": task, "file": {"val": file, "train": file}}, ["#### 6"])


def test_a_row_rewards_its_own_answer(file):
    env = fst_envs.make(SKY, task="gsm8k", file={"train": file})
    question, info = env.reset(options={"index": 3})
    assert question.startswith("3 + 1?") and info["source"] == "skyrl_gym/gsm8k"
    assert env.step("so\n#### 4")[1] == 1.0
    wrong = contract.play(env, ["so\n#### 5"], index=3)[-1]
    assert wrong[1] == 0.0 and wrong[4]["feedback"] == "The answer got a reward of 0." and wrong[4]["feedback_made"]


def test_several_turns_and_rewards_per_turn(file):
    env = fst_envs.make(SKY, task="gsm8k_multi_turn", file={"train": file})
    turns = contract.play(env, ["#### 9", "no", "#### 4"], index=3)
    assert [turn[2] for turn in turns] == [False, False, True] and turns[-1][1] == 1.0
    assert 0 < turns[0][1] < 0.2 and turns[1][1] == 0.0 and "#### ANSWER" in turns[0][0]


def test_metadata_is_feedback(file):
    turn = contract.play(fst_envs.make(SKY, task="aime", file={"train": file}), ["Answer: 7"])[-1]
    assert "pred: 7" in turn[4]["feedback"]


def test_no_text_raises(file):
    for task in ("gsm8k", "aime"):
        env = fst_envs.make(SKY, task=task, file={"train": file})
        contract.survives(env)


def test_rows_for_training_come_from_one_file(file):
    kwargs = {"task": "gsm8k", "file": file}
    splits = load_splits(SKY, kwargs, {"train": 20, "val": 2})
    row = splits["val"][0]
    assert compute_score("", "#### 0", "", row["extra_info"], {"id": SKY, "kwargs": kwargs})["score"] in (0.0, 1.0)
    ids = {name: {row["extra_info"]["task_id"] for row in rows} for name, rows in splits.items()}
    assert not ids["train"] & ids["val"]


@pytest.mark.parametrize(
    ("task", "message"),
    [("lcb", "runs the program"), ("text2sql", "the query"), ("search", "is refused"), ("none", "gsm8k")],
)
def test_what_cannot_be_played_is_refused(task, message, file):
    with pytest.raises(ValueError, match=message):
        fst_envs.make(SKY, task=task, file=file)


def test_a_users_own_environment_is_named_by_its_class(file):
    env = fst_envs.make(SKY, task="skyrl_gym.envs.gsm8k.env:GSM8kEnv", file={"train": file})
    assert contract.play(env, ["#### 1"])[-1][1] == 1.0


def test_a_row_that_does_not_fit_is_a_fault(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": [{"role": "user", "content": "1 + 1?"}]}))
    with pytest.raises(EnvironmentFault, match="reward_spec"):
        fst_envs.make(SKY, task="gsm8k", file={"train": str(path)}).reset(options={"index": 0})
