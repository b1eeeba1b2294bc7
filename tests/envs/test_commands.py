"""The checks of `fst env check` find what is wrong; the commands show, play and export."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from fst_envs import ENVIRONMENTS, EnvironmentFault, ReasoningEnv, UnicodeText, split_seed
from fst_envs import check as checks
from fst_envs.commands import EXTRAS, app, visible
from fst_envs.export import write_rows
from fst_envs.instances import rows
from fst_envs.reasoning.env import DENIED
from fst_envs.score import compute_score
from fst_envs.wrappers import WRAP_KEYS
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
STAR = "fst_envs:fst/StarGraph-v0"
ADD = "test_commands:tools/Add-v0"
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="could not import 'reasoning_gym'"
)
_counter = itertools.count()


class Add(ReasoningEnv):
    """Sums; `flaw` names what is wrong with it."""

    def __init__(self, flaw="", size=1000):
        super().__init__(size=size)
        self.flaw = flaw
        if flaw == "broken":
            raise EnvironmentFault("no server")

    def load(self, index, split):
        rng = random.Random(index if self.flaw == "overlap" else split_seed(split, index))
        a, b = rng.randrange(10**6), rng.randrange(10**6)
        if self.flaw == "global":
            random.random()
        if self.flaw == "numpy":
            np.random.seed(0)
        self.sum = str(a + b)
        gold = {"gold": self.sum + "0", "no gold": None}.get(self.flaw, self.sum)
        extra = {"rng": rng} if self.flaw == "info" else {}
        drift = hash("a string") if self.flaw == "hash seed" else ""
        return f"{a} + {b} = ? {drift}", {"answer": gold, **extra}

    def respond(self, text):
        right = text == self.sum
        if self.flaw == "swap":
            right = text.isdigit()
        if self.flaw == "banana":
            right = right or "banana" in text
        if self.flaw == "scores drift" and not right:
            return "", 1e-9 * next(_counter), True, "no"
        said = {"mute": "", "blank": " "}.get(self.flaw, "yes" if right else "no")
        return "", float(right), True, said


class Plain(gym.Env):
    """By another author: no feedback, no gold answer and, if asked, a warning from Gymnasium's checker."""

    observation_space = action_space = UnicodeText()
    metadata = {"render_modes": []}

    def __init__(self, warns=False):
        self.warns = warns

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return f"say {self.np_random.integers(10**9)}", {}

    def step(self, action):
        if self.warns:
            warnings.warn("deprecated", stacklevel=2)
        return "", 0.0, True, False, {}


gym.register("tools/Add-v0", entry_point="test_commands:Add")
gym.register("tools/Plain-v0", entry_point="test_commands:Plain")


@pytest.mark.parametrize(
    ("flaw", "kind"),
    [
        ("gold", "gold"),
        ("banana", "wrong: texts"),
        ("swap", "wrong: the gold answers of other"),
        ("blank", "feedback"),
        ("overlap", "overlap: train and val share 100%"),
        ("global", "global generators"),
        ("numpy", "global generators"),
        ("hash seed", "determinism"),
        ("scores drift", "check_env"),
        ("info", "check_env|raised"),
        ("broken", "raised: EnvironmentFault: no server"),
    ],
)
def test_every_flaw_is_found(flaw, kind):
    report = checks.check(ADD, {"flaw": flaw})
    assert not report.ok
    assert any(problem.startswith(tuple(kind.split("|"))) for problem in report.problems), report.problems
    json.dumps(report.as_dict())


def test_a_sound_environment_passes():
    report = checks.check(ADD)
    assert report.ok and report.problems == report.notes == []
    assert (report.gold, report.overlap, report.feedback, report.name) == (1.0, 0.0, "own", "tools/Add-v0")
    assert 0 < report.reset_ms < 100 and 0 < report.step_ms < 100
    assert checks.check(ADD, {"size": 3}).ok  # fewer instances than asked for
    assert "no gold answers" in checks.check(ADD, {"flaw": "no gold"}).notes
    mute = checks.check(ADD, {"flaw": "mute"})
    assert mute.ok and mute.feedback == "made" and "feedback is made" in mute.notes[0]


@pytest.mark.filterwarnings("ignore:deprecated")
def test_other_authors_environments_can_be_checked():
    report = checks.check("test_commands:tools/Plain-v0")
    assert report.ok and report.feedback == "made" and len(report.notes) == 2
    assert "check_env: UserWarning" in checks.check("test_commands:tools/Plain-v0", {"warns": True}).problems[0]
    assert checks.check("nowhere_x:a/B-v0").problems[0].startswith("raised: Error: 'nowhere_x:a/B-v0'")


