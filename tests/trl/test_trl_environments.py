"""An environment id as a trainer's data and rewards."""

from types import SimpleNamespace

import pytest

HOUSE = "fst_envs:fst/HouseRules-v0"


@pytest.fixture(scope="module")
def made():
    from fst_trl import from_env

    return from_env(HOUSE, {"book": 0}, train_size=5, val_size=3)


def test_the_sets_have_the_sizes_asked_for_and_no_question_in_common(made):
    train, val = made["train_dataset"], made["eval_dataset"]
    assert (len(train), len(val)) == (5, 3)
    questions = [row["prompt"][0]["content"] for data in (train, val) for row in data]
    assert len(set(questions)) == 8


def test_every_row_names_its_task(made):
    from fst_trl import rows

    assert {rows.problem(row).task for row in made["train_dataset"]} == {"fst/HouseRules-v0"}


def test_without_a_validation_size_there_is_no_validation_set():
    from fst_trl import from_env

    assert set(from_env(HOUSE, {"book": 0}, train_size=2, val_size=0)) == {"train_dataset", "reward_funcs"}


def test_the_reward_is_the_environments_and_its_feedback_goes_into_trls_column(made):
    data, logged = made["train_dataset"], {}
    answers = [data[0]["ground_truth"], "nonsense"]
    completions = [[{"role": "assistant", "content": text}] for text in answers]
    info = [data[0]["extra_info"], data[1]["extra_info"]]
    assert made["reward_funcs"](completions=completions, extra_info=info, log_extra=logged.__setitem__) == [1.0, 0.0]
    assert len(logged["feedback"]) == 2 and data[1]["ground_truth"] in logged["feedback"][1]


def test_an_episode_that_the_environment_broke_has_no_reward():
    from fst_trl.environments import episode_reward

    logged = {}
    played = [
        SimpleNamespace(reward=0.5, feedback="ok", broken=False),
        SimpleNamespace(reward=0.0, feedback="", broken=True),
    ]
    assert episode_reward(environments=played, log_extra=logged.__setitem__) == [0.5, None]
    assert logged == {"feedback": ["ok", ""]}


def test_an_environment_of_the_users_own_module_is_scored(tmp_path, monkeypatch):
    from fst_trl import from_env

    (tmp_path / "trl_own_env.py").write_text(
        "import gymnasium as gym\n"
        "from fst_envs import ReasoningEnv\n"
        "class Own(ReasoningEnv):\n"
        "    def load(self, index, split):\n"
        "        self.answer = f'{split}{index}'\n"
        "        return f'Say {self.answer}.', {'answer': self.answer}\n"
        "    def respond(self, text):\n"
        "        return '', float(text == self.answer), True, 'No.'\n"
        "gym.register('trl/Own-v0', entry_point=Own)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = from_env("trl_own_env:trl/Own-v0", train_size=2, val_size=0)
    row, logged = made["train_dataset"][1], {}
    given = {"extra_info": [row["extra_info"]], "log_extra": logged.__setitem__}
    said = row["prompt"][0]["content"].removeprefix("Say ").removesuffix(".")
    assert made["reward_funcs"](completions=[[{"role": "assistant", "content": said}]], **given) == [1.0]
