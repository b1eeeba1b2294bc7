"""The TextArena adapter on the real library; word games need word lists from the network, so they are not played."""

from __future__ import annotations

import random

import adapter_contract as contract
import fst_envs
import pytest
from fst_envs import EnvironmentFault

pytest.importorskip("textarena")

TA = "fst_envs:fst/TextArena-v0"
HANOI = ["[A C]", "[A B]", "[C B]", "[A C]", "[B A]", "[B C]", "[A C]"]
PLAYED = {
    "GuessTheNumber-v0": ["[10]", "[5]", "[15]"],
    "TowerOfHanoi-v0": HANOI,
    "FrozenLake-v0-random": ["[right]", "[down]"],
    "Minesweeper-v0": ["[0 0]", "[7 7]"],
    "Sudoku-v0": ["[1 1 5]", "[2 2 3]"],
    "LightsOut-v0": ["[1 1]", "[0 2]"],
    "Mastermind-v0": ["[1 2 3 4]", "[4 3 2 1]"],
    "Blackjack-v0": ["[stand]"] * 5,
    "Bandit-v0": ["[red]"] * 3,
    "2048-v0": ["[up]", "[left]"],
    "Sokoban-v0": ["[up]", "[left]"],
    "FifteenPuzzle-v0": ["[up]", "[left]"],
}


@pytest.mark.parametrize("task", PLAYED)
def test_contract(task):
    contract.keeps_to_the_contract(TA, {"task": task}, PLAYED[task])


def test_gymnasiums_check():
    contract.passes_gymnasiums_check(TA, task="GuessTheNumber-v0")
    contract.passes_gymnasiums_check(TA, task="FrozenLake-v0-random")


def test_an_instance_is_the_same_in_every_process():
    contract.is_the_same_in_every_process(TA, {"task": "FrozenLake-v0-random"}, ["[right]", "[down]", "[right]"])


@pytest.mark.parametrize("task", ["GuessTheNumber-v0", "TowerOfHanoi-v0", "Mastermind-v0", "ThreeCardMonte-v0"])
def test_no_text_raises(task):
    contract.survives(fst_envs.make(TA, task=task))


def test_a_won_game_pays_at_its_end_and_says_why():
    turns = contract.play(fst_envs.make(TA, task="TowerOfHanoi-v0"), HANOI)
    assert [turn[1] for turn in turns] == [0.0] * 6 + [1.0] and [turn[2] for turn in turns] == [False] * 6 + [True]
    assert "moved disk" in turns[0][0] and turns[0][4]["feedback"] == turns[0][0]
    assert "solved" in turns[-1][4]["feedback"] and turns[-1][0] == ""


def test_instances_of_different_indices_and_splits_differ():
    env = fst_envs.make(TA, task="FrozenLake-v0-random")
    asked = {
        split: [env.reset(options={"index": i, "split": split})[1]["task_id"] for i in range(20)]
        for split in ("train", "val")
    }
    assert len(set(asked["train"])) > 10 and asked["train"] != asked["val"]


def test_games_that_swap_their_messages_arguments_still_give_feedback():
    env = fst_envs.make(TA, task="Countdown-v0")
    env.reset(options={"index": 0})
    _, _, terminated, _, info = env.step("[0 1 +]")
    assert not terminated and info["error"] is None and "175" in info["feedback"] and "[0 1 +]" not in info["feedback"]
    bet = contract.play(fst_envs.make(TA, task="ThreeCardMonte-v0"), ["nothing"] * 5)[-1]
    assert bet[1] == 0.0 and bet[4]["error"] is None and "Bad action" in bet[4]["feedback"]


def test_config_reaches_the_game():
    question, _ = fst_envs.make(TA, task="TowerOfHanoi-v0", config={"num_disks": 4}).reset(options={"index": 0})
    assert "4 disks" in question


@pytest.mark.parametrize(
    ("task", "message"),
    [("TwentyQuestions-v0", "is refused"), ("GuessTheNumbers-v0", "did you mean .*GuessTheNumber-v0")],
)
def test_what_cannot_be_played_is_refused(task, message):
    with pytest.raises(ValueError, match=message):
        fst_envs.make(TA, task=task)


def test_games_for_several_players_are_refused():
    for task in ("TicTacToe-v0", "SecretMafia-v0"):
        with pytest.raises(ValueError, match="not a game for one player"):
            fst_envs.make(TA, task=task).reset(options={"index": 0})


def test_what_breaks_before_the_first_text_is_a_fault():
    env = fst_envs.make(TA, task="TowerOfHanoi-v0", config={"num_disks": "three"})
    random.seed(1)
    with pytest.raises(EnvironmentFault, match="TowerOfHanoi-v0"):
        env.reset(options={"index": 0})
