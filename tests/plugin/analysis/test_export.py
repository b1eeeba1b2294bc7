"""`fst export`: a run's prompts for use elsewhere."""

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from statistics import mean

import pytest
from cycles import fast_weights, slow_phase
from rule_world import World, make_problems
from typer.testing import CliRunner

from fst_plugin import examples
from fst_plugin.analysis.export import PROBLEM
from fst_plugin.cli import app
from fst_plugin.examples import Example
from fst_plugin.prompts import Population, Prompt
from fst_plugin.record import state as durable
from fst_plugin.record.cycles import read_record
from fst_plugin.record.problems import text_of
from fst_plugin.record.slow_scores import SlowScores

PROBLEMS = make_problems(48)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one cycle that is saved as a checkpoint too."""
    folder = tmp_path_factory.mktemp("run")
    weights, _ = fast_weights(folder / "fst", context={"placement": "system"})
    weights.evolve(1, "w0", PROBLEMS, World(reliability=0.8))
    slow_phase(weights, World(reliability=0.8), PROBLEMS, range(1, 4))
    weights.save(folder / "global_step_3" / "fst", 3, [])
    return folder


def export(run, out, *options):
    done = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["export", str(run), "--out", str(out), *options])
    return done, json.loads(out.read_text()) if out.exists() else None


def test_best_prompt_population_and_an_example_chat_are_written(run, tmp_path):
    done, content = export(run, tmp_path / "prompts.json")
    population = read_record(run).population
    assert done.exit_code == 0, done.output
    assert content["best"]["text"] == population[0].text and content["placement"] == "system"
    assert [p["digest"] for p in content["population"]] == [p.digest for p in population] and len(population) > 1
    assert content["best"]["mean_score"] == population[0].mean_score and content["best"]["problems"] > 0
    assert content["example"]["messages"] == [
        {"role": "system", "content": population[0].text},
        {"role": "user", "content": PROBLEM},
    ]
    assert "router" not in content and str(run) not in json.dumps(content)


@pytest.mark.parametrize(
    "placement, expected",
    [("append", ["system", "user"]), ("user", ["user"])],
)
def test_another_placement_is_shown_in_the_example(run, tmp_path, placement, expected):
    _, content = export(run, tmp_path / "prompts.json", "--placement", placement)
    chat, text = content["example"]["messages"], content["best"]["text"]
    assert [m["role"] for m in chat] == expected
    joined = f"<the row's own system message>\n\n{text}" if placement == "append" else f"{text}\n\n{PROBLEM}"
    assert chat[0]["content"] == joined


def routed_by(content, scores):
    """Are these the router's anchors? scores: of each prompt, problem id -> score."""
    texts, expected = {p.id: text_of(p) for p in PROBLEMS}, sorted({id for one in scores for id in one})
    assert [a["text"] for a in content["router"]["anchors"]] == [texts[id] for id in expected]
    for anchor, id in zip(content["router"]["anchors"], expected, strict=True):
        assert anchor["scores"] == pytest.approx([one.get(id) for one in scores])


def fast_scores(run):
    return [{id: score.mean for id, score in prompt.scores.items()} for prompt in read_record(run).population]


def test_the_router_has_the_anchors_texts_and_every_prompts_scores_of_the_fast_phase(run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run / "fst", copied / "fst")
    done, content = export(copied, tmp_path / "prompts.json", "--router")
    routed_by(content, fast_scores(run))
    assert "left out" not in done.output


def test_what_the_slow_steps_scored_since_the_last_fast_phase_counts_more(run, tmp_path):
    rewards = defaultdict(lambda: defaultdict(list))
    for entry in SlowScores.load(run / "global_step_3" / "fst").entries:
        rewards[entry.prompt][entry.problem] += [entry.rollout.score]
    slow = [{id: mean(some) for id, some in rewards[p.digest].items()} for p in read_record(run).population]
    assert all(len(one) == len(PROBLEMS) for one in slow) and slow != fast_scores(run)
    done, content = export(run, tmp_path / "prompts.json", "--router")
    routed_by(content, slow)
    assert "left out" not in done.output


def test_slow_scores_are_those_of_the_newest_checkpoint_that_has_these_prompts(tmp_path):
    weights, _ = fast_weights(tmp_path / "fst", context={"placement": "system"})
    weights.evolve(1, "w0", PROBLEMS, World())
    for step in (9, 10):
        slow_phase(weights, World(), PROBLEMS[:8], [step])
        weights.save(tmp_path / f"global_step_{step}" / "fst", step, [])
    (tmp_path / "global_step_11").mkdir()  # one that is being written
    assert {entry.step for entry in read_record(tmp_path).slow_scores().entries} == {9, 10}
    weights.evolve(11, "w10", PROBLEMS, World())
    assert read_record(tmp_path).slow_scores() == SlowScores(), "of the prompts before"


