"""What a cycle leaves behind for people, how it is read, and `fst prompts`."""

import json

import pytest
from cycles import fast_weights
from rule_world import SEED, World, make_problems
from typer.testing import CliRunner

from fst_plugin import optimizer
from fst_plugin.cli import app
from fst_plugin.prompts import Population, Prompt, Score
from fst_plugin.record import cycles
from fst_plugin.record.cycles import MAX_DIFF, diff, prompt_rows, read_cycle, read_record, write_cycle
from fst_plugin.record.journal import Journal
from fst_plugin.record.sealed import UnusableFile


def test_every_candidate_its_records_and_its_diff_are_kept(tmp_path):
    weights, _ = fast_weights(tmp_path)
    problems = make_problems(48)
    metrics = weights.evolve(1, "w", problems, World())
    folder = tmp_path / "cycle_0000"
    population = json.loads((folder / "population.json").read_text())
    assert [p["text"] for p in population["prompts"]] == [p.text for p in weights.population.prompts]
    assert population["prompts"][0]["scores"]
    candidates = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    assert len(candidates) == metrics["proposals_accepted"] + metrics["proposals_rejected"]
    ids = {p.id for p in problems}
    for candidate in candidates:
        assert candidate["verdict"] in ("rejected", "outranked", "scored", "carried", "leads")
        assert candidate["records"] and {r["problem"] for r in candidate["records"]} <= ids
        assert candidate["parents"] and f"+++ {candidate['digest']}" in candidate["diff"]
        assert all(line[1:] in candidate["text"] or line[1:] in SEED or line[0] in "-@ +" for line in
                   candidate["diff"].splitlines())  # fmt: skip
    ledger = json.loads((folder / "ledger.json").read_text())
    assert sum(ledger["verdicts"].values()) == len(candidates)
    assert ledger["evidence"]["adopted"] and ledger["evidence"]["margin"] > 0 and ledger["evidence"]["problems"] >= 2
    assert ledger["new_population"][0] == ledger["evidence"]["challenger"] == weights.population.best.digest


@pytest.fixture
def run(tmp_path):
    weights, _ = fast_weights(tmp_path / "checkpoints" / "fst", fast={"proposals": 4})
    for cycle in range(2):
        weights.evolve(1 + 3 * cycle, f"w{cycle}", make_problems(48, cycle), World(reliability=0.8))
    return tmp_path / "checkpoints", weights


def test_what_was_written_is_what_is_read(tmp_path, monkeypatch):
    weights, _ = fast_weights(tmp_path)
    given, write = [], cycles.write_cycle
    monkeypatch.setattr("fst_plugin.phase.write_cycle", lambda *a: given.append(a) or write(*a))
    weights.evolve(1, "w", make_problems(48), World())
    ((_, old, evolution),) = given
    found = read_cycle(tmp_path / "cycle_0000")
    assert (found.number, found.finished, found.evidence) == (0, True, evolution.evidence)
    assert found.population == evolution.population.prompts and found.candidates == evolution.candidates
    assert found.metrics == evolution.metrics and found.old == {p.digest: p.text for p in old.prompts}
    assert (found.rollouts, found.reflections) == (found.metrics["rollouts"], found.metrics["reflection_calls"])


def test_every_prompt_of_every_cycle_is_listed_with_its_lineage(run):
    folder, weights = run
    rows = read_record(folder).rows()
    carried = [row for row in rows if row.cycle == 1 and row.rank is not None]
    assert [row.prompt for row in carried] == list(weights.population.prompts)
    assert [row.rank for row in carried] == list(range(len(carried)))
    assert {row.parent for row in rows if row.parent} <= {r.prompt.digest for r in rows} | {weights.state.seed_digest}
    assert read_record(folder).best() == weights.population.best


def test_every_prompt_that_was_in_or_out_of_the_population_has_a_row_that_says_what_happened():
    seed, old, new, bad, gone = (Prompt(text) for text in ("seed", "old", "new", "bad", "gone"))
    tried = (optimizer.Candidate(new, "carried"), optimizer.Candidate(bad, "refused"))
    before = {p.digest: p.text for p in (seed, gone, old)}
    rows = prompt_rows(cycles.Cycle(3, True, (old, new, seed), tried, before))
    assert [(row.prompt.text, row.verdict, row.was, row.rank) for row in rows] == [
        ("old", "leads", 2, 0),
        ("new", "carried", None, 1),
        ("seed", "carried", 0, 2),
        ("gone", "dropped", 1, None),
        ("bad", "refused", None, None),
    ]
    assert not any(r.verdict == "dropped" for r in prompt_rows(cycles.Cycle(3, False, (), tried, before))), "it runs"


def test_what_a_phase_scored_is_recorded_with_what_it_dropped_and_left_behind(run):
    """No prompt that was scored is without its score, whether it was carried, left behind or dropped."""
    folder, weights = run
    first, second = read_record(folder).cycles
    seen = {row.verdict: row for row in prompt_rows(first)} | {row.verdict: row for row in prompt_rows(second)}
    assert {"leads", "carried", "scored", "dropped"} <= seen.keys()
    for row in (r for cycle in (first, second) for r in prompt_rows(cycle)):
        assert row.verdict in ("rejected", "outranked", "refused") or row.prompt.scores, row.verdict
        assert row.candidate is None or row.candidate.margin is None or row.candidate.tested >= 1
    dropped = [row for row in prompt_rows(second) if row.verdict == "dropped"]
    assert {row.prompt.digest for row in dropped} == second.old.keys() - {p.digest for p in second.population}
    texts = {p.digest: p for p in first.population}
    assert all(row.prompt.parents == texts[row.prompt.digest].parents for row in dropped)


