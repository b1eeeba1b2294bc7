"""The GEM adapter on the real library; its data-set tasks need a network and are not played here."""

from __future__ import annotations

import re
import subprocess
import sys

import adapter_contract as contract
import fst_envs
import pytest
from fst_envs import EnvironmentFault

pytest.importorskip("gem.envs")

GEM = "fst_envs:fst/Gem-v0"
PLAYED = {
    "game:GuessTheNumber-v0-hard": [r"\boxed{25}", r"\boxed{12}", r"\boxed{37}"],
    "game:GuessTheNumber-v0-random": [r"\boxed{25}", r"\boxed{12}"],
    "game:Mastermind-v0-easy": [r"\boxed{12}", r"\boxed{34}"],
    "game:Minesweeper-v0-easy": [r"\boxed{reveal 2 2}", r"\boxed{reveal 0 4}"],
    "game:FifteenPuzzle-v0-easy": [r"\boxed{up}", r"\boxed{left}"],
    "game:Sudoku-v0-easy": [r"\boxed{1 1 1}", r"\boxed{2 2 3}"],
    "game:TowerofHanoi-v0-easy": [r"\boxed{A C}", r"\boxed{A B}"],
    "game:Game2048-v0-easy": [r"\boxed{up}", r"\boxed{left}", r"\boxed{down}"],
    "game:Sokoban-v0-easy": [r"\boxed{up}", r"\boxed{left}"],
}


@pytest.mark.parametrize("task", PLAYED)
def test_contract(task):
    contract.keeps_to_the_contract(GEM, {"task": task}, PLAYED[task])


def test_gymnasiums_check():
    contract.passes_gymnasiums_check(GEM, task="game:GuessTheNumber-v0-random")
    contract.passes_gymnasiums_check(GEM, task="game:Minesweeper-v0-easy")


def test_an_instance_is_the_same_in_every_process():
    task = "game:GuessTheNumber-v0-random"
    contract.is_the_same_in_every_process(GEM, {"task": task}, PLAYED[task])


@pytest.mark.parametrize("task", ["game:GuessTheNumber-v0-easy", "game:Sudoku-v0-easy", "game:Game2048-v0-easy"])
def test_no_text_raises(task):
    contract.survives(fst_envs.make(GEM, task=task))


def test_a_game_is_won_by_its_hints():
    env = fst_envs.make(GEM, task="game:GuessTheNumber-v0-hard")
    question, _ = env.reset(options={"index": 4, "split": "test"})
    assert "between 1 and 50" in question and question.endswith("Enter your next guess.")
    low, high = 1, 50
    for _ in range(7):
        guess = (low + high) // 2
        observation, reward, terminated, _, info = env.step(rf"\boxed{{{guess}}}")
        if terminated:
            break
        assert reward == 0.0 and info["feedback"] in observation and observation.endswith("Enter your next guess.")
        low, high = (guess + 1, high) if "higher" in re.findall("higher|lower", observation)[-1] else (low, guess - 1)
    assert reward == 1.0 and "Congratulations" in info["feedback"] and observation == ""


def test_the_last_turn_ends_the_episode_by_termination():
    env = fst_envs.make(GEM, task="game:GuessTheNumber-v0-easy", config={"max_turns": 1})
    turns = contract.play(env, [r"\boxed{99}"])
    assert turns[-1][2:4] == (True, False) and "maximum number of turns" in turns[-1][4]["feedback"]


def test_instances_of_different_indices_and_splits_differ():
    env = fst_envs.make(GEM, task="game:Sudoku-v0-easy")
    asked = [{env.reset(options={"index": i, "split": s})[1]["task_id"] for i in range(10)} for s in ("train", "val")]
    assert len(asked[0]) > 5 and asked[0] != asked[1]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("rg:path_star", "fst/ReasoningGym-v0"),
        ("code:CodeContest", "runs the program"),
        ("math:GSM8K", "fst/Polaris-v0"),
        ("eval:MATH500", "is refused"),
        ("game:GuessTheNumber-v0-eazy", "did you mean .*game:GuessTheNumber-v0-easy"),
    ],
)
def test_what_cannot_be_played_is_refused(task, message):
    with pytest.raises(ValueError, match=message):
        fst_envs.make(GEM, task=task)


def test_what_breaks_before_the_first_text_is_a_fault():
    with pytest.raises(EnvironmentFault, match="could not set up game:GuessTheNumber-v0-easy"):
        fst_envs.make(GEM, task="game:GuessTheNumber-v0-easy", config={"min_number": "x"}).reset(options={"index": 0})


def test_the_root_logger_is_left_alone():
    program = (
        "import logging, fst_envs; fst_envs.make('fst_envs:fst/Gem-v0', task='game:Sudoku-v0-easy'); "
        "root = logging.getLogger(); assert not root.handlers and root.level == logging.WARNING, root.handlers"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