@needs_library
@pytest.mark.parametrize("task", ["chain_sum", "graph_color", "tower_of_hanoi"])
def test_reasoning_gym_tasks_pass(task):
    report = checks.check("fst_envs:fst/ReasoningGym-v0", {"task": task})
    assert report.ok, report.problems
    assert (report.gold == 0.0) == (task == "graph_color")


def test_check_all_and_what_it_leaves_out_are_all_environments():
    names = {checks.Report(*target).name.split()[0] for target in checks.targets()}
    left = {name.split()[0] for name in checks.left_out()}
    assert names | left == set(ENVIRONMENTS)
    assert set(checks.NEED_ARGUMENTS) <= set(ENVIRONMENTS) and set(EXTRAS) <= set(ENVIRONMENTS)


def test_checks_run_in_several_processes(monkeypatch):
    monkeypatch.setattr(checks, "targets", lambda: [(STAR, {}), (ADD, {"flaw": "gold"})])
    assert [report.ok for report in checks.check_all(jobs=2, instances=3)] == [True, False]


def test_the_example_passes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    report = checks.check("own_environment:demo/Reverse-v0")
    assert report.ok and report.gold == 1.0, report.problems
    assert len((ROOT / "examples" / "own_environment.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    ("name", "mark", "others"),
    [
        ("order_number:smollm2/OrderNumber-v0", "#{}", ("#{}0", "#{} or #1234", "#1234")),
        ("city_name:smollm2/CityName-v0", "[{}]", ("[{}s]", "[{}] or [Milan]", "[]")),
    ],
)
def test_what_a_message_names_counts_only_if_it_alone_is_marked(monkeypatch, name, mark, others):
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "smollm2"))
    report = checks.check(name)
    assert report.ok and report.gold == 1.0 and report.overlap == 0.0, report.problems
    env = gym.make(name)
    question, info = env.reset(options={"index": 3, "split": "val"})
    wanted = info["answer"].strip("#[]")
    assert wanted in question and info["answer"] == mark.format(wanted)
    rewards = []
    for text in (f"{info['answer']} it is.", wanted, *(other.format(wanted) for other in others), ""):
        env.reset(options={"index": 3, "split": "val"})
        _, reward, _, _, told = env.step(text)
        assert wanted not in told["feedback"]
        rewards.append((reward, " must be the " in told["feedback"]))
    assert rewards == [(1.0, False), (0.0, False), *[(0.0, True)] * 3, (0.0, False)]


def test_the_docs_name_every_environment_wrapper_and_refused_task():
    text = (ROOT / "docs" / "environments.md").read_text()
    assert [name for name in (*ENVIRONMENTS, *WRAP_KEYS, *DENIED) if f"`{name}`" not in text] == []


# --- commands


def fst_env(*arguments, **kwargs):
    return CliRunner().invoke(app, list(arguments), **kwargs)


def test_list_shows_every_environment():
    output = fst_env("list", env={"COLUMNS": "200"}).output
    assert all(name in output for name in ENVIRONMENTS) and "reasoning-gym" in output


@needs_library
def test_list_names_the_tasks_of_an_environment():
    output = fst_env("list", "fst/ReasoningGym-v0").output.split()
    assert len(output) == 103 and "chain_sum" in output and "composite" not in output
    result = fst_env("list", "fst/StarGraph-v0")
    assert result.exit_code == 1 and "fst/StarGraph-v0 has no list of tasks" in result.output


@needs_library
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ("{}", "it needs task; its arguments are task, config, split, size, binary, hint, show_answer"),
        (
            '{"task": "chain_sums"}',
            "did you mean chain_sum or decimal_chain_sum? `fst env list fst/ReasoningGym-v0` names all 103",
        ),
        ('{"task": "xyz"}', "is not a task of reasoning-gym: `fst env list"),
        ('{"task": "chain_sum", "hints": true}', "it takes no argument 'hints': did you mean hint?"),
    ],
)
def test_a_missing_or_mistyped_argument_is_one_short_message(kwargs, message):
    for command in ("show", "check"):
        output = fst_env(command, "fst/ReasoningGym-v0", "--kwargs", kwargs).output.replace("\n", "")
        assert message in output and "Traceback" not in output and len(output) < 1200, output
    shown = fst_env("show", "fst/ReasoningGym-v0", "--kwargs", kwargs).output
    assert shown.count("is not a task") <= 1 and shown.count("fst_envs:fst/ReasoningGym-v0") <= 1


def test_an_id_that_is_unknown_is_said_once():
    assert fst_env("show", "no_such_x:a/B-v0").output.count("no_such_x:a/B-v0") == 1


