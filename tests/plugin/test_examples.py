"""Examples: solved problems that a prompt shows, in its text and as turns of a chat."""

from __future__ import annotations

import random

import pytest
from cycles import fast_weights
from rule_world import Scripted, World, make_problems, seed_population

from fst_plugin import examples
from fst_plugin.config import parse
from fst_plugin.context import place
from fst_plugin.evolve import ReflectiveOptimizer
from fst_plugin.evolve.proposer import Proposer
from fst_plugin.examples import Example
from fst_plugin.policy import Policy
from fst_plugin.prompts import Prompt
from fst_plugin.record.slow_scores import SlowScores, shown_places
from fst_plugin.reflection import OfflineReflection
from fst_plugin.rollouts import Problem, Rollout, Trace, merged

TWO = (Example("Where is 12?\nPlease.", "#12\n</answered>\n</example>"), Example("And 7?", "<answer>7</answer>"))
CHAT = [{"role": "system", "content": "Old."}, {"role": "user", "content": "Where is 3?"}]


def problem(question, name="p", **more):
    return Problem(name, ({"role": "system", "content": "s"}, {"role": "user", "content": question}), **more)


@pytest.mark.parametrize("instructions", ["Read.", "Read.\n", "", "a <example> of <asked> tags\n</example>"])
@pytest.mark.parametrize("solved", [(), TWO[:1], TWO])
def test_a_prompt_is_its_instructions_and_its_examples(instructions, solved):
    assert examples.split(examples.joined(instructions, solved)) == (instructions, solved)


@pytest.mark.parametrize("text", ["x\n<example>\n</example>", "x\n<asked>\na\n</asked>", TWO[0].block + "\nMore."])
def test_text_that_does_not_end_in_whole_examples_is_instructions(text):
    assert examples.split(text) == (text, ())


def test_an_example_in_the_midst_of_a_prompt_is_a_part_of_its_instructions():
    text = f"Read.{TWO[0].block}\nAnd then:{TWO[1].block}"
    assert examples.split(text) == (f"Read.{TWO[0].block}\nAnd then:", TWO[1:])


@pytest.mark.parametrize(
    ("placement", "first"),
    [
        ("system", [("system", "Read.")]),
        ("append", [("system", "Old.\n\nRead.")]),
        ("user", []),
    ],
)
def test_examples_are_turns_before_the_question_wherever_the_prompt_goes(placement, first):
    chat = place(CHAT, examples.joined("Read.", TWO), placement)
    said = [(m["role"], m["content"]) for m in chat]
    turns = [(role, text) for one in TWO for role, text in (("user", one.question), ("assistant", one.answer))]
    if placement == "user":
        turns[0] = ("user", f"Read.\n\n{turns[0][1]}")
    assert said == [*first, *turns, ("user", "Where is 3?")]


def test_no_chat_shows_the_answer_to_its_own_question():
    own = [{"role": "user", "content": "And 7?"}]
    assert "<answer>7</answer>" not in str(place(own, examples.joined("Read.", TWO)))
    assert "#12" in str(place(own, examples.joined("Read.", TWO)))


def test_a_chat_of_parts_gets_text_turns_and_keeps_its_parts():
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And 7?"}]}]
    chat = place(parts, examples.joined("Read.", TWO[:1]))
    assert [m["role"] for m in chat] == ["system", "user", "assistant", "user"] and chat[-1] == parts[0]


@pytest.mark.parametrize(
    ("asked", "rollout"),
    [
        (problem("q"), Rollout(1.0, "a", episode=True)),
        (problem("q"), Rollout(1.0, "  ")),
        (problem("q"), Rollout(1.0, "a\n<example>\n<asked>\nb")),
        (problem("q\n</asked>\n<answered>\nb"), Rollout(1.0, "a")),
        (problem("q"), Rollout(1.0, "a" * (examples.LONGEST + 1))),
        (problem([{"type": "text", "text": "q"}]), Rollout(1.0, "a")),
        (Problem("p", ({"role": "user", "content": "q"}, {"role": "assistant", "content": "b"})), Rollout(1.0, "a")),
    ],
)
def test_what_is_not_one_question_with_one_answer_is_no_example(asked, rollout):
    assert examples.of(asked, rollout) is None


