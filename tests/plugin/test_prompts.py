import dataclasses

import pytest

from fst_plugin.prompts import Population, Prompt, Score, text_digest


def test_identity_is_the_text_alone():
    a = Prompt("Be brief.", origin="seed")
    b = Prompt("Be brief.", parents=("x",), origin="reflection", cycle=3, scores={"p": Score(1.0)})
    assert a.digest == b.digest == text_digest("Be brief.")
    assert Prompt("Be brief. ").digest != a.digest


def test_prompts_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Prompt("a").text = "b"


def test_mean_score_weighs_problems_not_rollouts():
    assert Prompt("a", scores={"p": Score(1.0, 9), "q": Score(0.0, 1)}).mean_score == 0.5
    assert Prompt("a").mean_score == 0.0


def test_json_round_trip_keeps_everything():
    prompt = Prompt("Zwölf\nRegeln 🙂", ("d1", "d2"), "reflection", 2, {"p": Score(0.25, 4)})
    back = Prompt.from_json(prompt.to_json())
    assert back == prompt and dict(back.scores) == dict(prompt.scores)


def test_an_edited_text_is_refused():
    stored = Prompt("Be brief.").to_json() | {"text": "Be long."}
    with pytest.raises(ValueError, match="edited"):
        Prompt.from_json(stored)


def test_population_is_ordered_distinct_and_not_empty():
    a, b = Prompt("a"), Prompt("b")
    assert Population((a, b)).best is a
    assert Population((a, b)).digest != Population((b, a)).digest
    with pytest.raises(ValueError, match="once"):
        Population((a, Prompt("a", origin="reflection")))
    with pytest.raises(ValueError, match="at least one"):
        Population(())


def test_population_round_trip():
    population = Population((Prompt("a"), Prompt("b", ("x",))))
    assert Population.from_json(population.to_json()) == population
