"""A multi-turn environment: what a hint says, and what a right answer after it is worth."""

import warnings

import pytest
from fst_envs import make
from fst_envs.house import language as lang
from fst_envs.house.second_try import SecondTry
from gymnasium.utils.env_checker import check_env
from tiny_policy import dialect

ID = "fst_envs:fst/SecondTry-v0"


def follow(hint):
    """A player that knows nothing: it does what the hint's rule sentence says."""
    for word in lang.WORDS:
        for value in lang.VALUES["codes"]:
            if lang.rule("codes", value, word) in hint:
                return lang.answer(word, value)
    return "no idea"


def play(env, index, player, split="train"):
    observation, info = env.reset(options={"index": index, "split": split})
    rewards, done = [], False
    while not done:
        observation, reward, done, truncated, said = env.step(player(observation))
        assert not truncated
        rewards.append((reward, said["feedback"]))
    return rewards, info


def test_it_keeps_gymnasiums_contract():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(ID).unwrapped, skip_render_check=True)


def test_knowing_the_answer_beats_following_the_hint_beats_guessing():
    env = make(ID, book=3)
    for index in range(24):
        gold = env.reset(options={"index": index, "split": "train"})[1]["answer"]
        assert play(env, index, lambda _, gold=gold: gold)[0] == [(1.0, "Correct.")]
        (first, hint), (second, said) = play(env, index, follow)[0]
        assert (first, second, said) == (0.0, 0.5, "Correct.") and follow(hint) == gold
        assert [reward for reward, _ in play(env, index, lambda _: "no idea")[0]] == [0.0, 0.0]


def test_a_hint_is_the_rule_and_the_request_again_in_words_the_tiny_policy_knows():
    env = make(ID)
    vocabulary = set(dialect.vocabulary())
    for index in range(12):
        question, _ = env.reset(options={"index": index})
        observation, _, done, _, info = env.step("no idea")
        assert not done and observation == f"{info['feedback']}\n{question}"
        assert set(lang.tokenize(observation)) <= vocabulary


def test_tries_and_their_worth_are_settings():
    assert len(play(make(ID, tries=4), 0, lambda _: "no")[0]) == 4
    assert play(make(ID, tries=1), 0, lambda _: "no")[0][-1][0] == 0.0
    assert play(make(ID, later=1.0), 0, follow)[0][-1][0] == 1.0
    with pytest.raises(ValueError, match="tries=0"):
        SecondTry(tries=0)
    with pytest.raises(ValueError, match="later=2"):
        SecondTry(later=2)


def test_no_state_is_carried_into_the_next_episode():
    env = make(ID)
    env.reset(options={"index": 0})
    env.step("no idea")
    assert play(env, 0, follow) == play(make(ID), 0, follow)
