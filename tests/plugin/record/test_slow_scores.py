"""What the slow phase has paid for."""

from dataclasses import replace

import pytest
from rule_world import make_problems

from fst_plugin.prompts import Population, Prompt
from fst_plugin.record.sealed import UnusableFile
from fst_plugin.record.slow_scores import SlowScores, shown_places, traces_digest
from fst_plugin.rollouts import Rollout

A, B = Prompt("a"), Prompt("b")
BOTH = Population((A, B))


def roll(score, feedback="", error=None):
    return Rollout(score, "text", feedback, error)


def test_rollouts_of_a_problem_and_prompt_are_merged_and_bound():
    one, two = make_problems(2)
    slow = SlowScores()
    slow.add(
        3,
        "w2",
        [
            (one.id, A.digest, roll(1.0, "good")),
            (one.id, A.digest, roll(0.0, "bad")),
            (one.id, B.digest, roll(0.5)),
            (two.id, A.digest, roll(0.0, error="engine")),
        ],
    )
    (trace,) = slow.traces(BOTH, [one, two], step=4, max_age=None)
    assert trace.problem is one and trace.rollouts.keys() == {A.digest, B.digest}
    found = trace.rollouts[A.digest]
    assert (found.score, found.of, found.feedback) == (0.5, 2, "bad")
    assert [e.weights for e in slow.entries] == ["w2", "w2"]


def test_only_the_responses_at_the_shown_places_are_read():
    one, two = make_problems(2)
    scores = [0.5, 1.0, 0.0, 0.0, float("nan")]
    whole = [
        (problem.id, prompt.digest, Rollout(score, f"{problem.id} {prompt.text} {i}" * 900, f"said {i}"))
        for problem in (one, two)
        for prompt in (A, B)
        for i, score in enumerate(scores)
    ]
    whole.append((one.id, A.digest, Rollout(-1.0, "never run", error="engine")))
    silent = [(problem, prompt, replace(rollout, response="")) for problem, prompt, rollout in whole]
    places = shown_places(silent)
    assert places == [2, 7, 12, 17]  # the first of the worst of each
    eager, lazy = SlowScores(), SlowScores()
    eager.add(3, "w2", whole)
    lazy.add(3, "w2", [whole[i] if i in places else one for i, one in enumerate(silent)])
    assert lazy.entries == eager.entries
    traces = [slow.traces(BOTH, [one, two], step=4, max_age=None) for slow in (eager, lazy)]
    assert traces_digest(traces[0]) == traces_digest(traces[1])
    assert shown_places(silent[-1:]) == []


def test_where_fewer_answers_are_enough_unsolved_problems_come_first_whoever_they_are():
    problems = make_problems(40)
    solved = {problem.id for problem in problems[:20]}
    rollouts = [(p.id, A.digest, roll(score)) for p in problems for score in (1.0, float(p.id in solved))]
    rollouts += [(problems[0].id, B.digest, roll(0.0))]
    few = shown_places(rollouts, 10)
    shown = [rollouts[place] for place in few]
    assert len(few) == 11 and few == sorted(few) and shown[-1][1] == B.digest  # of each prompt
    assert not solved & {problem for problem, *_ in shown[:-1]}
    assert all(rollout.score == 0.0 for *_, rollout in shown)
    assert {p for p, *_ in shown[:-1]} != {p.id for p in problems[20:30]}  # not just the first
    more = shown_places(rollouts, 30)
    assert len(more) == 31 and set(few) < set(more)
    assert shown_places(rollouts, 40) == shown_places(rollouts)


def test_of_several_answers_one_that_was_read_stands_for_all():
    (one,) = make_problems(1)
    slow = SlowScores()
    slow.add(1, "w", [(one.id, A.digest, replace(roll(0.0, "worst"), response="", unread=True))])
    slow.add(2, "w", [(one.id, A.digest, roll(0.5, "read"))])
    (trace,) = slow.traces(BOTH, [one], step=3, max_age=None)
    found = trace.rollouts[A.digest]
    assert (found.score, found.of, found.feedback, found.unread) == (0.25, 2, "read", False)


def test_other_prompts_unknown_problems_and_stale_scores_are_left_out():
    one, two = make_problems(2)
    slow = SlowScores()
    slow.add(1, "w0", [(one.id, A.digest, roll(1.0)), (one.id, "another prompt", roll(1.0))])
    slow.add(4, "w3", [(two.id, A.digest, roll(0.0))])
    assert {t.problem.id for t in slow.traces(BOTH, [one, two], step=5, max_age=None)} == {one.id, two.id}
    assert {t.problem.id for t in slow.traces(BOTH, [one, two], step=5, max_age=3)} == {two.id}
    assert slow.traces(BOTH, [one], step=5, max_age=3) == []
    assert all(set(t.rollouts) <= {A.digest, B.digest} for t in slow.traces(BOTH, [one, two], step=5, max_age=None))


def test_they_survive_a_checkpoint(tmp_path):
    problems = make_problems(3)
    slow = SlowScores()
    slow.add(2, "w1", [(p.id, A.digest, roll(1.0, "ünï \ud800")) for p in problems])
    slow.save(tmp_path)
    again = SlowScores.load(tmp_path)
    assert again.entries == slow.entries
    traces = [s.traces(BOTH, problems, step=3, max_age=None) for s in (slow, again)]
    assert traces_digest(traces[0]) == traces_digest(traces[1]) != traces_digest(traces[0][:2])
    with pytest.raises(FileNotFoundError):
        SlowScores.load(tmp_path / "none")


@pytest.mark.parametrize(
    "line, wrong",
    [
        (b'{"problem": "p"}', "line 2: prompt: Field required"),
        (b'{"problem": "p", "prompt": "d", "step": "x", "weights": "w", "rollout": {"score": 1}}', "line 2: step: "),
        (
            b'{"problem": "p", "prompt": "d", "step": 1, "weights": "w", "rollout": {"score": NaN}}',
            "NaN is not a number",
        ),
        (b"\xff", "line 2: not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, wrong):
    slow = SlowScores()
    slow.add(2, "w1", [("p", A.digest, roll(1.0))])
    slow.save(tmp_path)
    with open(tmp_path / "traces.jsonl", "ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UnusableFile, match=wrong) as error:
        SlowScores.load(tmp_path)
    assert str(tmp_path / "traces.jsonl") in str(error.value)


def test_a_long_response_is_shortened():
    slow = SlowScores()
    slow.add(1, "w", [("p", A.digest, Rollout(0.0, "x" * 100_000))])
    assert len(slow.entries[0].rollout.response) <= 4000


def test_made_feedback_stays_marked_over_a_restart(tmp_path):
    slow = SlowScores()
    slow.add(1, "w", [("p", A.digest, Rollout(0.0, "x", "The answer got 0.", feedback_made=True))])
    slow.save(tmp_path)
    assert SlowScores.load(tmp_path).entries == slow.entries and slow.entries[0].rollout.feedback_made
