"""Mathematical and physical answers: how they are read and graded, and that a hostile one neither hangs nor runs."""

from __future__ import annotations

import threading
import time

import gymnasium as gym
import pytest
from fst_envs import EnvironmentFault
from fst_envs.episodes.child import ChildDied
from fst_envs.files import math_answers
from fst_envs.files.math_answers import Grade, extract, grade, grade_quantity, read_quantity


@pytest.fixture
def library():
    pytest.importorskip("math_verify")
    pytest.importorskip("pint")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<answer>1</answer> then \boxed{2} and 3", "1"),
        (r"so \boxed{\frac{1}{\sqrt{2}}} done", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} no \boxed{2}", "2"),
        ("It is\n\n  42  \n\n", "42"),
        (" \n ", None),
    ],
)
def test_where_an_answer_stands(text, answer):
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"),
        ("1,000", "1000"),
        ("x^2+1", "1+x^2"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("5", "x = 5"),
        (r"$-\frac{2}{3}$", "-2/3"),
        ("1/2", r"\int_0^1 x \, dx"),
        (r"\text{Saturday}", "Saturday"),
    ],
)
def test_equal_values_in_other_forms_are_correct(gold, answer, library):
    text = rf"so \boxed{{{answer}}}"
    assert extract(text) == answer and grade(text, gold) == Grade(True, "Correct.")


@pytest.mark.parametrize(
    ("gold", "text", "said"),
    [
        ("5", r"\boxed{6}", "read as '6'; the correct one is '5'."),
        ("5", r"\boxed{x+1}", "A form mismatch: expected a number, got an expression with unknowns."),
        ("5", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", "expected a number, got a matrix"),
        ("5", r"\boxed{\{1,2\}}", "expected a number, got a set"),
        ("5", "", "No answer was found"),
        ("5", r"\boxed{" + "1+" * 1000 + "1}", "at most 1000 characters"),
    ],
)
def test_feedback_says_what_is_wrong(gold, text, said, library):
    graded = grade(text, gold)
    assert not graded.correct and said in graded.feedback


def test_a_hostile_expression_is_killed_and_scores_zero_in_any_thread(library, monkeypatch):
    monkeypatch.setattr(math_answers, "TIMEOUT", 2.0)
    grades = {}

    def judge(text):
        grades[text] = grade(rf"\boxed{{{text}}}", "5")

    hostile = ["9^{9^{9^{9}}}", "10!!!!!!"]
    threads = [threading.Thread(target=judge, args=(text,)) for text in hostile]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 60
    for text in hostile:
        assert not grades[text].correct and "too much time or memory" in grades[text].feedback
    monkeypatch.setattr(math_answers, "TIMEOUT", 20.0)
    assert grade("5", "5").correct  # the pool is whole


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path({path!r}).touch()",
        "\\text{{__import__('pathlib').Path({path!r}).touch()}}",
        "\\operatorname{{open}}({path!r}, 'w')",
        "open({path!r}, 'w')",
        "Symbol('x', open({path!r}, 'w'))",
        "\\variable{{open({path!r}, 'w')}}",
    ],
)
def test_nothing_is_executed(text, tmp_path, library):
    target = tmp_path / "executed"
    written = text.format(path=str(target))
    assert not grade(rf"<answer>{written}</answer>", "5").correct
    assert not grade_quantity(f"<answer>5 {written}</answer>", 5.0, "m", 0.1).correct
    assert not target.exists()


def test_an_answer_that_kills_its_process_scores_zero_but_a_broken_process_is_a_fault(monkeypatch, library):
    def dies(of):
        def ask(self, request, timeout):
            if of(request):
                raise ChildDied("gone")
            return {"value": 1.0}

        monkeypatch.setattr(math_answers.Child, "ask", ask)

    dies(lambda request: request["op"] == "same")
    graded = grade("6", "5")
    assert not graded.correct and "too much time or memory" in graded.feedback
    dies(lambda request: True)
    with pytest.raises(EnvironmentFault, match="died twice"):
        grade("6", "5")


def test_a_gold_answer_that_cannot_be_read_is_a_fault(library):
    with pytest.raises(EnvironmentFault, match="gold"):
        grade("5", "")
    with pytest.raises(EnvironmentFault, match="gold unit 'blorps'"):
        grade_quantity("5 m", 5.0, "blorps", 0.1)


def test_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(math_answers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"pip install 'fst-plugin\[math\]'"):
        math_answers.require_library()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r"3.0 \times 10^{8} m/s", (3e8, "m/s")),
        ("-1,234.5 J", (-1234.5, "J")),
        ("v = 2.5E-3 kg.", (2.5e-3, "kg")),
        ("$4.8$ km", (4.8, "km")),
        ("10^5 m", (1e5, "m")),
        ("1/2", (0.5, "")),
        ("3×10^-4", (3e-4, "")),
        ("−5 m", (-5.0, "m")),
        (".5", (0.5, "")),
        ("no number", None),
        ("9" * 400, None),
        ("", None),
    ],
)
def test_numbers_and_units_are_read(text, read):
    found = read_quantity(text)
    assert found == read if read is None else (pytest.approx(read[0]), read[1]) == found


@pytest.mark.parametrize(
    ("text", "gold", "unit"),
    [
        ("4.8 m", 4.8, " m"),
        ("4.8", 4.8, "m"),
        ("480 cm", 4.8, "m"),
        (r"\boxed{83.8 \mathrm{~m} / \mathrm{s}^2}", 83.81, r" $\mathrm{m} / \mathrm{s}^2$"),
        (r"\boxed{2.0 \times 10^8\ \mathrm{J}}", 2.0, " $10^8$ J"),
        (r"12^\circ", 12.0, r" $^{\circ}$"),
        (r"0.209 rad", 12.0, r" $^{\circ}$"),
        (r"\boxed{5\ \mu\mathrm{C}}", 5e-6, "C"),
        ("0.97", 0.97, " "),
        ("3 kg m^{-3}", 0.003, "g/cm^3"),
    ],
)
def test_quantities_in_other_units_are_correct(text, gold, unit, library):
    assert grade_quantity(text, gold, unit, 0.05).correct


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4.8 s", "A unit mismatch: 's' does not measure the same as 'm'."),
        ("4.8 blorps", "A unit mismatch: 'blorps' cannot be read"),
        ("4.8 km", "off by a factor of 10^3"),
        ("-4.8 m", "The sign is wrong."),
        ("9.6 m", "2 times the correct value"),
        ("far", "no number"),
        ("", "No answer was found"),
    ],
)
def test_feedback_says_what_is_wrong_with_a_quantity(text, said, library):
    graded = grade_quantity(text, 4.8, "m", 0.05)
    assert not graded.correct and said in graded.feedback