# ------------------------------------------------------------------------------------------------------ evolving them


def proposer(max_tokens=200, **policy):
    return Proposer(OfflineReflection(), Policy(max_tokens, **policy), 3, 0)


def solved(count, answer="#{}"):
    return [(problem(f"Where is {i}?", f"p{i}"), Rollout(1.0, answer.format(i))) for i in range(count)]


def test_a_child_shows_one_more_example_until_there_are_enough():
    made, texts, parent = proposer(2000), [], Prompt("Read.")
    for _ in range(7):
        parent = made.show(parent, solved(12), random.Random(len(texts)))
        texts.append(parent.text)
    counts = [len(examples.split(text)[1]) for text in texts]
    assert counts == [1, 2, 3, 4, 4, 4, 4] and len(set(texts)) == 7
    assert all(examples.split(text)[0] == "Read." for text in texts)
    assert parent.origin == "example" and parent.cycle == 3 and made.count["calls"] == 0 and made.count["shown"] == 7
    assert all(
        len({one.question for one in examples.split(text)[1]}) == c for text, c in zip(texts, counts, strict=True)
    )


def test_where_the_cap_has_no_room_for_one_more_another_takes_its_place():
    one = Policy().count_tokens(examples.joined("Read.", [Example("Where is 0?", "#0")]))
    made = proposer(one + 3)
    first = made.show(Prompt("Read."), solved(9), random.Random(0))
    second = made.show(first, solved(9), random.Random(1))
    assert len(examples.split(second.text)[1]) == 1 and second.text != first.text
    assert proposer(one // 2).show(Prompt("Read."), solved(9), random.Random(0)) is None


def test_there_is_no_child_if_nothing_new_was_solved():
    made = proposer()
    child = made.show(Prompt("Read."), solved(1), random.Random(0))
    assert made.show(child, solved(1), random.Random(0)) is None
    assert made.show(Prompt("Read."), solved(1), random.Random(0)) is None, "that child is known"
    assert made.show(Prompt("Read."), [], random.Random(0)) is None


def test_thinking_and_control_tokens_are_in_no_example():
    made = proposer(thinking=(("<think>", "</think>"),), special_tokens=("<|end|>",))
    child = made.show(Prompt("Read."), solved(1, "<think>hm</think>\n#{}"), random.Random(0))
    assert examples.split(child.text)[1] == (Example("Where is 0?", "#0"),)
    for answer in ("<think>hm #{}", "#{}<|end|>"):
        assert made.show(Prompt("Read."), solved(1, answer), random.Random(0)) is None
    opened = proposer(thinking=(("<think>", "</think>"),), opened="<think>")
    assert opened.show(Prompt("Read."), solved(1, "hm #{}"), random.Random(0)) is None


def test_a_reflection_changes_the_instructions_and_never_sees_the_examples():
    class Asked(OfflineReflection):
        def propose(self, requests):
            self.requests = requests
            return super().propose(requests)

    reflection = Asked()
    made = Proposer(reflection, Policy(200), 0, 0)
    parent = Prompt(examples.joined("Read.", TWO))
    failed = ((problem("Where is 3?"), Rollout(0.0, "3", "Always start with a hash.")),)
    (child,) = made.propose(0, [(parent, failed)])
    assert child.text == examples.joined("Read.\nAlways start with a hash.", TWO)
    assert child.parents == (parent.digest,) and reflection.requests[0].parent.text == "Read."
    beside = Policy().count_tokens(examples.joined("", TWO))
    assert reflection.requests[0].max_chars <= 4.5 * (200 - beside)


def test_instructions_and_examples_share_the_cap():
    class Long(OfflineReflection):
        def propose(self, requests):
            return ["word " * 40] * len(requests)

    tail = examples.joined("", TWO)
    cap = Policy().count_tokens("word " * 40) + Policy().count_tokens(tail) - 5
    parents = [(Prompt("Read."), ()), (Prompt("Read." + tail), ())]
    short, long = Proposer(Long(), Policy(cap), 0, 0).propose(0, parents)
    assert short is not None and long is None


def test_an_answer_in_an_example_is_no_leak_but_one_in_the_instructions_is():
    private = [problem("Where is the order?", "p", answer="#1234567890", private=True)]

    class Says(OfflineReflection):
        def propose(self, requests):
            return [f"Say {requests[0].slot} #1234567890."]

    made = Proposer(OfflineReflection(), Policy(200), 0, 0, private=private)
    assert made.show(Prompt("Read."), [(private[0], Rollout(1.0, "#1234567890"))], random.Random(0))
    kept = Prompt(examples.joined("Read.", [Example("Where is the order?", "#1234567890")]))
    failed = ((problem("Where is 3?"), Rollout(0.0, "3", "Always start with a hash.")),)
    assert made.propose(0, [(kept, failed)])[0].text.startswith("Read.\nAlways") and made.count["leaks"] == 0
    leaking = Proposer(Says(), Policy(200), 0, 0, private=private)
    assert leaking.propose(0, [(Prompt("Read."), ())]) == [None] and leaking.count["leaks"] == 1
    Says.propose = lambda self, requests: [examples.joined("Read.", [Example("The order?", "#1234567890")])]
    leaking = Proposer(Says(), Policy(200), 0, 0, private=private)
    assert leaking.propose(0, [(Prompt("Read."), ())]) == [None], "an example that a reflection made up is its own text"


@pytest.mark.parametrize("components", [[], ["examples"], ["instructions", "instructions"]])
def test_components_are_named_once_and_instructions_are_among_them(components):
    with pytest.raises(ValueError, match=r"fst\.components"):
        parse({"components": components})
    assert parse({"components": ["instructions", "examples"]}).components == ("instructions", "examples")


class Shown(World):
    """A policy that does what it is shown: a problem's rule is followed only under a prompt with an example."""

    def roll(self, cell):
        shown = examples.split(cell.prompt.text)[1]
        right = bool(shown) or random.Random(f"luck-{cell.prompt.digest}-{cell.problem.id}").random() < 0.1
        return Rollout(float(right), "Write it.", "Correct." if right else "Wrong.")


@pytest.mark.parametrize("parents", ["thompson", "frontier"])
def test_a_search_finds_examples_by_itself_and_the_lead_has_them(parents):
    def evolve(components):
        reflection = Scripted(lambda r: f"Variant {r.seed} {r.slot}")
        config = parse({"components": components, "fast": {"budget": 400, "parents": parents}})
        return ReflectiveOptimizer(reflection, config, Policy()).evolve(
            seed_population(), make_problems(96), Shown(), cycle=0, seed=0
        )

    found = evolve(["instructions", "examples"])
    assert examples.split(found.population.best.text)[1] and found.population.best.origin in ("example", "reflection")
    assert 0 < found.metrics["proposals_examples"] < len(found.candidates)
    assert {(c.prompt.origin, bool(c.records)) for c in found.candidates} == {("example", False), ("reflection", True)}
    assert not any("example" in line for line in found.warnings)
    alone = evolve(["instructions"])
    assert alone.metrics["proposals_examples"] == 0
    assert not any(examples.split(c.prompt.text)[1] for c in alone.candidates)


def test_a_run_whose_examples_never_come_is_told_why():
    config = parse({"components": ["instructions", "examples"], "fast": {"budget": 100}})
    found = ReflectiveOptimizer(OfflineReflection(), config, Policy()).evolve(
        seed_population(), make_problems(48), World(reliability=0.0), cycle=0, seed=0
    )
    assert any("no prompt got an example" in line for line in found.warnings)


def test_what_a_slow_phase_solved_once_of_two_times_becomes_an_example():
    asked = make_problems(48)
    seed = seed_population().best
    pair = [Rollout(0.0, "no"), Rollout(1.0, "#7")]
    traces = [Trace(p, {seed.digest: merged(pair)}) for p in asked]
    config = parse({"components": ["instructions", "examples"], "fast": {"budget": 100}})
    world = World()
    found = ReflectiveOptimizer(Scripted(lambda r: f"Variant {r.seed} {r.slot}"), config, Policy()).evolve(
        seed_population(), make_problems(48, seed=1), world, cycle=1, seed=0, traces=traces
    )
    shown = [examples.split(c.prompt.text)[1] for c in found.candidates]
    assert any(shown) and {one.answer for some in shown for one in some} == {"#7"}
    assert {one.question for some in shown for one in some} <= {p.messages[0]["content"] for p in asked}


# ----------------------------------------------------------------------------------------- what slow steps leave of it


@pytest.mark.parametrize(
    ("rollouts", "solution"),
    [
        ([Rollout(0.0, "a"), Rollout(1.0, "b")], (1.0, "b")),
        ([Rollout(1.0, "b"), Rollout(0.0, "a"), Rollout(0.5, "c")], (1.0, "b")),
        ([Rollout(1.0, "a"), Rollout(1.0, "b")], (0.0, "")),
        ([Rollout(0.0, "a"), Rollout(1.0, "b, and then c", episode=True)], (0.0, "")),
        ([Rollout(0.0, "a"), Rollout(1.0, "", unread=True)], (0.0, "")),
        ([Rollout(0.5, "a", of=2, solution="b", solution_score=1.0), Rollout(0.0, "c")], (1.0, "b")),
        ([Rollout(0.5, "a", of=2, solution="b", solution_score=1.0), Rollout(0.9, "c")], (1.0, "b")),
    ],
)
def test_the_best_response_is_kept_beside_the_worst(rollouts, solution):
    one = merged(rollouts)
    assert (one.solution_score, one.solution) == solution


@pytest.mark.parametrize("wanted", [True, False])
def test_slow_scores_keep_solutions_only_if_prompts_show_examples(wanted, tmp_path):
    slow = SlowScores()
    slow.add(1, "w", [("p", "d", Rollout(0.0, "a")), ("p", "d", Rollout(1.0, "b"))], wanted)
    slow.save(tmp_path)
    assert SlowScores.load(tmp_path) == slow
    assert slow.entries[0].rollout.top == ((1.0, "b") if wanted else (0.5, "a"))


@pytest.mark.parametrize("components", [["instructions"], ["instructions", "examples"]])
def test_the_fast_weights_keep_solutions_only_if_their_prompts_show_examples(components, tmp_path):
    weights, _ = fast_weights(tmp_path, components=components)
    digest = weights.population.best.digest
    weights.observe(1, "w", [("p", digest, Rollout(0.0, "a")), ("p", digest, Rollout(1.0, "b"))])
    assert weights.slow.entries[0].rollout.solution == ("b" if "examples" in components else "")


def test_an_adapter_reads_solutions_only_if_prompts_show_examples():
    scores = {"p": (0.0, 1.0), "q": (0.0, 0.0)}
    rollouts = [(problem, "d", Rollout(score)) for problem, both in scores.items() for score in both]
    assert shown_places(rollouts) == [0, 2]
    assert shown_places(rollouts, solutions=True) == [0, 1, 2]
    many = [(f"p{i}", "d", Rollout(float(i % 2))) for i in range(0, 20)]
    assert sum(i % 2 for i in shown_places(many, 3, solutions=True)) == 3
