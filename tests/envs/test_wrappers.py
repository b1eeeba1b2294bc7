"""Wrappers: what each does, their specs, their names as plain data, and an environment's own random generators."""

from __future__ import annotations

import json
import random
import time
import warnings

import fst_envs
import gymnasium as gym
import numpy as np
import pytest
from fst_envs import EnvironmentFault, ReasoningEnv, UnicodeText
from fst_envs.instances import rows
from fst_envs.score import compute_score, score
from fst_envs.wrappers import BinaryReward, ExtractAnswer, MaxTurns, OwnRNG, WallClock
from gymnasium.utils.env_checker import check_env

STAR = "fst_envs:fst/StarGraph-v0"
ALL = {
    "step_s": 30,
    "max_turns": 4,
    "extract": ["boxed", "line"],
    "binary": 0.5,
    "own_rng": True,
}


class Echo(ReasoningEnv):
    """Multi-turn: half a point for every text that is the index; "sleep" sleeps, "end" ends."""

    def load(self, index, split):
        self.wanted = str(index)
        return f"say {index}", {}

    def respond(self, text):
        if text == "sleep":
            time.sleep(5)
        return "go on", 0.5 * (text == self.wanted), text == "end", f"you said {text!r}"


class Dice(gym.Env):
    """Draws from the global generators, as some libraries do."""

    observation_space = action_space = UnicodeText()

    def __init__(self, declared=True):
        self.metadata = {"render_modes": [], "global_rng": declared}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"{random.random()} {np.random.random()}", {}

    def step(self, action):
        return f"{random.random()} {np.random.random()}", 0.0, action == "end", False, {}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    for cls in (Echo, Dice):
        gym.register(f"test/{cls.__name__}-v0", entry_point=f"{__name__}:{cls.__name__}")
    yield
    for cls in (Echo, Dice):
        del gym.registry[f"test/{cls.__name__}-v0"]


def echo(**wrap):
    env = fst_envs.make("test/Echo-v0", wrap=wrap)
    env.reset(options={"index": 7})
    return env


def test_extract_passes_on_only_the_answer_and_says_where_it_must_stand():
    env = echo(extract="tag")
    assert env.step("I think <answer> 7 </answer>")[1] == 0.5
    _, reward, terminated, _, info = env.step("7")
    assert (reward, terminated) == (0.0, False)
    assert info["feedback"] == "No answer was found: it must stand between <answer> and </answer>. you said ''"
    both = echo(extract=["boxed", "line"])
    assert both.step("so \\boxed{7}\nbye")[1] == both.step("hm\n7")[1] == 0.5
    with pytest.raises(TypeError, match="str"):
        env.step(7)


def test_rewards_become_binary():
    assert echo(binary=True).step("7")[1] == 0.0
    assert echo(binary=0.5).step("7")[1] == 1.0
    assert echo(binary=False).step("7")[1] == 0.5


def test_an_episode_out_of_turns_is_truncated_with_a_reason():
    env = echo(max_turns=2)
    assert env.step("7")[2:4] == (False, False)
    observation, reward, terminated, truncated, info = env.step("7")
    assert (observation, reward, terminated, truncated, info["stop"]) == ("go on", 0.5, False, True, "max_turns")
    assert info["feedback"] == "you said '7' No turn is left (2 at most)."
    env.reset(options={"index": 7})
    env.step("7")
    assert env.step("end")[2:4] == (True, False)  # the environment itself ended on the last turn


def test_a_slow_step_is_a_fault():
    with pytest.raises(EnvironmentFault, match=r"step_s=0\.1 s"):
        echo(step_s=0.1).step("sleep")
    env = echo(step_s=1)
    assert env.step("7")[1] == 0.5
    assert env.reset(options={"index": 7})[0] == "say 7" and env.step("7")[1] == 0.5


