"""Prompts that carry a problem's own answer."""

import random
from time import process_time

import pytest
from rule_world import SEED, World, gepa, make_problems, seed_population

from fst_plugin.evolve.leaks import leaked
from fst_plugin.rollouts import Problem


def problem(answer, private=True, question="What is the way from node 12 to node 7 in this graph?"):
    return Problem("p", ({"role": "user", "content": question},), answer, private)


@pytest.mark.parametrize(
    ("text", "answer", "leaks"),
    [
        ("Always answer 12,4,9,7.", "12,4,9,7", True),
        ("Always  answer\nPATH  A to b", "path a TO b", True),
        ("False answers cost a point.", "False", False),
        ("Separate nodes by commas.", "12,4,9,7", False),
        ("The chart shows more.", "art s", False),  # not between word boundaries
        ("The eighth is [1, 2, 3].", "<answer>[1, 2, 3]</answer>", True),
        ("Say 42.", "42", False),  # short answers are everybody's
        ("What is the way from node 12 to node 7 in this graph? 42", "42", True),
        ("Anything", "", False),
        ("None", None, False),
    ],
)
def test_what_counts_as_a_leak(text, answer, leaks):
    assert (leaked(text, [problem(answer)]) == "p") == leaks
    assert leaked(text, [problem(answer, private=False)]) is None


def test_what_all_problems_ask_alike_is_no_quote():
    many = [problem("12", question=f"How many numbers between 1 and {n} are prime?") for n in (31, 37, 41)]
    many = [Problem(str(i), p.messages, p.answer, True) for i, p in enumerate(many)]
    text = "You are asked 'How many numbers between 1 and ...'. 1. Read it. 12. Count twice."
    assert leaked(text, many) is None
    assert leaked("How many numbers between 1 and 37 are prime? 12.", many) == "1"


def test_an_answer_that_several_problems_share_gives_none_of_them_away():
    two = [Problem(name, problem("").messages, "not entailed", True) for name in ("a", "b")]
    assert leaked("Say supported, or not entailed.", two) is None
    assert leaked("Say supported, or not entailed.", two[:1]) == "a"


def test_a_quote_of_a_whole_short_problem_gives_its_answer_away():
    two = [Problem("a", problem("", question="1 + 1?").messages, "2", True)]
    two += [Problem("b", problem("", question="is 1 + 1? odd").messages, "no", True)]
    assert leaked("Count: 1 + 2? It is 2.", two) is None
    assert leaked("Count: 1 + 1? It is 2.", two[:1]) == "a"
    assert leaked("Count: 1 + 1? It is 2.", two) is None  # another problem says so too
    assert leaked("Count: 1 + 1? " + "x" * 200 + " It is 2.", two[:1]) is None  # too far away


def test_the_check_for_leaks_takes_linear_time():
    def seconds(size):
        rng = random.Random(0)
        said = " ".join(str(rng.randrange(40)) + " is what" for _ in range(size // 11))
        asked = [" ".join(str(rng.random()) for _ in range(size // 40 // 19)) for _ in range(40)]
        many = [Problem(str(i), ({"role": "user", "content": text},), i, True) for i, text in enumerate(asked)]
        began = process_time()
        assert leaked(said, many) is None
        return process_time() - began

    assert min(seconds(80_000) for _ in range(2)) < 20 * seconds(10_000) + 0.1  # 8 times the text; was 64 times


def test_a_leaking_prompt_is_refused_counted_and_costs_nothing():
    problems = [Problem(p.id, p.messages, f"answer no. {i}", private=True) for i, p in enumerate(make_problems(24))]

    class Leaking:
        def propose(self, requests):
            return [f"{SEED} If in doubt say answer no. {r.slot} . {r.seed}" for r in requests]

        def describe(self):
            return "leaking"

    world = World()
    optimizer = gepa(Leaking(), k=4, budget=100)
    evolution = optimizer.evolve(seed_population(), problems, world, cycle=0, seed=0)
    assert evolution.population.digest == seed_population().digest
    assert evolution.metrics["proposals_refused_leak"] == evolution.metrics["reflection_calls"] > 0
    assert world.rollouts == evolution.metrics["anchors"] and any("refused" in w for w in evolution.warnings)
    assert {c.verdict for c in evolution.candidates} == {"refused"}
