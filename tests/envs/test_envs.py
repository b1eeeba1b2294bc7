"""The environment contract, rows and scoring; on StarGraph and small environments of these tests."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import fst_envs
import gymnasium as gym
import pytest
from fst_envs import EnvironmentFault, ReasoningEnv, UnicodeText, content_id, split_seed
from fst_envs.episodes.episode import BlockingEpisode
from fst_envs.export import file_row
from fst_envs.instances import Instance, dataset_digest, load_splits, rows, task_ids
from fst_envs.score import compute_score, score
from gymnasium.utils.env_checker import check_env

STAR = "fst_envs:fst/StarGraph-v0"
ROOT = Path(__file__).resolve().parents[2]


class Parity(ReasoningEnv):
    """Few distinct questions: is `index % questions` odd?"""

    made = 0

    def __init__(self, questions=8, split="train", size=1000):
        super().__init__(split=split, size=size)
        self.questions, self.number, self.asked = questions, 0, 0
        Parity.made += 1

    def load(self, index, split):
        self.number = split_seed(split, index) % self.questions
        return f"Is {self.number} odd?", {"answer": bool(self.number % 2)}

    def respond(self, text):
        self.asked += 1
        if text == "nan":
            return "", math.nan, True, ""
        if text == "offline":
            raise ConnectionError("the judge is down")
        right = {"yes": True, "no": False}[text] == bool(self.number % 2)  # KeyError: the model's fault
        return "", float(right), True, f"answer number {self.asked} of this environment"


class Foreign(gym.Env):
    """An environment by another author, without feedback, indices or splits."""

    observation_space = action_space = gym.spaces.Text(1000)

    def __init__(self, turns=1, broken=False):
        self.turns, self.broken = turns, broken

    def reset(self, *, seed=None, options=None):
        if self.broken:
            raise ConnectionError("the server is down")
        super().reset(seed=seed)
        self.number, self.turn = int(self.np_random.integers(10**6)), 0
        return f"say {self.number}", {}

    def step(self, action):
        self.turn += 1
        return f"it was {self.number}", float(int(action) == self.number), self.turn >= self.turns, False, {}


class Numbers(gym.Env):
    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Text(10)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    for cls in (Parity, Foreign, Numbers):
        gym.register(f"test/{cls.__name__}-v0", entry_point=cls)
    yield
    for cls in (Parity, Foreign, Numbers):
        del gym.registry[f"test/{cls.__name__}-v0"]


@pytest.fixture
def no_pauses(monkeypatch):
    async def at_once(self, seconds):
        pass

    monkeypatch.setattr(BlockingEpisode, "_sleep", at_once)


def strictly_checked(env_id, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped)


# --- spaces


def test_unicode_text_holds_any_text_and_its_own_samples():
    space = UnicodeText(max_length=40, min_length=2, seed=3)
    assert "π≈3.14\x00\ud800" in space
    assert "x" not in space and "x" * 41 not in space and 5 not in space
    samples = [space.sample() for _ in range(200)]
    assert all(s in space for s in samples) and len(set(samples)) > 100
    assert space == UnicodeText(40, 2) and space != UnicodeText(41, 2)


def test_long_minimum_is_sampled():
    space = UnicodeText(max_length=100, min_length=90, seed=0)
    assert 90 <= len(space.sample()) <= 100


# --- the contract


def test_own_environments_pass_the_strict_check():
    strictly_checked(STAR)
    strictly_checked("test/Parity-v0")


def test_seed_draws_and_options_name():
    env = fst_envs.make(STAR)
    by_seed = [env.reset(seed=7)[0], env.reset(seed=7)[0], env.reset(seed=8)[0]]
    assert by_seed[0] == by_seed[1] != by_seed[2]
    question, info = env.reset(options={"index": 5, "split": "val"})
    assert (info["index"], info["split"], info["task_id"]) == (5, "val", content_id(question))
    assert env.reset(options={"index": 5, "split": "val"})[0] == question
    assert env.reset(options={"index": 5})[0] != question  # the default split is another


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"index": 1000}, IndexError),
        ({"index": -1}, IndexError),
        ({"split": "dev"}, ValueError),
        ({"i": 1}, ValueError),
    ],
)
def test_reset_refuses_what_it_does_not_know(options, error):
    with pytest.raises(error):
        gym.make("test/Parity-v0", disable_env_checker=True).reset(options=options)


def test_the_seed_windows_of_the_splits_do_not_overlap():
    ends = [(split_seed(s, 0), split_seed(s, fst_envs.WINDOW - 1)) for s in fst_envs.SPLITS]
    assert all(a[1] < b[0] for a, b in zip(ends, ends[1:], strict=False))
    assert ends[-1][1] < 2**32
    with pytest.raises(IndexError):
        split_seed("train", fst_envs.WINDOW)


def test_text_that_breaks_the_verifier_scores_zero_and_says_so():
    result = score("test/Parity-v0", {}, 3, "train", "perhaps \ud800")
    assert result["score"] == 0.0 and "could not be checked (KeyError)" in result["feedback"]
    assert "perhaps" in result["error"]
    row = rows("test/Parity-v0", {}, "train", 1)[0]
    scored = [compute_score("", text, "", row["extra_info"])["unchecked"] for text in ("perhaps", "yes")]
    assert scored == [1.0, 0.0]


@pytest.mark.parametrize(("text", "message"), [("offline", "the judge is down"), ("nan", "the reward nan")])
def test_faults_of_the_environment_raise(text, message, no_pauses):
    with pytest.raises(EnvironmentFault, match=message):
        score("test/Parity-v0", {}, 3, "train", text)


def test_an_episode_is_one_turn():
    env = fst_envs.make("test/Parity-v0")
    env.reset(seed=0)
    with pytest.raises(TypeError, match="str"):
        env.step(3)
    env.step("yes")
    with pytest.raises(gym.error.ResetNeeded):
        env.step("yes")


# --- make


def test_foreign_environment_gets_feedback_and_names():
    env = fst_envs.make("test/Foreign-v0")
    question, info = env.reset(options={"index": 2, "split": "val"})
    assert info == {"index": 2, "split": "val", "task_id": content_id(question)}
    assert env.reset(options={"index": 2, "split": "val"})[0] == question
    assert env.reset(options={"index": 2, "split": "train"})[0] != question
    number = env.unwrapped.number
    _, reward, _, _, said = env.step("1")
    assert reward == 0.0 and said["feedback_made"]
    assert said["feedback"] == f"The answer got a reward of 0. The environment said: it was {number}"


def test_foreign_verifier_may_choke_too():
    result = score("test/Foreign-v0", {}, 0, "train", "no number")
    assert result["score"] == 0.0 and result["feedback_made"] and "ValueError" in result["error"]


def test_an_environments_own_feedback_is_not_marked_as_made():
    assert score(STAR, {}, 0, "train", "?")["feedback_made"] is False


def test_verls_reward_function_passes_the_mark_of_made_feedback_on_as_text():
    row = rows("test/Foreign-v0", {}, "val", 1)[0]
    assert compute_score("", "1", "", row["extra_info"])["feedback_made"] == "yes"


def test_make_refuses_what_is_not_text():
    with pytest.raises(TypeError, match="observation_space is Discrete"):
        fst_envs.make("test/Numbers-v0")


@pytest.mark.parametrize("env_id", ["no_such_module_x:a/B-v0", "fst_envs:fst/Missing-v0", "nope/Missing-v0"])
def test_make_says_which_id_is_unknown(env_id):
    with pytest.raises(gym.error.Error, match=env_id.partition(":")[0]):
        fst_envs.make(env_id)


# --- rows


def test_rows_have_the_schema_and_score_1_with_their_gold_answer():
    data = rows(STAR, {"degree": 3}, "val", 20, start=4)
    assert [r["extra_info"]["index"] for r in data] == list(range(4, 24))
    for row in data:
        assert row["data_source"] == "fst/StarGraph-v0"
        assert [m["role"] for m in row["prompt"]] == ["user"]
        assert row["extra_info"]["task_id"] == content_id(row["prompt"][0]["content"])
        gold = row["reward_model"]["ground_truth"]
        args = (row["data_source"], gold, gold, row["extra_info"])
        counted = {"faults": 0.0, "unchecked": 0.0}
        assert compute_score(*args) == {"score": 1.0, "feedback": "Correct.", "acc": 1.0, **counted}
        wrong = compute_score(row["data_source"], gold.replace(",", " "), gold, row["extra_info"])
        assert wrong["score"] == wrong["acc"] == 0.0 and wrong["feedback"]
    assert json.loads(json.dumps(data)) == data


def test_a_row_names_its_instance():
    row = rows(STAR, {"degree": 3}, "val", 1, start=4)[0]
    named = Instance(STAR, {"degree": 3}, 4, "val", row["extra_info"]["task_id"])
    assert Instance.of(row["extra_info"]) == named
    assert Instance.of(file_row(row)["extra_info"]) == named  # JSON text, as a file holds it
    named.expect(content_id(row["prompt"][0]["content"]))
    with pytest.raises(EnvironmentFault, match=f"instance 4 of 'val' is task 77, but .* task {named.task_id}"):
        named.expect("77")
    Instance(STAR, {}, 0, "train").expect("77")  # without a task id, any question will do


@pytest.mark.parametrize("key", ["env_id", "env_kwargs", "index", "split", "task_id"])
def test_a_row_that_does_not_name_its_instance_says_what_is_missing(key):
    extra = rows(STAR, {}, "train", 1)[0]["extra_info"]
    del extra[key]
    with pytest.raises(ValueError, match=rf"lacks \['{key}'\]: make the rows with fst_envs.instances.rows"):
        Instance.of(extra)
    with pytest.raises(ValueError, match="lacks .*env_id.*task_id"):
        Instance.of(None)


def test_rows_are_distinct_and_exclude():
    data = rows("test/Parity-v0", {"questions": 8}, "train", 8)
    assert len(task_ids(data)) == 8
    assert data[1]["reward_model"]["ground_truth"] == "true"
    rest = rows("test/Parity-v0", {"questions": 8}, "val", 5, exclude=task_ids(data[:3]))
    assert not task_ids(rest) & task_ids(data[:3])
    with pytest.raises(ValueError, match=r"hold only 8 of the 9 distinct questions.*repeat=True"):
        rows("test/Parity-v0", {"questions": 8}, "train", 9)


def test_rows_repeat_questions_only_on_request():
    data = rows("test/Parity-v0", {"questions": 4}, "train", 12, exclude={content_id("Is 1 odd?")}, repeat=True)
    assert len(data) == 12 and len(task_ids(data)) == 3
    with pytest.raises(ValueError, match="hold only 0 of the 2 rows"):
        rows("test/Parity-v0", {"questions": 1}, "train", 2, exclude={content_id("Is 0 odd?")}, repeat=True)


def test_splits_share_no_question_however_few_there_are():
    splits = load_splits("test/Parity-v0", {"questions": 10}, {"train": 30, "val": 4, "test": 2}, repeat=True)
    assert list(splits) == ["train", "val", "test"]
    assert {k: len(v) for k, v in splits.items()} == {"train": 30, "val": 4, "test": 2}
    ids = {k: task_ids(v) for k, v in splits.items()}
    assert {k: len(v) for k, v in ids.items()} == {"train": 4, "val": 4, "test": 2}
    assert not (ids["train"] & ids["val"] or ids["train"] & ids["test"] or ids["val"] & ids["test"])
    with pytest.raises(ValueError):
        load_splits("test/Parity-v0", {"questions": 10}, {"train": 8, "val": 4})


def test_digest_names_content_and_order():
    a, b = rows(STAR, {}, "train", 6), rows(STAR, {}, "train", 6)
    assert dataset_digest(a) == dataset_digest(b)
    assert dataset_digest(a) != dataset_digest(a[::-1]) != dataset_digest(a[:5])
    assert dataset_digest(rows(STAR, {"degree": 4}, "train", 6)) != dataset_digest(a)


def test_rows_are_equal_in_other_processes():
    code = (
        "from fst_envs.instances import *;"
        f"print(dataset_digest(rows({STAR!r}, {{'degree': 4}}, 'train', 30) + rows({STAR!r}, {{}}, 'anchor', 3)))"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    digests = set()
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        digests.add(out.stdout.strip())
    assert digests == {dataset_digest(rows(STAR, {"degree": 4}, "train", 30) + rows(STAR, {}, "anchor", 3))}


# --- scoring


def test_every_score_has_a_fresh_environment():
    before = Parity.made
    said = {score("test/Parity-v0", {}, 3, "train", "yes")["feedback"] for _ in range(3)}
    assert said == {"answer number 1 of this environment"} and Parity.made == before + 3


def test_scoring_in_threads_leaves_the_global_rng_alone():
    data = rows(STAR, {}, "train", 16)
    random.seed(5)
    expected = random.random()
    random.seed(5)
    found = {}

    def play(row):
        gold = row["reward_model"]["ground_truth"]
        found[row["extra_info"]["index"]] = compute_score("", gold, gold, row["extra_info"])["score"]

    threads = [threading.Thread(target=play, args=(row,)) for row in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(16), 1.0)
    assert random.random() == expected


def test_an_environment_that_cannot_be_made_raises(no_pauses):
    with pytest.raises(EnvironmentFault, match="the server is down"):
        score("test/Foreign-v0", {"broken": True}, 0, "train", "1")
    with pytest.raises(TypeError):
        score("test/Parity-v0", {"no_such_argument": 1}, 0, "train", "yes")


def test_multi_turn_environment_is_refused():
    with pytest.raises(ValueError, match="not single-turn"):
        score("test/Foreign-v0", {"turns": 2}, 0, "train", "1")


def test_an_instance_other_than_the_rows_raises():
    row = rows(STAR, {}, "train", 1)[0]
    changed = {**row["extra_info"], "env_kwargs": {"degree": 3}}
    with pytest.raises(EnvironmentFault, match=row["extra_info"]["task_id"]):
        compute_score("x", "x", "", changed)


def test_compute_score_names_missing_keys_and_reads_json_kwargs():
    with pytest.raises(ValueError, match="env_kwargs.*task_id"):
        compute_score("x", "x", "", {"env_id": STAR, "index": 0, "split": "train"})
    row = rows(STAR, {"degree": 3}, "train", 1)[0]
    extra = {**row["extra_info"], "env_kwargs": json.dumps(row["extra_info"]["env_kwargs"])}
    assert compute_score("x", row["reward_model"]["ground_truth"], "", extra)["score"] == 1.0


# --- imports, example


def test_importing_the_package_imports_no_environment():
    code = "import sys, fst_envs; print([m for m in sys.modules if m.startswith('fst_envs.') or m in BANNED])"
    code = "BANNED = {'torch', 'ray', 'verl', 'vllm', 'reasoning_gym', 'transformers'}; " + code
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    loaded = set(json.loads(out.stdout.replace("'", '"')))
    assert loaded == {
        f"fst_envs.{name}" for name in ("answers", "base", "contract", "make", "names", "spaces", "wrappers")
    }


def test_own_environment_example_runs():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "examples"), *(p for p in sys.path if p)])}
    script = str(ROOT / "examples" / "own_environment.py")
    out = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=True).stdout
    assert "reward 0.0, feedback 'The answer must" in out and "reward 1.0, feedback 'Correct.'" in out


@pytest.mark.parametrize(
    ("env_id", "environments", "fine"),
    [
        (STAR, None, True),
        (STAR, {"id": STAR, "kwargs": {"degree": 4}}, True),
        (STAR, {"tasks": [{"id": "other"}, {"id": STAR, "kwargs": {"degree": 4}}]}, True),
        (STAR, {"id": STAR, "kwargs": {"degree": 5}}, False),
        (STAR, {"id": "fst_envs:fst/HouseRules-v0", "kwargs": {"degree": 4}}, False),
        ("no_such_module:x/Y-v0", None, False),
        ("fst_envs:fst/OpenEnv-v0", None, False),
        ("fst_envs:fst/NoSuch-v0", None, False),
    ],
)
def test_a_rows_environment_is_made_only_if_the_config_names_it(env_id, environments, fine):
    (row,) = rows(STAR, {"degree": 4}, "train", 1)
    extra = {**row["extra_info"], "env_id": env_id}
    score_it = lambda: compute_score("", row["reward_model"]["ground_truth"], "", extra, environments=environments)  # noqa: E731
    if fine:
        assert score_it()["score"] == 1.0
    else:
        with pytest.raises(ValueError, match="a row of the data names the environment"):
            score_it()
