"""Problem ids and texts of rows that hold more than text."""

import subprocess
import sys

import pytest

from fst_plugin.reflection import render_record
from fst_plugin.rollouts import Problem, Rollout, content_text, feedback_text, merged, problem_id, scored


class Picture:
    """As much of a PIL image as is used."""

    mode = "RGB"

    def __init__(self, data, size=(640, 480)):
        self.data, self.size = data, size

    def tobytes(self):
        return self.data


def chat(thing):
    return [{"role": "user", "content": [{"type": "image", "image": thing}, {"type": "text", "text": "What is it?"}]}]


def test_an_id_is_made_from_values_and_not_from_addresses():
    assert problem_id(chat(Picture(b"a"))) == problem_id(chat(Picture(b"a")))
    different = [Picture(b"a"), Picture(b"b"), Picture(b"a", (480, 640)), b"a", b"b", {1, 2}, None]
    assert len({problem_id(chat(thing)) for thing in different}) == len(different)


def test_arrays_count_by_what_they_hold():
    numpy = pytest.importorskip("numpy")
    one, same, other = (problem_id(chat(numpy.array(v))) for v in ([1, 2], [1, 2], [1, 3]))
    assert one == same != other
    assert problem_id([], numpy.int64(4)) == problem_id([], 4)


def test_the_same_row_has_the_same_id_in_another_process():
    code = "from fst_plugin.rollouts import problem_id; print(problem_id([{'role': 'user', 'content': b'x'}], 4))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == problem_id([{"role": "user", "content": b"x"}], 4)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (chat(Picture(b"a"))[0]["content"], "[image 640×480]\nWhat is it?"),
        ([{"type": "video", "video": b"raw"}, "then"], "[video]\nthen"),
        (b"raw bytes", "[bytes]"),
    ],
)
def test_a_reflection_sees_what_stands_there_and_no_raw_bytes(content, text):
    assert content_text(content) == text
    problem = Problem("p", ({"role": "user", "content": content},))
    assert render_record(problem, Rollout(0.0))["Inputs"] == f"user: {text}"


def test_an_id_covers_the_whole_row():
    chat = [{"role": "user", "content": "q"}]
    persona = [{"role": "system", "content": "be a pirate"}, *chat]
    ids = [problem_id(chat), problem_id(persona), problem_id(chat, tools={"calc": {}}), problem_id(chat, "4")]
    assert len(set(ids)) == 4 and problem_id(chat, tools=None) == ids[0]


def test_of_equally_bad_rollouts_the_one_with_feedback_of_its_own_speaks():
    made, own = Rollout(0.0, "a", "The answer got 0.", feedback_made=True), Rollout(0.0, "b", "Be brief.")
    assert merged([made, own, Rollout(1.0)]).feedback == "Be brief."
    assert merged([made, Rollout(1.0)]).feedback_made


def test_an_answer_that_nothing_was_said_of_gets_feedback_from_its_score_marked_as_made():
    found = scored(0.5, "B4", tokens=3)
    assert found == Rollout(0.5, "B4", "The answer got a reward of 0.5.", tokens=3, feedback_made=True)
    quoting = scored(0.0, "B4", reference=7)
    assert quoting.feedback == "The answer got a reward of 0. The reference answer is: 7" and quoting.feedback_made
    assert scored(0.0, "B4", reference="") == scored(0.0, "B4", reference=None) == scored(0.0, "B4")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (" Be brief. ", "Be brief."),
        (b"Be brief.", "Be brief."),
        (["Be", "", "brief."], "Be\nbrief."),
        ({"length": "too long"}, "length: too long"),
        (7, "7"),
    ],
)
def test_whatever_is_said_of_an_answer_is_read_as_text(given, text):
    assert feedback_text(given) == text


def test_feedback_that_was_given_stays_and_quotes_no_answer():
    assert scored(1.0, "B4", "Right.", reference=7) == Rollout(1.0, "B4", "Right.")
    assert scored(1.0, "B4", "Right.", made=True).feedback_made


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_an_answer_whose_reward_is_not_finite_is_a_failed_rollout(score):
    found = scored(score, "B4", "Right.")
    assert found == Rollout(0.0, error=f"the reward is {score}, not a finite number")
