"""The OpenEnv adapter on the real library: in this process, and over a real server that is then killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import adapter_contract as contract
import fst_envs
import pytest
from fst_envs import EnvironmentFault
from fst_envs.adapters import openenv

pytest.importorskip("openenv.core")

OE = "fst_envs:fst/OpenEnv-v0"
HERE = {"target": "openenv_guess:GuessEnvironment", "action_type": "openenv_guess:Guess"}
GUESSES = ["0", "5", "9"]


@pytest.fixture(scope="module")
def server():
    """(url, process) of a running server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("openenv_guess.py")), str(port)])
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1)
            break
        except OSError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.2)
    yield url, process
    process.kill()
    process.wait()


def test_contract_in_this_process():
    contract.keeps_to_the_contract(OE, HERE, GUESSES)
    contract.passes_gymnasiums_check(OE, **HERE)


def test_an_instance_is_the_same_in_every_process(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    contract.is_the_same_in_every_process(OE, HERE, GUESSES)


def test_contract_over_a_server(server):
    contract.keeps_to_the_contract(OE, {"url": server[0]}, GUESSES)
    contract.passes_gymnasiums_check(OE, url=server[0])


def test_a_server_plays_what_this_process_plays(server):
    turns = []
    for kwargs in (HERE, {"url": server[0]}):
        env = fst_envs.make(OE, **kwargs)
        turns.append([turn[:4] + (turn[4]["feedback"],) for turn in contract.play(env, GUESSES, index=3, split="val")])
        env.close()
    assert turns[0] == turns[1] and turns[0][-1][2]


def test_config_and_the_environments_own_feedback():
    turns = contract.play(fst_envs.make(OE, **HERE, config={"tries": 1}), ["0"], index=1)
    assert turns[-1][2] and turns[-1][4]["feedback"].startswith("It was ")


@pytest.mark.parametrize("over", ["process", "server"])
def test_a_text_that_it_chokes_on_is_not_a_fault(over, server):
    env = fst_envs.make(OE, **(HERE if over == "process" else {"url": server[0]}))
    for text in ("", "seven", "π\x00\ud800" if over == "process" else "π\x00"):
        turn = contract.play(env, [text])[-1]
        assert turn[1] == 0.0 and turn[2] and "could not be checked" in turn[4]["feedback"] and turn[4]["error"]
    assert contract.play(env, GUESSES)[-1][2]
    env.close()


def test_the_texts_of_models_reach_a_server_whole(server):
    env = fst_envs.make(OE, url=server[0])
    contract.survives(env, ("", "banana", "\ud800", "[" * 100_000, "__import__('os')._exit(1)"))
    env.close()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "give either url"),
        ({"url": "http://127.0.0.1:1", **HERE}, "give either url"),
        ({"target": HERE["target"]}, "give either url"),
        ({**HERE, "action": "words"}, "not a field of the action: .*message"),
    ],
)
def test_arguments_that_clash_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fst_envs.make(OE, **kwargs).reset(options={"index": 0})


def test_an_unknown_observation_field_is_named():
    with pytest.raises(EnvironmentFault, match="'words' is not a field of the observation: .*text"):
        fst_envs.make(OE, **HERE, observation="words").reset(options={"index": 0})


def test_no_server_is_a_fault():
    with pytest.raises(OSError):
        fst_envs.make(OE, url="http://127.0.0.1:1").reset(options={"index": 0})


def test_a_server_that_is_late_is_a_fault(server, monkeypatch):
    monkeypatch.setattr(openenv, "TIMEOUT", 1.0)
    env = fst_envs.make(OE, url=server[0])
    env.reset(options={"index": 0})
    with pytest.raises(EnvironmentFault, match="OpenEnv lost http"):
        env.step("sleep")
    env.close()
    assert contract.play(fst_envs.make(OE, url=server[0]), GUESSES)[-1][2]  # for this episode alone


def test_a_server_that_is_full_is_a_fault(server):
    envs = [fst_envs.make(OE, url=server[0]) for _ in range(9)]
    try:
        with pytest.raises(EnvironmentFault, match="could not reset http"):
            for env in envs:
                env.reset(options={"index": 0})
    finally:
        for env in envs:
            env.close()


def test_a_server_that_dies_amid_an_episode_is_a_fault(server):
    env = fst_envs.make(OE, url=server[0])
    env.reset(options={"index": 0})
    server[1].kill()
    server[1].wait()
    with pytest.raises(EnvironmentFault, match="OpenEnv lost http"):
        for text in GUESSES:
            env.step(text)
    env.close()
