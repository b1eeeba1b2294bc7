"""Environments of strangers: what they return is played right, or refused by name with the shape expected."""

from __future__ import annotations

import asyncio
import logging
import math
import warnings

import fst_envs
import gymnasium as gym
import numpy as np
import pytest
from fst_envs import ContractError, EnvironmentFault, ReasoningEnv, UnicodeText, split_seed
from fst_envs import contract as contracts
from fst_envs.episodes.episode import Episode
from fst_envs.instances import rows
from fst_envs.score import score
from gymnasium.utils.env_checker import check_env

STEP = r"must return \(observation: str, reward: float, terminated: bool, truncated: bool, info: dict\)"
RESPOND = r"must return \(observation: str, reward: float, done: bool, feedback: str\)"
RESET = r"must return \(observation: str, info: dict\)"
LOAD = r"must return \(question: str, extra: dict\)"


class Stranger(gym.Env):
    """Plain Gymnasium; `start` and `turn` are what reset and step return."""

    observation_space = action_space = UnicodeText()
    metadata = {"render_modes": []}
    start = ("say yes", {})
    turn = ("", 1.0, True, False, {})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.start

    def step(self, action):
        return self.turn


class Hooks(ReasoningEnv):
    """The two hooks; `loaded` and `said` are what they return."""

    loaded = ("say yes", {})
    said = ("", 1.0, True, "Correct.")

    def load(self, index, split):
        return self.loaded

    def respond(self, text):
        return self.said


class Old(gym.Env):
    """Gym before 0.26, seeded by `seed`."""

    observation_space = action_space = UnicodeText()
    metadata = {"render_modes": []}
    info = {}

    def seed(self, seed=None):
        self.number = seed

    def reset(self):
        return f"say {self.number}"

    def step(self, action):
        return "over", float(action == str(self.number)), True, self.info


class OldDice(Old):
    """Gym before 0.26, drawing from `np_random`."""

    def seed(self, seed=None):
        pass

    def reset(self):
        self.number = self.np_random.integers(10**6)
        return super().reset()


class Async(Stranger):
    async def step(self, action):
        return self.turn


class Generator(Hooks):
    def respond(self, text):
        yield self.said


CLASSES = (Stranger, Hooks, Old, OldDice, Async, Generator)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    for cls in CLASSES:
        gym.register(f"strange/{cls.__name__}-v0", entry_point=f"{__name__}:{cls.__name__}")
    gym.register("strange/Timed-v0", entry_point=f"{__name__}:Stranger", max_episode_steps=3)
    yield
    for name in (*(cls.__name__ for cls in CLASSES), "Timed"):
        del gym.registry[f"strange/{name}-v0"]


@pytest.mark.parametrize("turn", [("", 1.0, True), ("", 1.0, True, False, {"feedback": []})])
def test_rows_are_not_made_from_an_environment_whose_step_cannot_be_played(turn, monkeypatch):
    monkeypatch.setattr(Stranger, "turn", turn)
    with pytest.raises(ContractError, match="strange/Stranger-v0: step"):
        rows("strange/Stranger-v0", {}, "train", 1)


def first_turn(name, text="yes"):
    env = fst_envs.make(f"strange/{name}-v0")
    env.reset(options={"index": 0})
    return env.step(text)


# --- step and respond


@pytest.mark.parametrize("name", ["Stranger", "Timed"])  # a time limit of Gymnasium's stands between
@pytest.mark.parametrize(
    ("turn", "found"),
    [
        (("", 1.0, True), r"3 values \(str, float, bool\)"),
        (("", 1.0, True, False), "4 values"),
        (("", 1.0, True, False, {}, "more"), "6 values"),
        (("", 1.0, {}, True, False), "a dict as terminated, not a bool"),
        (("", 1.0, True, False, None), "None as info, not a dict"),
        (("", "1.0", True, False, {}), "a str as reward, not a float"),
        (("", None, True, False, {}), "None as reward"),
        (("", np.ones(2), True, False, {}), "a ndarray as reward"),
        ((None, 1.0, True, False, {}), "None as observation, not a str"),
        (({"text": "x"}, 1.0, True, False, {}), "a dict as observation"),
        ((b"x", 1.0, True, False, {}), "a bytes as observation"),
        (None, "returned None"),
        (1.0, "returned a float"),
    ],
)
def test_a_step_of_another_shape_is_refused_by_name_and_never_scored(name, turn, found, monkeypatch):
    monkeypatch.setattr(Stranger, "turn", turn)
    with pytest.raises(ContractError, match=f"strange/{name}-v0: step .*{found}.*{STEP}"):
        first_turn(name)
    with pytest.raises(ContractError, match=f"strange/{name}-v0: step"):
        score(f"strange/{name}-v0", {}, 0, "train", "yes")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (("", 1.0, True), "3 values"),
        (("", 1.0, True, False, {}), "5 values"),
        (("", 1.0, "yes", "Correct."), "a str as done"),
        (("", 1.0, True, ["Correct."]), "a list as feedback"),
        (("", 1.0, True, {"said": "Correct."}), "a dict as feedback"),
        (({}, 1.0, True, "Correct."), "a dict as observation"),
        (1.0, "returned a float"),
    ],
)
def test_what_respond_returns_in_another_shape_is_refused_and_never_scored(said, found, monkeypatch):
    monkeypatch.setattr(Hooks, "said", said)
    with pytest.raises(ContractError, match=f"strange/Hooks-v0: respond .*{found}.*{RESPOND}"):
        first_turn("Hooks")


