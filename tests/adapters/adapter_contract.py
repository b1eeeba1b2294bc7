"""The contract that every adapter keeps, checked on the real library."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import warnings

import fst_envs
import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

ONE = (
    "import json, sys, fst_envs; from fst_envs.make import make; "
    "env = make(sys.argv[1], **json.loads(sys.argv[2])); said = [env.reset(options={'index': 5, 'split': 'val'})[0]];\n"
    "for text in json.loads(sys.argv[3]):\n"
    "    turn = env.step(text); said.append([turn[0], turn[1], turn[2], turn[4]['feedback']])\n"
    "    if turn[2]: break\n"
    "print('\\n' + json.dumps(said))"
)


def play(env, texts, index=0, split="train"):
    """The turns of an episode, each (observation, reward, terminated, truncated, info)."""
    env.reset(options={"index": index, "split": split})
    turns = []
    for text in texts:
        turns.append(env.step(text))
        if turns[-1][2] or turns[-1][3]:
            break
    return turns


def passes_gymnasiums_check(env_id, **kwargs):
    """Gymnasium's check_env passes on the environment itself, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of the libraries themselves
        check_env(gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped)


def is_the_same_in_every_process(env_id, kwargs, texts):
    """An instance and its turns depend on (split, index) alone, not on the process or its hash seed."""
    said = []
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ONE, env_id, json.dumps(kwargs), json.dumps(texts)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert ran.returncode == 0, ran.stderr
        said.append(json.loads(ran.stdout.splitlines()[-1]))
    assert said[0] == said[1] and len(said[0]) > 1


def keeps_to_the_contract(env_id, kwargs, texts):
    """Feedback and task ids at every turn, global generators untouched, episodes that interleave do not mix."""
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    env, other = fst_envs.make(env_id, **kwargs), fst_envs.make(env_id, **kwargs)
    alone = play(env, texts)
    assert (random.random(), np.random.random()) == expected
    for observation, reward, _, truncated, info in alone:
        assert isinstance(observation, str) and isinstance(reward, float) and not truncated
        assert info["feedback"] and info["error"] is None and len(info["task_id"]) == 16
    env.reset(options={"index": 0})
    other.reset(options={"index": 7})
    for text, turn in zip(texts, alone, strict=False):
        assert env.step(text)[:3] == turn[:3]
        if not turn[2]:
            other.step(texts[0]) if other.unwrapped.task_id else other.reset(options={"index": 8})
    env.close()
    other.close()


def survives(env, texts=("", "banana", "\\boxed{}", "π\x00\ud800" * 50, "[" * 5000, "{}", "__import__('os')._exit(1)")):
    """No text of a model raises; each gets feedback, and none a reward."""
    for text in texts:
        env.reset(options={"index": 1})
        _, reward, _, _, info = env.step(text)
        assert reward <= 0.0 and info["feedback"], text
