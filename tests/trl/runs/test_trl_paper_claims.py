"""A control of the paper's claims through real TRL: two trainings of the tiny policy, cut down."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.trl
FOLDER = Path(__file__).parents[3] / "examples" / "paper_claims"


def test_rl_first_then_prompts_evolves_one_for_the_last_weights_within_the_budget(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import trl_plan
    import trl_runs

    job = trl_plan.Job("controls", trl_plan.FIRST, "rl_then_prompts", 0, 1e-2, trl_plan.QUICK)
    found = trl_runs.train(job)
    before, after = found["stages"]
    step, sizes = trl_plan.BATCH * trl_plan.GROUP, job.sizes
    assert before[-1][1]["fst/rollouts_slow_total"] == sizes.budget - sizes.fast - step
    assert before[-1][0] == 2
    end = after[-1][1]
    assert end["fst/rollouts_slow_total"] == step and 0 < end["fst/rollouts_fast_total"] <= sizes.fast
    assert end["actor/kl_loss"] > 0, "the weights are those that RL left"
    score = f"reward/mean@{sizes.samples}"
    assert end[f"val-core/eval/{score}"] > 0.3 > end[f"val-core/eval/seed_prompt/{score}"]
    assert trl_runs.validations(found) == [end[f"val-core/eval/{score}"]] and "Write" in found["prompts"][0]
