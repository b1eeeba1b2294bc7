"""The cases that reflections are judged on, and how they are judged."""

import pytest
from programs import imported

from fst_plugin.reflection import OfflineReflection
from fst_plugin.reflection.base import ask
from fst_plugin.reflection.policy import PolicyReflection


@pytest.fixture(scope="module")
def benchmark():
    with imported("benchmarks", "reflection") as found:
        yield found["reflection"]


@pytest.fixture(scope="module")
def cases(benchmark):
    return {case.id: case for case in benchmark.read(benchmark.CASES)}


class Says:
    """A reflection with one answer to every request."""

    def __init__(self, answer):
        self.answer = answer

    def propose(self, requests):
        return [self.answer] * len(requests)

    def describe(self):
        return "says one thing"


def test_every_case_can_be_solved_and_is_not_solved_already(benchmark, cases):
    assert len(cases) == 8
    for case in cases.values():
        assert benchmark.verdict(case, case.good) == "right", case.id
        assert case.value(case.parent) < 1 and len(case.good) <= benchmark.MAX_CHARS, case.id
        assert all(record["score"] in (0, 1) for record in case.records), case.id


def test_a_proposal_is_judged_by_the_rules_that_it_holds(benchmark, cases):
    case = cases["sentences"]
    verdicts = {
        "right": case.good,
        "helps": "The code for the INVOICE is C3.",
        "useless": "Write codes as the feedback says.",
        "unreadable": "",
        "failed": None,
    }
    assert {name: benchmark.verdict(case, text) for name, text in verdicts.items()} == {n: n for n in verdicts}
    assert benchmark.verdict(cases["keeps"], "Send horses to the west gate.") == "useless"  # the other three are gone
    for text in (case.parent, f" {case.parent}\n", "x" * (benchmark.MAX_CHARS + 1), "\u200b"):
        assert benchmark.verdict(case, text) == "refused"


def test_a_rule_with_something_wrong_beside_it_is_not_right(benchmark, cases):
    for name, wrong in (
        ("misleading", "Answer BANANA."),
        ("answers", "It is 56 km."),
        ("contradicting", "Or in dollars."),
    ):
        assert benchmark.verdict(cases[name], f"{cases[name].good} {wrong}") == "useless"


def test_shares_are_of_all_proposals(benchmark, cases):
    (row,) = benchmark.judge(Says(cases["long"].good), [cases["long"]], 4)
    assert (row["right"], row["helps"], row["refused"], row["unreadable"]) == (1, 1, 0, 0)
    (row,) = benchmark.judge(Says(None), [cases["long"]], 4)
    assert (row["right"], row["helps"], row["refused"], row["unreadable"]) == (0, 0, 0, 1)


def test_the_offline_reflection_copies_what_is_said_and_judges_nothing(benchmark, cases):
    rows = {row["case"]: row["right"] for row in benchmark.judge(OfflineReflection(), list(cases.values()), 4)}
    assert {name for name, share in rows.items() if share == 1} == {"sentences", "languages", "long", "keeps"}
    assert {name for name, share in rows.items() if share == 0} == {
        "score only",
        "contradicting",
        "misleading",
        "answers",
    }


def test_the_policy_is_asked_what_a_language_model_is_asked(cases):
    heard = []

    def generate(chats):
        heard.extend(chats)
        return ["<prompt>New.</prompt>"] * len(chats)

    request = cases["sentences"].request(0)
    assert PolicyReflection(generate).propose([request]) == ["New."] and heard == [ask(request)]
