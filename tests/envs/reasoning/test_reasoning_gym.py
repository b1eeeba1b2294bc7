"""The reasoning-gym adapter on the real library: a sample of its tasks; all of them with FST_ALL_TASKS=1 (minutes)."""

from __future__ import annotations

import importlib.util
import os
import random
import warnings

import fst_envs
import gymnasium as gym
import numpy as np
import pytest
from fst_envs import EnvironmentFault
from fst_envs.episodes.child import Child, ChildDied
from fst_envs.instances import load_splits, rows
from fst_envs.reasoning import codeio
from fst_envs.reasoning import env as adapter
from fst_envs.score import compute_score, score
from gymnasium.utils.env_checker import check_env

RG = "fst_envs:fst/ReasoningGym-v0"
SAMPLE = (
    "acre arc_1d bitwise_arithmetic chain_sum codeio countdown graph_color gsm_symbolic knights_knaves leg_counting "
    "list_functions maze mini_sudoku n_queens number_sorting path_star pool_matrix polynomial_multiplication "
    "prime_factorization propositional_logic spiral_matrix string_insertion syllogism tower_of_hanoi word_ladder"
).split()
NO_GOLD = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="could not import 'reasoning_gym'"
)


def sampled():
    if importlib.util.find_spec("reasoning_gym") is None:
        return []
    return adapter.tasks() if os.environ.get("FST_ALL_TASKS") else SAMPLE


def test_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"pip install 'fst-plugin\[reasoning-gym\]'"):
        fst_envs.make(RG, task="path_star")


@needs_library
@pytest.mark.parametrize("task", sampled())
def test_task(task):
    env = gym.make(RG, disable_env_checker=True, task=task).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    questions = {}
    for index in (0, 5):
        questions[index], info = env.reset(options={"index": index})
        gold = info["answer"]
        assert (gold is None) == (task in NO_GOLD)
        if gold is not None:
            assert env.step(f"Thus <answer>{gold}</answer>")[1] == 1.0
        for junk in ("<answer>banana</answer>", "<answer>π\x00\ud800</answer>", "no tags", "<answer>[]</answer>"):
            env.reset(options={"index": index})
            _, reward, terminated, _, info = env.step(junk)
            assert reward == 0.0 and terminated and info["feedback"]
    assert env.reset(options={"index": 0})[0] == questions[0]


@needs_library
@pytest.mark.parametrize("task", ["list_functions", "codeio", "pool_matrix"])
def test_items_do_not_depend_on_the_global_generators_nor_change_them(task, monkeypatch):
    def ids(seed):
        random.seed(seed)
        np.random.seed(seed)
        env = fst_envs.make(RG, task=task)
        found = [env.reset(options={"index": i})[1]["task_id"] for i in range(10)]
        return found, random.random(), np.random.random()

    first, second = ids(1), ids(2)
    monkeypatch.setattr(adapter, "_child", Child(adapter._child.module))  # another process
    third = ids(1)
    assert first[0] == second[0] == third[0] and len(set(first[0])) > 5
    random.seed(1)
    np.random.seed(1)
    assert first[1:] == third[1:] == (random.random(), np.random.random())


@needs_library
@pytest.mark.parametrize(
    ("task", "kwargs", "text"),
    [
        ("spiral_matrix", {}, "__import__('pathlib').Path({path!r}).touch()"),
        ("string_insertion", {}, "[open({path!r}, 'w').name]"),
        ("n_queens", {}, "__import__('pathlib').Path({path!r}).touch()"),
        ("binary_matrix", {}, "__import__('pathlib').Path({path!r}).touch()"),
        ("countdown", {}, "__import__('pathlib').Path({path!r}).touch()"),
        ("simple_integration", {}, "open({path!r}, 'w')"),
        ("polynomial_multiplication", {}, "open({path!r}, 'w')"),
        ("number_sorting", {}, "[__import__('pathlib').Path({path!r}).touch()]"),
    ],
)
def test_model_text_is_never_executed(task, kwargs, text, tmp_path):
    target = tmp_path / "executed"
    result = score(RG, {"task": task, **kwargs}, 0, "train", f"<answer>{text.format(path=str(target))}</answer>")
    assert result["score"] == 0.0 and not target.exists()


@needs_library
def test_an_answer_that_takes_forever_to_check_scores_zero(monkeypatch):
    monkeypatch.setattr(adapter, "SCORE_TIMEOUT", 1.0)
    hostile = "<answer>exp(9^(9^9)) + 9**9**9**9</answer>"
    result = score(RG, {"task": "simple_integration"}, 0, "train", hostile)
    assert result["score"] == 0.0 and "to check" in result["feedback"]
    row = rows(RG, {"task": "simple_integration"}, "train", 1)[0]
    gold = row["reward_model"]["ground_truth"]
    assert compute_score("", f"<answer>{gold}</answer>", gold, row["extra_info"])["score"] == 1.0


