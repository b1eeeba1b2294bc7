"""`fst prompts`: what became of every prompt, and by what evidence."""

import re

import pytest
from cycles import fast_weights
from rule_world import World, make_problems
from typer.testing import CliRunner

from fst_plugin.analysis import prompts
from fst_plugin.cli import app
from fst_plugin.optimizer import Candidate, Evidence
from fst_plugin.prompts import Prompt, Score
from fst_plugin.record.cycles import PromptRow, read_record

NEW = Prompt("new", ("0123456789abcdef",), "reflection", 1, {"p": Score(1.0), "q": Score(0.0), "r": Score(1.0)})


def test_a_score_stands_with_its_standard_error_and_its_problems():
    assert prompts.score(NEW) == "0.667 ± 0.333 on 3"  # stdev 0.577 over the root of 3
    assert prompts.score(Prompt("x", scores={"p": Score(0.5)})) == "0.500 on 1", "one problem has no spread"
    assert prompts.score(Prompt("x")) == ""


def test_the_evidence_is_told_as_it_was_gathered():
    lead = Evidence(NEW.digest, "fedcba9876543210", 24, 0.28, 0.171, True)
    row = PromptRow(1, NEW, "leads", 0, None, Candidate(NEW, "leads", 0.25, (), 4, 0.125), lead)
    assert prompts.facts(row) == [
        "test +0.250 ± 0.125 on 4",
        "score 0.667 ± 0.333 on 3",
        "held out +0.280 ± 0.171 on 24, against fedcba98: leads",
    ]
    lost = Evidence("fedcba9876543210", NEW.digest, 24, 0.28, float("inf"), False)
    assert prompts.facts(PromptRow(1, NEW, "leads", 0, 0, None, lost))[1:] == [
        "held out -0.280 on 24, against fedcba98: leads"
    ]


@pytest.mark.parametrize("verdict, words", [("refused", "a problem's own answer"), ("dropped", "no score")])
def test_a_prompt_without_a_score_says_why(verdict, words):
    assert words in prompts.facts(PromptRow(0, Prompt("x"), verdict))[0]


def test_a_change_of_rank_is_shown():
    shown = [prompts._rank(PromptRow(0, NEW, "", rank, was)) for rank, was in [(2, 2), (0, 2), (None, 1), (1, None)]]
    assert shown == ["2", "2>0", "1>-", "1"]


@pytest.fixture
def run(tmp_path):
    weights, _ = fast_weights(tmp_path / "checkpoints" / "fst")
    for cycle in range(2):
        weights.evolve(1 + 3 * cycle, f"w{cycle}", make_problems(48, cycle), World(reliability=0.8))
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_cuts_nothing_at_any_width(run, columns):
    out = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["prompts", str(run), "--all"])
    assert out.exit_code == 0 and "…" not in out.output
    assert max(map(len, out.output.splitlines())) <= columns
    rows, squeezed = read_record(run).rows(), re.sub(r"\s+", "", out.output)
    verdicts = "leads|carried|scored|outranked|rejected|dropped|refused"
    listed = re.findall(rf"^\d+ .*?\b([0-9a-f]{{16}})\b.*?\b({verdicts})\b", out.output, re.M)
    assert listed == [(row.prompt.digest, row.verdict) for row in rows]
    scored = {prompts.score(row.prompt) for row in rows if row.verdict in ("scored", "dropped")}
    assert scored and all(re.sub(r"\s+", "", score) in squeezed for score in scored)


def test_a_very_long_last_line_is_shown_in_part_and_counted():
    assert prompts._last_line(Prompt("first\n" + "x" * 1000 + "\n\n")) == "x" * 200 + " (and 800 more characters)"
    assert prompts._last_line(Prompt("a\x1b[2J")) == "a\\x1b[2J"


def test_the_archive_is_listed_with_what_each_prompt_held(run):
    kept = read_record(run).state.archive.entries
    out = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["prompts", str(run), "--archive"])
    assert out.exit_code == 0 and kept
    for entry in kept:
        (line,) = [line for line in out.output.splitlines() if entry.prompt.digest in line]
        assert line.split()[0] == str(entry.retired) and (prompts.score(entry.prompt) or "nothing known") in line