def test_the_time_limit_passes_on_what_a_step_raises():
    env = WallClock(gym.make("test/Echo-v0", disable_env_checker=True), step_s=5)
    with pytest.raises(gym.error.ResetNeeded):
        env.step("7")


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        ({"extracts": "tag"}, "unknown extracts: use some of own_rng, step_s"),
        ({"extract": "xml"}, "extract='xml': use one or several of tag, boxed, line"),
        ({"extract": []}, "use one or several"),
        ({"extract": 3}, r"wrap\['extract'\]=3"),
        ({"max_turns": 0}, "max_turns=0"),
        ({"max_turns": "5"}, "max_turns='5'"),
        ({"step_s": -1}, "step_s=-1"),
        ({"step_s": "long"}, r"wrap\['step_s'\]='long'"),
        ({"binary": "yes"}, "binary='yes'"),
    ],
)
def test_a_bad_wrap_is_refused_and_named(wrap, message):
    with pytest.raises(ValueError, match=message):
        fst_envs.make(STAR, wrap=wrap)


@pytest.mark.parametrize("wrap", [{}, ALL, *({key: value} for key, value in ALL.items())])
@pytest.mark.parametrize("env_id", [STAR, "test/Echo-v0", "test/Dice-v0"])
def test_wrapped_environments_pass_the_strict_check_and_keep_their_spec(env_id, wrap):
    env = fst_envs.make(env_id, wrap=wrap)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")  # on purpose
        check_env(env)
    again = gym.make(env.spec, disable_env_checker=True)
    assert str(again) == str(env) and again.spec == env.spec
    assert (
        gym.envs.registration.EnvSpec.from_json(env.spec.to_json()).additional_wrappers == env.spec.additional_wrappers
    )


def test_wrappers_named_by_data_are_applied_in_order():
    names = [spec.name for spec in fst_envs.make(STAR, wrap=ALL).spec.additional_wrappers]
    order = [OwnRNG, fst_envs.TextEnv, WallClock, MaxTurns, ExtractAnswer, BinaryReward]
    assert names == [cls.__name__ for cls in order]


def test_wrappers_travel_in_a_row():
    kwargs = {"degree": 3, "wrap": {"extract": "line", "max_turns": 1}}
    row = json.loads(json.dumps(rows(STAR, kwargs, "train", 1)[0]))
    gold = row["reward_model"]["ground_truth"]
    assert compute_score("", f"I say\n{gold}\n", gold, row["extra_info"])["score"] == 1.0
    assert compute_score("", f"{gold}\nThat is it.", gold, row["extra_info"])["score"] == 0.0


# --- random generators


def draws(env, index, texts=("a", "b")):
    return [env.reset(options={"index": index})[0], *(env.step(text)[0] for text in texts)]


def test_each_environment_has_its_own_state_of_the_global_generators():
    random.seed(1)
    np.random.seed(1)
    outside = random.getstate(), np.random.get_state()[1].tolist()
    one, other = fst_envs.make("test/Dice-v0"), fst_envs.make("test/Dice-v0")
    first = draws(one, 3)
    random.random()  # draws of the caller or of another episode between two turns do not matter
    np.random.random()
    random.seed(1)
    np.random.seed(1)
    question = one.reset(options={"index": 3})[0]
    draws(other, 4)
    assert [question, one.step("a")[0], one.step("b")[0]] == first != draws(other, 4)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == outside
    assert draws(other, 3) == first and len(set(first)) == 3
    assert other.reset(options={"index": 3, "split": "val"})[0] != first[0]


def test_without_own_rng_an_environment_changes_the_global_generators():
    random.seed(1)
    before = random.getstate()
    env = fst_envs.make("test/Dice-v0", declared=False)
    env.reset(options={"index": 3})
    assert random.getstate() != before
    random.seed(1)
    fst_envs.make("test/Dice-v0", declared=False, wrap={"own_rng": True}).reset(options={"index": 3})
    assert random.getstate() == before


def test_an_environment_that_declares_global_rng_is_the_same_every_time():
    ids = {score("test/Dice-v0", {}, 5, "train", "end")["task_id"] for _ in range(3)}
    assert len(ids) == 1
