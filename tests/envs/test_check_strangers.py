"""`fst env check` on environments of strangers who read only the docs: right, or one clear message with a fix."""

from __future__ import annotations

import random
import re
from pathlib import Path

import gymnasium as gym
import pytest
from fst_envs import ContractError, ReasoningEnv, UnicodeText, split_seed
from fst_envs import check as checks
from fst_envs.commands import app
from fst_envs.episodes.episode import BlockingEpisode, run
from typer.testing import CliRunner

HERE = "test_check_strangers"


class Sum(ReasoningEnv):
    """Sums with rewards of one's own: of a right answer, a wrong number, and what is not a number."""

    def __init__(self, right=1.0, wrong=0.0, nonsense=0.0, gold=True, turns=1):
        super().__init__()
        self.right, self.wrong, self.nonsense, self.gold, self.turns = right, wrong, nonsense, gold, turns

    def load(self, index, split):
        rng = random.Random(split_seed(split, index))
        a, b = rng.randrange(10**6), rng.randrange(10**6)
        self.sum, self.turn = str(a + b), 0
        return f"{a} + {b} = ?", {"answer": self.sum} if self.gold else {}

    def respond(self, text):
        self.turn += 1
        right = text == self.sum
        reward = self.right if right else self.wrong if text.isdigit() else self.nonsense
        return "Again.", reward, right or self.turn >= self.turns, "Correct." if right else "Wrong."


class Raises(Sum):
    def respond(self, text):
        raise KeyError("no such rule")


class Chokes(Sum):
    def respond(self, text):
        return "", float(int(text) == int(self.sum)), True, "Checked."


class ChokesOnSurrogates(Sum):
    def respond(self, text):
        text.encode()
        return super().respond(text)


class Plain(gym.Env):
    observation_space = action_space = UnicodeText()
    metadata = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"say {self.np_random.integers(10**9)}", {}

    def step(self, action):
        return "over", 0.0, True, False, {}


class Discrete(Plain):
    action_space = gym.spaces.Discrete(3)


class Dict(Plain):
    observation_space = gym.spaces.Dict({"text": UnicodeText()})


class DictAsText(Plain):
    def reset(self, *, seed=None, options=None):
        text, info = super().reset(seed=seed)
        return {"text": text}, info


class NoSpaces(Plain):
    observation_space = action_space = None


class NaturalText(Plain):
    observation_space = action_space = gym.spaces.Text(200)


class LongText(Plain):
    observation_space = UnicodeText(5)


class ResetRaises(Plain):
    def reset(self, *, seed=None, options=None):
        raise RuntimeError("no board")


class StepRaises(Plain):
    def step(self, action):
        return self.board[action], 0.0, True, False, {}


class FourValues(Plain):
    def step(self, action):
        return "over", 0.0, True, False


class Old(Plain):
    def seed(self, seed=None):
        self.number = seed

    def reset(self):
        return f"say {self.number}"

    def step(self, action):
        return "over", 0.0, True, {}


class Async(Plain):
    async def reset(self, *, seed=None, options=None):
        return "say yes", {}


class Generator(Sum):
    def respond(self, text):
        yield "", 0.0, True, "Wrong."


class Dice(Plain):
    """Draws from the global generators, also when it is made."""

    def __init__(self, declared=True):
        self.metadata = {"render_modes": [], "global_rng": declared}
        random.random()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"say {random.random()}", {}


class NoStep(gym.Env):
    observation_space = action_space = UnicodeText()

    def reset(self, *, seed=None, options=None):
        return "say yes", {}


class NoLoad(ReasoningEnv):
    pass


class NoRespond(ReasoningEnv):
    def load(self, index, split):
        return f"say {split} {index}", {}


class NeedsArguments(Plain):
    def __init__(self, words, limit=3):
        pass


CLASSES = [cls for cls in list(globals().values()) if isinstance(cls, type) and cls.__module__ == __name__]
for _cls in CLASSES:
    gym.register(f"strange/{_cls.__name__}-v0", entry_point=f"{HERE}:{_cls.__name__}")