@needs_library
def test_rewards_are_binary_unless_asked():
    row = rows(RG, {"task": "leg_counting"}, "train", 1)[0]
    padded = f"<answer>the number of legs is {row['reward_model']['ground_truth']}</answer>"
    assert score(RG, {"task": "leg_counting"}, 0, "train", padded)["score"] == 0.0
    assert 0.0 < score(RG, {"task": "leg_counting", "binary": False}, 0, "train", padded)["score"] < 1.0


@needs_library
def test_hint_and_shown_answer_are_switches():
    plain, hinted = (fst_envs.make(RG, task="chain_sum", hint=hint, show_answer=not hint) for hint in (False, True))
    question, info = plain.reset(options={"index": 0})
    assert "<answer>" not in question and hinted.reset(options={"index": 0})[0] == question + adapter.HINT
    assert repr(info["answer"]) in plain.step("<answer>x</answer>")[4]["feedback"]
    assert repr(info["answer"]) not in hinted.step("<answer>x</answer>")[4]["feedback"]


@needs_library
def test_splits_share_no_item_of_a_small_task():
    splits = load_splits(RG, {"task": "tower_of_hanoi"}, {"train": 30, "val": 10})
    ids = {k: {r["extra_info"]["task_id"] for r in v} for k, v in splits.items()}
    assert len(ids["train"]) == 30 and len(ids["val"]) == 10 and not ids["train"] & ids["val"]
    env = fst_envs.make(RG, task="path_star")
    far = [{env.reset(options={"index": i, "split": s})[0] for i in range(100)} for s in ("train", "val")]
    assert not far[0] & far[1]


@needs_library
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "game_of_life_halting"}, "full reward for any answer"),
        ({"task": "composite"}, "one environment per task"),
        ({"task": "puzzle24"}, "any four numbers"),
        ({"task": "path_stars"}, "did you mean path_star"),
        ({"task": "path_star", "config": {"seed": 3}}, "seed"),
        ({"task": "path_star", "config": {"no_such_key": 3}}, "no_such_key"),
        ({"task": "acre", "size": 10**6}, "at most 20000"),
    ],
)
def test_what_cannot_be_played_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        fst_envs.make(RG, **kwargs)


@needs_library
def test_a_dead_process_is_a_fault_and_not_a_reward_of_zero(monkeypatch):
    env = fst_envs.make(RG, task="path_star")
    env.reset(options={"index": 0})

    def dies(request, timeout):
        raise ChildDied("gone")

    monkeypatch.setattr(adapter._child, "ask", dies)
    with pytest.raises(EnvironmentFault, match="died twice"):
        env.step("<answer>1</answer>")


@needs_library
def test_an_answer_that_kills_the_process_scores_zero(monkeypatch):
    env = fst_envs.make(RG, task="path_star")
    env.reset(options={"index": 0})
    ask = adapter._child.ask

    def dies_of_answers(request, timeout):
        if request["op"] == "score":
            raise ChildDied("gone")
        return ask(request, timeout)

    monkeypatch.setattr(adapter._child, "ask", dies_of_answers)
    _, reward, terminated, _, info = env.step("<answer>1</answer>")
    assert reward == 0.0 and terminated and "too much time or memory" in info["feedback"]


@needs_library
def test_codeio_names_the_first_difference():
    env = fst_envs.make(RG, task="codeio", show_answer=False)
    gold = env.reset(options={"index": 0})[1]["answer"]
    assert env.step(f"<answer>```json\n{gold}\n```</answer>")[1] == 1.0
    env.reset(options={"index": 0})
    _, reward, _, _, info = env.step('<answer>{"no such key": 1}</answer>')
    assert reward == 0.0 and ("missing" in info["feedback"] or "xpected" in info["feedback"])


class Snippets:
    """Stands for the codeio dataset: item i runs snippet i."""

    def __init__(self, *snippets):
        self.snippets = snippets

    def __getitem__(self, index):
        scope = {}
        exec(compile(self.snippets[index], "<string>", "exec"), scope)
        value = scope["value"]
        return {"question": "q", "answer": str(value), "metadata": {"input_data": value, "output_data": value}}


@pytest.mark.parametrize(
    "snippet",
    [
        "while True: pass",
        "while True:\n    try:\n        pass\n    except Exception:\n        pass",
        "import os; value = os.urandom(8)",
        "raise SystemExit",
        "value = {}",
    ],
)
def test_no_item_is_built_from_a_snippet_that_cannot_be_repeated(snippet, monkeypatch):
    monkeypatch.setattr(codeio, "SECONDS", 2.0)
    with pytest.raises(codeio.Unbuildable):
        codeio.build(Snippets(snippet), 0, 0)


def test_snippets_leave_no_trace():
    dataset = Snippets(
        "import decimal; decimal.getcontext().prec = 3; value = 1",
        "import decimal; value = decimal.Decimal(1) / 3",
        "import random; value = random.random()",
    )
    expected = codeio.build(dataset, 0, 1)
    codeio.build(dataset, 0, 0)
    assert codeio.build(dataset, 0, 1) == expected and len(expected["answer"]) > 10
    assert codeio.build(dataset, 7, 2) == codeio.build(dataset, 7, 2) != codeio.build(dataset, 8, 2)