def test_an_optimizer_that_names_no_dropped_prompts_leaves_them_without_scores(tmp_path):
    old, new = Prompt("old", scores={"p": Score(1.0)}), Prompt("new")
    evolution, folder = optimizer.Evolution(Population((new,))), tmp_path / "cycle_0000"
    Journal(folder, {}).finish(evolution, write_cycle(folder, Population((old,)), evolution))
    (found,) = read_cycle(tmp_path / "cycle_0000").dropped
    assert found == old and found.scores == {}, "they are another phase's scores"


def test_a_checkpoint_lists_the_population_that_it_holds(run):
    folder, weights = run
    saved = folder / "global_step_3" / "fst"
    saved.mkdir(parents=True)
    (saved / "state.json").write_text((folder / "fst" / "state.json").read_text())
    rows = read_record(folder / "global_step_3").rows()
    assert [row.prompt for row in rows] == list(weights.population.prompts) and {row.cycle for row in rows} == {1}
    assert len(read_record(folder).rows()) > len(rows), "the run's own folder is not taken for its checkpoint's"


PARTS = ["ledger.json", "candidates.jsonl", "population.json"]


@pytest.mark.parametrize("name", ["state.json", "cycle_0001/evolution.json", *(f"cycle_0001/{part}" for part in PARTS)])
def test_a_file_that_cannot_be_used_is_named_by_the_command_too(run, name):
    folder, _ = run
    path = folder / "fst" / name
    raw = path.read_bytes()
    for content in (
        b"{",
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"evidence": {"margin": 1}}',
        raw[:-20] + b"\n",
        raw + b" {}",
    ):
        path.write_bytes(content)
        with pytest.raises(UnusableFile, match=f"{name} (is damaged or edited|has format None, this version reads)"):
            read_record(folder)
        told = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["prompts", str(folder)])
        assert told.exit_code == 1 and name in told.output and "move it away" in told.output
    path.unlink()
    if name.split("/")[-1] in PARTS:
        with pytest.raises(UnusableFile, match=f"{name} is damaged or edited .it is missing"):
            read_record(folder)


def test_a_file_of_an_earlier_version_is_refused_with_what_to_do(run):
    folder, _ = run
    path = folder / "fst" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(
        UnusableFile, match="has format 1, this version reads format 2: go on with the version that wrote"
    ):
        read_record(folder)


def test_half_files_of_a_phase_that_was_killed_are_not_read(run):
    folder, weights = run
    half = folder / "fst" / "cycle_0002"
    half.mkdir()
    for part in PARTS:
        (half / part).write_text('{"half')
    found = read_record(folder, journals=True).cycles[2]
    assert (found.finished, found.candidates, found.rollouts) == (False, (), None)
    weights.evolve(7, "w2", make_problems(48, 2), World(reliability=0.8))
    assert read_record(folder).cycles[2].finished


def test_the_command_lists_shows_the_best_and_diffs(run):
    folder, weights = run
    runner = CliRunner(env={"COLUMNS": "200"})
    listed = runner.invoke(app, ["prompts", str(folder)])
    assert listed.exit_code == 0 and weights.population.best.digest in listed.output
    assert "rejected" not in listed.output and "kept" not in listed.output
    assert "rejected" in runner.invoke(app, ["prompts", str(folder), "--all"]).output
    assert runner.invoke(app, ["prompts", str(folder), "--best"]).output.strip() == weights.population.best.text
    seed = weights.state.seed_digest
    diff = runner.invoke(app, ["prompts", str(folder), "--diff", seed[:6], weights.population.best.digest[:6]])
    assert diff.exit_code == 0 and any(line.startswith("+Write") for line in diff.output.splitlines()), diff.output
    assert SEED in diff.output
    assert "names 0 prompts" in runner.invoke(app, ["prompts", str(folder), "--diff", "zz", seed]).output
    missing = runner.invoke(app, ["prompts", str(folder / "nowhere")])
    assert missing.exit_code == 1 and "trainer.default_local_dir" in missing.output


def test_a_diff_of_long_texts_is_right_bounded_and_says_so(monkeypatch):
    compared = []
    monkeypatch.setattr(cycles.difflib, "unified_diff", lambda a, b, *names, **more: compared.append(len(a)) or [])
    same = ["the same line"] * (4 * MAX_DIFF)
    old, new = [*same[:1500], "old", "older", *same], [*same[:1500], "new", *same]
    lines = diff("\n".join(old), "\n".join(new), "a", "b").splitlines()
    assert lines[:2] == ["--- a", "+++ b"] and lines[3:] == ["-old", "-older", "+new"]
    assert lines[2].startswith("@@ -1501,2 +1501,1 @@") and "not compared one by one" in lines[2]
    assert not compared and diff("\n".join(same), "\n".join(same), "a", "b") == ""
    added = diff("\n".join(same), "\n".join([*same, "more"]), "a", "b").splitlines()
    assert added[2].startswith("@@ -2000,0 +2001,1 @@") and added[3:] == ["+more"]
    diff("a\n" * MAX_DIFF, "b\n" * MAX_DIFF, "a", "b")
    assert compared == [MAX_DIFF]