def check(name, **kwargs):
    return checks.check(f"{HERE}:strange/{name}-v0", kwargs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Discrete", "action_space is Discrete(3); set self.action_space = fst_envs.UnicodeText()"),
        ("Dict", "observation_space is Dict"),
        ("NoSpaces", "observation_space is None; set self.observation_space = fst_envs.UnicodeText()"),
        ("DictAsText", "contract: strange/DictAsText-v0: reset returned a dict as observation, not a str"),
        ("NaturalText", "not in observation_space Text(1, 200, "),
        ("LongText", "is not in observation_space UnicodeText(0, 5): use fst_envs.UnicodeText()"),
        ("ResetRaises", "raised: RuntimeError: no board (test_check_strangers.py:"),
        ("StepRaises", "errors: 6 of the texts could not be checked ('': AttributeError("),
        ("FourValues", "contract: strange/FourValues-v0: step returned 4 values (str, float, bool, bool): it must"),
        ("Async", "contract: strange/Async-v0: reset returned a coroutine (write it as a plain function"),
        ("Generator", "contract: strange/Generator-v0: respond returned a generator (write it as a plain function"),
        (
            "NoStep",
            "contract: strange/NoStep-v0: step(action) is not written: it must return (observation: str, reward",
        ),
        ("NoLoad", "contract: strange/NoLoad-v0: load(index, split) is not written"),
        ("NoRespond", "contract: strange/NoRespond-v0: respond(text) is not written"),
        ("NeedsArguments", "it needs words; its arguments are words, limit (--kwargs"),
    ],
)
def test_what_cannot_be_trained_on_is_one_message_that_says_how_to_fix_it(name, message):
    report = check(name)
    assert len(report.problems) == 1 and message in report.problems[0], report.problems


def test_a_wrong_shape_crosses_from_an_isolated_process_as_what_it_is():
    episode = BlockingEpisode(f"{HERE}:strange/FourValues-v0", isolate=True)
    run(episode.reset(0))
    with pytest.raises(ContractError, match="strange/FourValues-v0: step returned 4 values"):
        run(episode.step("yes"))
    assert episode.faults == 0
    run(episode.close())


def test_a_plain_environment_and_one_of_several_turns_are_fit():
    assert check("Plain").ok and check("Sum", gold=False).ok
    for turns, said in ((3, "3 turns"), (99, "at least 20 turns")):
        report = check("Sum", turns=turns)
        assert report.ok and report.notes == [f"episodes took up to {said}: set data.env.multi_turn=true"]


