import dataclasses
import io

import pytest

from fst_plugin import cli
from fst_plugin.prompts import Population, Prompt, Score, shown, text_digest
from fst_plugin.record import state


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


def test_shown_text_cannot_act_on_a_terminal():
    text = "\x1b[2J\x1b]52;c;aGk=\x07\x9b1m\x00\u202eabc\r\U000e0041\u200b\ud800"
    assert shown(text) == ("\\x1b[2J\\x1b]52;c;aGk=\\x07\\x9b1m\\x00\\u202eabc\\r\\U000e0041\\u200b\\ud800")


def test_shown_text_keeps_lines_and_every_script():
    text = "Zwölf Regeln 🙂\n\tπ\u3000漢字\xa0हिन्दी עברית"
    assert shown(text) == text


class _Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize("option", [["--best"], ["--diff"]])
def test_the_prompts_command_escapes_on_a_terminal_and_not_into_a_pipe(tmp_path, monkeypatch, option):
    seed, best = Prompt("Be\nbrief."), Prompt("Be\nbrief.\x1b]52;c;aGk=\x07\u202e")
    state.save(state.State(Population((best, seed)), seed.digest, "data", "weights", cycle=0), tmp_path / "fst")
    named = [seed.digest, best.digest] if option == ["--diff"] else []

    def printed(kind):
        out = kind(io.BytesIO(), encoding="utf-8", write_through=True)
        monkeypatch.setattr("sys.stdout", out)
        cli.app(["prompts", str(tmp_path), *option, *named], standalone_mode=False)
        return out.buffer.getvalue().decode()

    piped, shown_there = printed(io.TextIOWrapper), printed(_Terminal)
    assert "brief.\x1b]52;c;aGk=\x07\u202e" in piped
    assert "brief.\\x1b]52;c;aGk=\\x07\\u202e" in shown_there and "\x1b" not in shown_there