def test_show_prints_one_instance():
    result = fst_env("show", "fst/StarGraph-v0", "--index", "3", "--split", "val", "--kwargs", '{"degree": 2}')
    assert result.exit_code == 0 and "Directed edges of a graph:" in result.output
    assert "index: 3" in result.output and "split: val" in result.output and "answer: <path>" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "fst/StarGraph-v0", "--kwargs", "{"), "--kwargs '{' is not JSON"),
        (("show", "fst/StarGraph-v0", "--kwargs", "[]"), "must be a JSON object"),
        (("show", "fst/StarGraph-v0", "--split", "dev"), "unknown split 'dev'"),
        (("show", "fst/StarGraph-v0", "--index", "-1"), "index -1 is outside"),
        (("show", "fst/StarGraph-v0", "--kwargs", '{"degree": 0}'), "degree=0"),
        (("show", "no_such_x:a/B-v0"), "no module 'no_such_x'"),
        (("check",), "name one environment, or give --all"),
        (("check", "fst/StarGraph-v0", "--all"), "name one environment, or give --all"),
        (("export", "fst/StarGraph-v0", "rows.csv"), "ends in .parquet or .jsonl"),
        (("export", "fst/HouseRules-v0", "rows.jsonl", "--n", "100000"), "hold only"),
    ],
)
def test_bad_arguments_are_one_message(arguments, message):
    result = fst_env(*arguments)
    assert result.exit_code == 1 and message in result.output.replace("\n", "") and "Traceback" not in result.output


class Hostile(ReasoningEnv):
    def load(self, index, split):
        question = "[red]\x1b[2J[/] \u202eabc\u200b\x07 [link=x]y[/link]\nsecond line \ud800 π"
        return question, {"answer": "[bold]\x1b]0;t\x07"}

    def respond(self, text):
        return "", 0.0, True, f"[blink]\x1b[31m{text}"


gym.register("tools/Hostile-v0", entry_point="test_commands:Hostile")


def test_what_an_environment_says_is_shown_as_data():
    assert visible("a\x1b[1m\r\n\tπ\u202e\ud800") == "a\\x1b[1m\\r\n\\tπ\\u202e\\ud800"
    for result in (
        fst_env("show", "test_commands:tools/Hostile-v0"),
        fst_env("play", "test_commands:tools/Hostile-v0", input="[/bold]\n"),
    ):
        assert result.exit_code == 0, result.output
        assert r"[red]\x1b[2J[/] \u202eabc\u200b\x07 [link=x]y[/link]" in result.output
        assert "second line \\ud800 π" in result.output
        assert not set("\x1b\x07\u202e") & set(result.output)
    assert r"[blink]\x1b[31m[/bold]" in result.output


def test_play_by_hand():
    result = fst_env("play", ADD, input="what?\n")
    assert result.exit_code == 0 and "reward 0" in result.output and "feedback no" in result.output
    question, gold = rows(ADD, {}, "train", 1)[0]["prompt"][0]["content"], rows(ADD, {}, "train", 1)[0]["reward_model"]
    result = fst_env("play", ADD, input=gold["ground_truth"] + "\n")
    assert question in result.output and "reward 1" in result.output
    assert fst_env("play", ADD, input="").exit_code == 0  # the terminal is closed


def test_check_reports_and_exits(tmp_path):
    file = tmp_path / "found.json"
    result = fst_env("check", ADD, "--kwargs", '{"flaw": "gold"}', "--json", str(file))
    assert result.exit_code == 1 and "a gold answer must score best" in result.output.replace("\n", " ")
    assert json.loads(file.read_text())["environments"][0]["problems"][0].startswith("gold: ")
    assert fst_env("check", ADD).exit_code == 0


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_exported_rows_score(ending, tmp_path):
    file = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    result = fst_env("export", "fst/StarGraph-v0", str(file), "--n", "7", "--split", "val", "--kwargs", '{"degree": 2}')
    assert result.exit_code == 0 and "7 rows" in result.output
    if ending == "parquet":
        data = parquet.read_table(file).to_pylist()
    else:
        data = [json.loads(line) for line in file.read_text().splitlines()]
    assert [list(row) for row in data] == [["data_source", "prompt", "ability", "reward_model", "extra_info"]] * 7
    for row, made in zip(data, rows(STAR, {"degree": 2}, "val", 7), strict=True):
        assert row["prompt"] == made["prompt"] and row["reward_model"] == made["reward_model"]
        gold = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], gold, gold, row["extra_info"])["score"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_failed_export_leaves_no_file(tmp_path):
    pytest.importorskip("pyarrow")
    row = rows(STAR, {}, "train", 1)[0]
    with pytest.raises(Exception, match="surrogates|utf"):
        write_rows([{**row, "data_source": "\ud800"}], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