def test_a_damaged_checkpoint_is_refused_by_name(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "global_step_3" / "fst" / "traces.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    refused(export(tmp_path / "run", tmp_path / "prompts.json", "--router")[0], "traces.jsonl", "global_step_3")


def test_dspy_loads_the_program_with_the_best_prompt(run, tmp_path):
    import dspy

    export(run, tmp_path / "prompts.json", "--signature", "puzzle, hint -> answer: int")
    program = dspy.Predict("puzzle, hint -> answer: int")
    program.load(str(tmp_path / "prompts.dspy.json"))
    assert program.signature.instructions == read_record(run).population[0].text.strip()
    with dspy.context(lm=dspy.utils.DummyLM([{"answer": "7"}]), adapter=dspy.ChatAdapter()):
        assert program(puzzle="3 + 4", hint="add").answer == 7


def test_examples_are_turns_of_the_chat_and_demos_of_the_program(run, tmp_path):
    import dspy

    two = (Example("Where is 12?", "#12"), Example("And 7?", "#7"))
    prompt = Prompt(examples.joined("Read.", two))
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "fst"
    durable.save(replace(durable.load(folder), population=Population((prompt,))), folder)
    done, content = export(tmp_path / "run", tmp_path / "prompts.json", "--signature", "question -> answer")
    assert done.exit_code == 0, done.output
    assert content["best"]["instructions"] == "Read."
    assert content["best"]["examples"][1] == {"question": "And 7?", "answer": "#7"}
    roles = [message["role"] for message in content["example"]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    program = dspy.Predict("question -> answer")
    program.load(str(tmp_path / "prompts.dspy.json"))
    assert program.signature.instructions == "Read."
    assert [(demo["question"], demo["answer"]) for demo in program.demos] == [("Where is 12?", "#12"), ("And 7?", "#7")]
    done, _ = export(tmp_path / "run", tmp_path / "two.json", "--signature", "question, hint -> answer")
    refused(done, "one field on each side")


def refused(done, *named):
    assert done.exit_code == 1 and done.exception is None or isinstance(done.exception, SystemExit)
    assert all(part in done.output for part in named), done.output


def test_a_router_without_the_problems_texts_is_refused(run, tmp_path):
    done, content = export(run / "global_step_3", tmp_path / "prompts.json", "--router")
    refused(done, "texts", "own folder, not a checkpoint's", "leave out --router")
    assert content is None and not (tmp_path / "prompts.dspy.json").exists()
    assert export(run / "global_step_3", tmp_path / "prompts.json")[0].exit_code == 0, (
        "without it, a checkpoint will do"
    )


def test_a_router_over_one_prompt_is_refused(tmp_path):
    weights, _ = fast_weights(tmp_path / "fst", context={"placement": "system"})
    weights.save(tmp_path / "fst", 0, [])
    refused(export(tmp_path, tmp_path / "prompts.json", "--router")[0], "one prompt", "leave out --router")


def test_anchors_whose_texts_are_not_recorded_are_counted(run, tmp_path):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "fst" / "cycle_0000" / "problems.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[2:]))
    evolution = tmp_path / "fst" / "cycle_0000" / "evolution.json"
    body = json.loads(evolution.read_text())
    body["parts"] |= durable.sealed.digests(path.parent, ["problems.jsonl"])
    durable.sealed.write(evolution, {k: v for k, v in body.items() if k not in ("format", "digest")})
    done, content = export(tmp_path, tmp_path / "prompts.json", "--router")
    assert f"2 of {len(lines)} anchors are left out" in done.output
    assert len(content["router"]["anchors"]) == len(lines) - 2


def test_a_run_that_does_not_say_where_prompts_go_asks_for_it(tmp_path):
    weights, _ = fast_weights(tmp_path / "fst")  # "auto", which nobody resolved
    weights.save(tmp_path / "fst", 0, [])
    refused(
        export(tmp_path, tmp_path / "prompts.json")[0], "does not say where prompts go", "--placement system, append"
    )
    refused(export(tmp_path, tmp_path / "prompts.json", "--placement", "auto")[0], "--placement auto")


@pytest.mark.parametrize("signature", ["question", "-> answer", "question: foo -> answer"])
def test_a_signature_that_dspy_does_not_read_is_refused(run, tmp_path, signature):
    done, content = export(run, tmp_path / "prompts.json", "--signature", signature)
    refused(done, "--signature", "question -> answer")
    assert content is None


def test_a_folder_that_is_not_a_runs_is_refused(tmp_path):
    refused(export(tmp_path, tmp_path / "prompts.json")[0], "has no fst/state.json")


def test_a_resumed_run_says_where_its_prompts_go_now(run, tmp_path):
    weights, _ = fast_weights(tmp_path / "fst", context={"placement": "user"})
    weights.restore(run / "global_step_3" / "fst", 3, data_key="data", start_over="-")
    assert weights.state.placement == "user"
