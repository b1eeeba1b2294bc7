"""`fst prompts` on a run's folder."""

import pytest
from cycles import fast_weights
from rule_world import SEED, World, make_problems
from typer.testing import CliRunner

from fst_plugin.cli import app
from fst_plugin.record import lineage


@pytest.fixture
def run(tmp_path):
    weights, _ = fast_weights(tmp_path / "checkpoints" / "fst")
    for cycle in range(2):
        weights.evolve(1 + 3 * cycle, f"w{cycle}", make_problems(48, cycle), World(reliability=0.8))
    return tmp_path / "checkpoints", weights


def test_every_prompt_of_every_cycle_is_listed_with_its_lineage(run):
    folder, weights = run
    found = lineage.entries(folder)
    carried = [e for e in found if e.cycle == 1 and e.rank is not None]
    assert [e.text for e in carried] == [p.text for p in weights.population.prompts]
    assert [e.rank for e in carried] == list(range(len(carried)))
    digests = {e.digest for e in found}
    assert {e.parent for e in found if e.parent} <= digests | {weights.state.seed_digest}
    assert lineage.best(folder).text == weights.population.best.text


def test_the_command_lists_shows_the_best_and_diffs(run):
    folder, weights = run
    runner = CliRunner(env={"COLUMNS": "200"})
    listed = runner.invoke(app, ["prompts", str(folder)])
    assert listed.exit_code == 0 and weights.population.best.digest in listed.output
    assert runner.invoke(app, ["prompts", str(folder), "--best"]).output.strip() == weights.population.best.text
    seed = weights.state.seed_digest
    diff = runner.invoke(app, ["prompts", str(folder), "--diff", seed[:6], weights.population.best.digest[:6]])
    assert diff.exit_code == 0 and any(line.startswith("+Write") for line in diff.output.splitlines()), diff.output
    assert SEED in diff.output
    assert "names 0 prompts" in runner.invoke(app, ["prompts", str(folder), "--diff", "zz", seed]).output
    missing = runner.invoke(app, ["prompts", str(folder / "nowhere")])
    assert missing.exit_code == 1 and "trainer.default_local_dir" in missing.output
