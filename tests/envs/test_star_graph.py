"""StarGraph: its graphs, its hidden answer format, and what its feedback reveals in which order."""

from __future__ import annotations

import re

import fst_envs
import pytest

STAR = "fst_envs:fst/StarGraph-v0"


def played(env, answer, index=0):
    env.reset(options={"index": index})
    _, reward, terminated, truncated, info = env.step(answer)
    assert terminated and not truncated
    return reward, info["feedback"]


def parsed(question):
    edges = [(int(a), int(b)) for a, b in re.findall(r"^(\d+) -> (\d+)$", question, re.MULTILINE)]
    start, goal = map(int, re.search(r"from (\d+) to (\d+)\.$", question).groups())
    return edges, start, goal


@pytest.mark.parametrize(("degree", "path_length", "max_node"), [(1, 1, 1), (5, 5, 49), (10, 3, 30)])
def test_question_is_a_star_whose_one_path_is_the_answer(degree, path_length, max_node):
    env = fst_envs.make(STAR, degree=degree, path_length=path_length, max_node=max_node)
    for index in range(20):
        question, info = env.reset(options={"index": index})
        edges, start, goal = parsed(question)
        assert len(edges) == degree * path_length
        assert sum(a == start for a, _ in edges) == degree
        labels = {n for edge in edges for n in edge}
        assert len(labels) == degree * path_length + 1 and max(labels) <= max_node
        came_from = {b: a for a, b in edges}
        path = [goal]
        while path[0] != start:
            path.insert(0, came_from[path[0]])
        assert len(path) == path_length + 1
        assert info["answer"] == f"<path>{','.join(map(str, path))}</path>"
        assert env.step(f"Working backwards: ...\n{info['answer']}")[1] == 1.0


def test_question_does_not_state_the_format():
    question, info = fst_envs.make(STAR).reset(seed=0)
    assert "<" not in question and "," not in question and info["answer"] not in question


def test_feedback_names_format_before_walk():
    env = fst_envs.make(STAR)
    question, info = env.reset(options={"index": 0})
    edges, start, goal = parsed(question)
    path = [int(n) for n in re.findall(r"\d+", info["answer"])]
    other = next(b for a, b in edges if a == start and b != path[1])
    missing = next(n for n in {n for e in edges for n in e} if (path[2], n) not in edges)
    write = env.unwrapped.write
    expected = {
        " -> ".join(map(str, path)): "The path must stand between <path> and </path>.",
        f"<path>{path}</path>": "Between <path> and </path> there must be nothing but the numbers",
        "<path>" + " -> ".join(map(str, path)) + "</path>": "Between <path> and </path> there must be nothing but",
        "<path></path>": "Between <path> and </path> there must be nothing but",
        "<path>٣,٤</path>": "Between <path> and </path> there must be nothing but",
        write(path[1:]): f"The path must begin at the start {start}, but it begins at {path[1]}.",
        write([*path[:3], missing, *path[4:]]): f"The path goes from {path[2]} to {missing}, but",
        write([start, other]): f"The path must end at the goal {goal}, but it ends at {other}",
        write([*path, path[-2]]): f"The path goes from {path[-1]} to {path[-2]}, but",
        write(path[:-1]): f"The path must end at the goal {goal}",
    }
    for answer, feedback in expected.items():
        reward, said = played(env, answer)
        assert reward == 0.0 and said.startswith(feedback), (answer, said)
        assert ",".join(map(str, path)) not in said


def test_feedback_on_a_walk_down_another_arm_names_its_first_wrong_edge():
    env = fst_envs.make(STAR)
    question, info = env.reset(options={"index": 0})
    edges, start, _ = parsed(question)
    path = [int(n) for n in re.findall(r"\d+", info["answer"])]
    follows = {a: b for a, b in edges if a != start}
    for first in [b for a, b in edges if a == start and b != path[1]]:
        walk = [start, first]
        while walk[-1] in follows:
            walk.append(follows[walk[-1]])
        assert played(env, env.unwrapped.write(walk))[1].endswith(f"The first wrong edge is {start} -> {first}.")
    assert "wrong edge" not in played(env, env.unwrapped.write(path[:-1]))[1]


def test_spaces_around_numbers_and_the_last_path_count():
    env = fst_envs.make(STAR)
    path = env.reset(options={"index": 0})[1]["answer"]
    assert played(env, path.replace(",", " , "))[0] == 1.0
    assert played(env, "<path>1,2</path> no: " + path)[0] == 1.0
    assert played(env, path + " or <path>1,2</path>")[0] == 0.0


@pytest.mark.parametrize(
    "kwargs", [{"degree": 0}, {"path_length": 0}, {"max_node": 24}, {"max_node": 10**9}, {"split": "x"}, {"size": 0}]
)
def test_impossible_settings_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        fst_envs.make(STAR, **kwargs)
