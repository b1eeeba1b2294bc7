"""The texts of scored problems stay with their cycle."""

import pytest

from fst_plugin import Population, Problem, Prompt, Score
from fst_plugin.record.problems import read_problems, text_of, write_problems
from fst_plugin.record.sealed import UnusableFile, digests
from fst_plugin.reflection.base import RECORD_CHARS


def problem(id, *said):
    messages = ({"role": "system", "content": "Be brief."}, *({"role": "user", "content": text} for text in said))
    return Problem(id, messages)


def test_what_the_user_says_is_kept_without_the_system_message():
    assert text_of(problem("p", "first", "second")) == "first\n\nsecond"
    assert len(text_of(problem("p", "x" * 3 * RECORD_CHARS))) <= RECORD_CHARS + 100


@pytest.fixture
def population():
    return Population((Prompt("a", scores={"p": Score(1.0)}), Prompt("b", scores={"q": Score(1.0)})))


def test_problems_without_a_score_are_kept_only_if_slow_steps_come_to_them(tmp_path, population, monkeypatch):
    monkeypatch.setattr("fst_plugin.record.problems.MOST_COMING", 2)
    met, coming = [problem(id, "met") for id in "pqr"], [problem(id, "comes") for id in "stu"]
    write_problems(cycle_of(tmp_path), population, met, coming)
    assert read_problems(tmp_path) == {"p": "met", "q": "met", "s": "comes", "t": "comes"}


def cycle_of(folder):
    (folder / "cycle_0003").mkdir()
    return folder / "cycle_0003"


def test_problems_without_a_score_are_not_kept(tmp_path, population):
    folder = cycle_of(tmp_path)
    parts = write_problems(folder, population, [problem("p", "1"), problem("q", "2"), problem("r", "3")])
    assert parts == digests(folder, ["problems.jsonl"])
    assert read_problems(tmp_path) == {"p": "1", "q": "2"}


def test_a_damaged_file_is_refused_by_name(tmp_path):
    (tmp_path / "cycle_0000").mkdir()
    (tmp_path / "cycle_0000" / "problems.jsonl").write_text('{"id": "p"}\n')
    with pytest.raises(UnusableFile, match="problems.jsonl is damaged.*line 1: text"):
        read_problems(tmp_path)
