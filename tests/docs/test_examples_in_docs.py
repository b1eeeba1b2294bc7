"""Code and output that the docs show: the parts of docs/extending.md work, the first example prints what is shown."""

import re
import subprocess
import sys
from pathlib import Path

from fst_plugin import Population, Problem, Prompt, Request, Rollout, Trace
from fst_plugin.reflection.base import ReflectionRequest

ROOT = Path(__file__).resolve().parents[2]
CHAT = ({"role": "user", "content": "file this memo"},)


def shown(name):
    """A class that docs/extending.md defines."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.S):
        if f"class {name}" in block:
            space = {}
            exec(block, space)
            return space[name]
    raise AssertionError(f"docs/extending.md defines no {name}")


def test_the_context_provider_assigns_the_best_prompt():
    assigned = shown("BestOnly")(["best", "other"]).assign(Request("p", 3, 1, "train", CHAT))
    assert assigned.messages[0] == {"role": "system", "content": "best"} and assigned.rank == 0


def test_the_optimizer_ranks_by_the_slow_phases_scores():
    low, high = Prompt("low"), Prompt("high")
    trace = Trace(Problem("p", CHAT), {low.digest: Rollout(0.1), high.digest: Rollout(0.9)})
    found = shown("Rank")().evolve(Population((low, high)), [trace.problem], None, cycle=0, seed=0, traces=[trace])
    assert found.population.best == high and len(found.population) == 2


def test_the_reflection_answers_every_request(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: "better" if "good" in question else "")
    asks = [ReflectionRequest(Prompt(text), (), slot, 0, 100) for slot, text in enumerate(("good", "bad"))]
    reflection = shown("AskMe")()
    assert reflection.propose(asks) == ["better", ""] and reflection.describe()


def test_the_first_example_prints_what_the_docs_show():
    page = (ROOT / "docs" / "get_started.md").read_text()
    done = subprocess.run([sys.executable, ROOT / "examples" / "three_verbs.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"```\n{done.stdout}```" in page, f"docs/get_started.md shows another output than\n{done.stdout}"