def test_the_plain_environment_of_the_docs_is_fit(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "environments.md").read_text()
    (tmp_path / "my_envs.py").write_text(re.search(r"```python\n(# my_envs\.py\n.*?)```", page, re.DOTALL)[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    report = checks.check("my_envs:mine/Say-v0")
    assert report.ok and report.notes == [] and report.gold == 1.0 and report.feedback == "own", report


def test_the_old_api_is_fit_and_noted():
    report = check("Old")
    assert report.ok, report.problems
    assert "step returns four values, as in Gym before 0.26: it is adapted" in report.notes


def test_a_text_space_without_blanks_is_answered_with_the_space_that_holds_any_text():
    assert "use fst_envs.UnicodeText(), which holds any text" in check("NaturalText").problems[0]


def test_an_environment_that_has_generators_of_its_own_is_fit():
    assert check("Dice").ok, check("Dice").problems
    assert check("Dice", declared=False, wrap={"own_rng": True}).ok
    undeclared = check("Dice", declared=False).problems
    assert any(problem.startswith("global generators: ") for problem in undeclared)


# --- errors


def test_an_environment_whose_respond_always_raises_is_not_fit():
    report = check("Raises")
    assert len(report.problems) == 1 and report.problems[0].startswith("errors: "), report.problems
    assert "KeyError('no such rule')" in report.problems[0] and "catch what a text may raise" in report.problems[0]


def test_a_verifier_that_chokes_on_nonsense_is_not_fit():
    report = check("Chokes")
    assert [problem.partition(":")[0] for problem in report.problems] == ["errors"]
    assert "ValueError" in report.problems[0] and report.gold == 1.0


def test_choking_on_hostile_texts_alone_is_noted():
    report = check("ChokesOnSurrogates")
    assert report.ok and report.notes[0].startswith("errors: 1 of the texts could not be checked"), report


# --- rewards of any scale


@pytest.mark.parametrize(
    ("right", "wrong", "nonsense"),
    [(2, 0, -1), (2, -1, -1), (2, -1, 0), (0.3, 0, 0), (2, 1, 1), (0, -1, -1), (-1, -2, -3)],
)
def test_rewards_of_any_scale_are_fit_if_gold_answers_score_best(right, wrong, nonsense):
    report = check("Sum", right=right, wrong=wrong, nonsense=nonsense)
    assert report.ok, report.problems
    assert report.rewards == (min(wrong, nonsense), right)
    assert report.notes == [f"gold answers score {right}, not 1: set fst.fast.perfect_score to the highest reward"]


def test_rewards_of_zero_and_one_need_no_note():
    report = check("Sum")
    assert report.ok and report.notes == [] and report.rewards == (0.0, 1.0)


def test_a_penalty_is_not_a_fault_without_gold_answers_either():
    assert check("Sum", nonsense=-1, gold=False).ok
    paid = check("Sum", nonsense=0.5, gold=False)
    assert [problem.partition(":")[0] for problem in paid.problems] == ["wrong"]


@pytest.mark.parametrize(
    ("right", "wrong", "nonsense", "kinds"),
    [(1, 0, 0.5, ["wrong"]), (0, 0, 0, ["gold"]), (1, 1, 1, ["gold"]), (-1, 0, 0, ["gold"]), (2, 2, 0, ["wrong"])],
)
def test_what_pays_for_nothing_or_less_for_gold_is_found(right, wrong, nonsense, kinds):
    report = check("Sum", right=right, wrong=wrong, nonsense=nonsense)
    assert [problem.partition(":")[0] for problem in report.problems] == kinds, report.problems


# --- nothing looks measured that was not


def test_what_was_not_measured_is_none_and_an_empty_cell():
    report = check("ResetRaises")
    figures = report.gold, report.rewards, report.overlap, report.feedback, report.reset_ms, report.step_ms
    assert figures == (None,) * 6 and report.memory_mb is None
    result = CliRunner().invoke(app, ["check", f"{HERE}:strange/ResetRaises-v0"], env={"COLUMNS": "200"})
    row = next(line for line in result.output.splitlines() if "│ strange/ResetRaises-v0" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["strange/ResetRaises-v0", "no", *[""] * 6]
    assert result.exit_code == 1


@pytest.mark.parametrize("name", ["FourValues", "ResetRaises", "NeedsArguments"])
def test_a_problem_says_the_environments_id_once(name):
    result = CliRunner().invoke(app, ["check", f"{HERE}:strange/{name}-v0"], env={"COLUMNS": "200"})
    said = [line for line in result.output.splitlines() if f"strange/{name}-v0" in line and "│" not in line]
    assert len(said) == 1 and said[0].count(f"strange/{name}-v0") == 1, result.output


@pytest.mark.parametrize("number", ["0", "-3"])
@pytest.mark.parametrize("option", ["--instances", "--jobs"])
def test_a_check_of_no_instances_or_in_no_process_is_refused(option, number):
    result = CliRunner().invoke(app, ["check", f"{HERE}:strange/Plain-v0", option, number])
    assert result.exit_code == 2 and option in result.output and "ok" not in result.output


def test_check_of_no_instances_is_refused_from_python():
    with pytest.raises(ValueError, match="instances=0: use at least 1"):
        checks.check(f"{HERE}:strange/Plain-v0", instances=0)