@pytest.mark.parametrize("feedback", [["wrong"], {"why": "wrong"}, 3])
def test_feedback_that_is_not_text_is_refused(feedback, monkeypatch):
    monkeypatch.setattr(Stranger, "turn", ("", 1.0, True, False, {"feedback": feedback}))
    with pytest.raises(ContractError, match=r'strange/Stranger-v0: step returned an? .* as info\["feedback"\].*a str'):
        first_turn("Stranger")


@pytest.mark.parametrize("reward", [math.nan, math.inf, np.float32("nan")])
def test_a_reward_that_is_not_finite_is_a_fault_by_name(reward, monkeypatch):
    monkeypatch.setattr(Stranger, "turn", ("", reward, True, False, {}))
    with pytest.raises(EnvironmentFault, match=r"strange/Stranger-v0: step returned the reward (nan|inf)"):
        first_turn("Stranger")


def test_numbers_and_texts_of_numpy_are_pythons(monkeypatch):
    monkeypatch.setattr(Stranger, "start", (np.str_("say yes"), {"answer": np.int64(3)}))
    for reward in (np.float32(0.5), np.array(0.5), np.array([0.5]), 0.5):
        monkeypatch.setattr(Stranger, "turn", (np.str_("x"), reward, np.bool_(True), np.bool_(False), {}))
        turn = first_turn("Stranger")
        assert turn[:4] == ("x", 0.5, True, False)
        assert [type(part) for part in turn[:4]] == [str, float, bool, bool]
    assert rows("strange/Stranger-v0", {}, "train", 1)[0]["reward_model"]["ground_truth"] == "3"
    monkeypatch.setattr(Hooks, "said", ("", np.int64(1), np.bool_(True), None))
    assert first_turn("Hooks")[1:3] == (1.0, True)


# --- reset and load


@pytest.mark.parametrize(
    ("start", "found"),
    [
        (("say yes", None), "None as info, not a dict"),
        (("say yes",), r"1 value \(str\)"),
        (("say yes", {}, {}), "3 values"),
        (({"text": "say yes"}, {}), "a dict as observation"),
        ({"text": "say yes"}, "returned a dict"),
        (None, "returned None"),
    ],
)
def test_a_reset_of_another_shape_is_refused_by_name(start, found, monkeypatch):
    monkeypatch.setattr(Stranger, "start", start)
    with pytest.raises(ContractError, match=f"strange/Stranger-v0: reset .*{found}.*{RESET}"):
        rows("strange/Stranger-v0", {}, "train", 1)


@pytest.mark.parametrize(
    ("loaded", "found"), [("say yes", "returned a str"), (("say yes",), "1 value "), ((5, {}), "an int as question")]
)
def test_what_load_returns_in_another_shape_is_refused_by_name(loaded, found, monkeypatch):
    monkeypatch.setattr(Hooks, "loaded", loaded)
    with pytest.raises(ContractError, match=f"strange/Hooks-v0: load .*{found}.*{LOAD}"):
        rows("strange/Hooks-v0", {}, "train", 1)


@pytest.mark.parametrize("info", [{"answer": {1, 2}}, {"answer": object()}, {"task_id": 7}])
def test_an_answer_or_task_id_of_another_type_is_refused_by_name(info, monkeypatch):
    monkeypatch.setattr(Stranger, "start", ("say yes", info))
    with pytest.raises(ContractError, match=rf'strange/Stranger-v0: reset.* info\["{next(iter(info))}"\]'):
        rows("strange/Stranger-v0", {}, "train", 1)


# --- the old API, and what is not a plain function


@pytest.mark.parametrize("name", ["Old", "OldDice"])
def test_the_api_before_gym_026_is_adapted_and_logged_once(name, caplog, monkeypatch):
    monkeypatch.setattr(contracts, "_logged", set())
    with caplog.at_level(logging.WARNING):
        env = fst_envs.make(f"strange/{name}-v0")
        asked = [env.reset(options={"index": i, "split": s})[0] for s in ("train", "val") for i in (0, 1, 0)]
        assert asked[0] == asked[2] and asked[3] == asked[5] and len(set(asked)) == 4
        _, reward, terminated, truncated, info = env.step(asked[-1].removeprefix("say "))
        assert (reward, terminated, truncated, info["feedback_made"]) == (1.0, True, False, True)
        fst_envs.make(f"strange/{name}-v0").reset(options={"index": 5})
    said = [record.getMessage() for record in caplog.records if "Gym before 0.26" in record.getMessage()]
    assert [what.partition(",")[0] for what in said] == [
        f"strange/{name}-v0: {what}"
        for what in ("reset takes no seed", "reset returns no info", "step returns four values")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        check_env(contracts.contract_of(env))


def test_the_old_api_is_seeded_by_its_seed_method():
    env = fst_envs.make("strange/Old-v0")
    assert env.reset(options={"index": 7, "split": "val"})[0] == f"say {split_seed('val', 7)}"


def test_an_old_time_limit_is_a_truncation(monkeypatch):
    monkeypatch.setattr(Old, "info", {"TimeLimit.truncated": True})
    assert first_turn("Old")[2:4] == (False, True)


@pytest.mark.parametrize(("name", "kind"), [("Async", "a coroutine"), ("Generator", "a generator")])
def test_async_functions_and_generators_are_refused_by_name(name, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ContractError, match=f"strange/{name}-v0.*returned {kind} .*plain function"):
            first_turn(name)


def test_a_wrong_shape_is_not_tried_again_by_an_episode(monkeypatch):
    monkeypatch.setattr(Stranger, "turn", ("", 1.0, True))

    async def play():
        async with Episode("strange/Stranger-v0", {}) as episode:
            await episode.reset(0)
            try:
                await episode.step("yes")
            except TypeError as e:
                return str(e), episode.attempts, episode.faults

    said, attempts, faults = asyncio.run(play())
    assert "3 values" in said and (attempts, faults) == (1, 0)
