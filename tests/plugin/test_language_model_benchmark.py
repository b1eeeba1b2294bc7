"""The benchmark of a small language model: what is run, what is kept, and its table."""

import json

import pytest
from fst_envs.instances import load_splits
from programs import imported

from fst_plugin.config import parse
from fst_plugin.examples import split
from fst_plugin.policy import Policy


@pytest.fixture(scope="module")
def benchmark():
    with imported("benchmarks", "language_model") as found:
        yield found["language_model"]


def run(score, unaided=None):
    best = {step: (score if step else 0.0) for step in (0, 3, 6, 9)}
    seed_prompt = {} if unaided is None else dict.fromkeys(best, unaided)
    rest = {"rewards": [score] * 9, "fast_rollouts": 40, "prompts": [], "seconds": 1}
    return {"best": best, "seed_prompt": seed_prompt, **rest}


def test_finished_runs_are_kept_and_the_table_has_every_seed(benchmark, tmp_path, monkeypatch, capsys):
    asked = []

    def train(model, task, arm, seed, rate):
        asked.append((model, task, arm, seed, rate))
        score = 0.5 + 0.25 * (arm == "hybrid") + 0.125 * seed
        return run(score, None if arm == "rl" else 0.0625)

    monkeypatch.setattr(benchmark, "train", train)
    given = ["m", "--json", str(tmp_path / "c.json"), "--seeds", "2", "--tasks", "order", "--arms", "rl", "hybrid"]
    assert benchmark.main(given) == 0
    expected = [("m", "order", arm, seed, 1e-4) for seed in (0, 1) for arm in ("rl", "hybrid")]
    assert asked == expected
    assert benchmark.main(given) == 0 and asked == expected, "none is run twice"
    assert benchmark.main([*given, "--seeds", "1", "--arms", "rl", "--rates", "1e-4", "2e-4", "5e-5", "2e-5"]) == 0
    assert asked[4:] == [("m", "order", "rl", 0, rate) for rate in (2e-4, 5e-5, 2e-5)]
    kept = json.loads((tmp_path / "c.json").read_text())["runs"]
    swept = ["order/rl@0.0002/0", "order/rl@2e-05/0", "order/rl@5e-05/0"]
    assert sorted(kept) == ["order/hybrid/0", "order/hybrid/1", "order/rl/0", "order/rl/1", *swept]
    capsys.readouterr()
    assert benchmark.main(["--json", str(tmp_path / "c.json"), str(tmp_path / "no.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "order" in line]
    steps, none = ["0.50, 0.62"] * 3, "0.50, 0.62"
    assert [row[1] for row in rows] == ["rl@2e-05", "rl@5e-05", "rl", "rl@0.0002", "hybrid"]
    assert rows[2] == ["order", "rl", "0, 1", *steps, none, "0.50, 0.62", "40, 40"], "its prompt is the seed prompt"
    assert rows[4] == ["order", "hybrid", "0, 1", *["0.75, 0.88"] * 3, "0.06, 0.06", "0.75, 0.88", "40, 40"]


def test_the_untrained_model_is_measured_by_itself(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "train", lambda *_: pytest.fail("nothing is trained"))
    monkeypatch.setattr(benchmark, "base", lambda model, task: {"none": 0.0625, "2 as turns": 0.8125})
    assert benchmark.main(["m", "--json", str(tmp_path / "c.json"), "--tasks", "order", "--base"]) == 0
    assert "base/order none: 0.06, 2 as turns: 0.81" in capsys.readouterr().out


class Obedient:
    """In place of the untrained model: right where the prompt shows an example, and on the last problem of every three
    where it states the form."""

    tokenizer = None

    def __init__(self, model, task, sizes):
        self.splits = load_splits({"order": "order_number:smollm2/OrderNumber-v0"}[task], {}, sizes)

    def judged(self, rows, prompts):
        found = []
        for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            right = "<example>" in prompt or (RULE in prompt and number % 3 == 2)
            text = row["reward_model"]["ground_truth"] if right else "Hello"
            found.append((text, float(right), "Correct." if right else FORM))
        return found

    def reward(self, prompt):
        return float("<example>" in prompt)


RULE = "Always start your reply with # and the order number."
FORM = f'{RULE} Example: "My order 5521 is wrong" -> #5521'


def test_prompts_of_the_untrained_model_are_evolved_with_examples_and_without(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "Untrained", Obedient)
    monkeypatch.setattr(benchmark.Policy, "of_tokenizer", lambda tokenizer, most, window: Policy(most))
    given = ["m", "--json", str(tmp_path / "c.json"), "--tasks", "order", "--seeds", "1", "--alone"]
    assert benchmark.main(given) == 0
    runs = json.loads((tmp_path / "c.json").read_text())["runs"]
    assert sorted(runs) == ["alone/order/examples/0", "alone/order/instructions/0"]
    shown, told = (runs[name] for name in sorted(runs))
    assert shown["best"] == 1.0 and "<answered>" in shown["prompts"][0] and told["best"] == 0.0
    assert any(RULE in text for text in told["prompts"])
    assert all(one.answer.strip("#") in one.question for text in shown["prompts"] for one in split(text)[1])
    assert shown["fast_rollouts"] <= 192 and told["fast_rollouts"] <= 192
    assert f"alone/order/examples 1.00 after {shown['fast_rollouts']} rollouts" in capsys.readouterr().out


def test_arms_differ_in_what_they_are_named_by_alone(benchmark):
    configs = {arm: parse(benchmark.fst_of(arm, 7)) for arm in benchmark.ARMS}
    plain = configs.pop("instructions")
    assert plain.seed == 7 and plain.enabled and not plain.shows_examples and plain.fast.when == "before"
    changed = {
        "examples": {"components": ("instructions", "examples")},
        "hybrid": {"fast": plain.fast.model_copy(update={"when": "hybrid"})},
        "rl": {"enabled": False},
        "rl_told": {"enabled": False},
    }
    assert configs == {arm: plain.model_copy(update=own) for arm, own in changed.items()}


def test_the_form_stands_in_the_tasks_own_module(benchmark):
    assert "#" in benchmark.form_of("order") and "[" in benchmark.form_of("city")
    assert benchmark.told("city", "rl_told").splitlines()[1:] == [benchmark.form_of("city")]
    assert {benchmark.told("city", arm) for arm in benchmark.ARMS if arm != "rl_told"} == {benchmark.SEED_PROMPT}


def test_the_table_of_the_kept_runs_has_every_run(benchmark, capsys):
    """benchmarks/language_model.json is what the docs' tables are made from."""
    path = benchmark.Path(benchmark.__file__).with_suffix(".json")
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert benchmark.main(["--json", str(path)]) == 0
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if "│" in line]
    shown = {
        f"{task}/{arm}/{seed}": (last, trained)
        for task, arm, seeds, _, _, lasts, _, means, _ in rows
        for seed, last, trained in zip(*(cell.split(", ") for cell in (seeds, lasts, means)), strict=True)
    }
    assert shown == {
        name: (f"{found['best']['9']:.2f}", f"{sum(found['rewards']) / 9:.2f}")
        for name, found in runs.items()
        if name.startswith(("city/", "order/"))
    }
    assert all(name.rpartition("/")[0] in said for name in runs if name.startswith("alone/"))
    page = (path.parents[1] / "examples" / "smollm2" / "README.md").read_text(encoding="utf-8")
    assert said[: said.rindex("┘") + 1] in page


@pytest.mark.parametrize("given", [["--base", "--alone"], ["--alone", "--arms", "rl"]])
def test_what_does_not_go_together_is_refused(benchmark, tmp_path, capsys, given):
    with pytest.raises(SystemExit):
        benchmark.main(["m", "--json", str(tmp_path / "c.json"), *given])
    assert "--alone" in capsys.readouterr().err
