"""A control of the paper's claims through real TRL: two trainings of the tiny policy, cut down."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.trl
FOLDER = Path(__file__).parents[3] / "examples" / "paper_claims"


@pytest.fixture
def files(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import trl_plan
    import trl_train

    return trl_plan, trl_train


def test_rl_first_then_prompts_evolves_one_for_the_last_weights_within_the_budget(files):
    plan, runs = files
    job = plan.Job("controls", plan.FIRST, "rl_then_prompts", 0, plan.Setting(1e-2, plan.WHOLE, 2.0), plan.QUICK)
    found = runs.train(job)
    before, after = found["stages"]
    sizes, phase = job.sizes, 2 * job.sizes.fast
    assert before[-1][1]["fst/rollouts_slow_total"] == sizes.budget - phase - plan.STEP
    assert before[-1][0] == 2
    end = after[-1][1]
    assert end["fst/rollouts_slow_total"] == plan.STEP and 0 < end["fst/rollouts_fast_total"] <= phase
    assert end["actor/kl_loss"] > 0, "the weights are those that RL left"
    score = f"reward/mean@{sizes.samples}"
    assert end[f"val-core/eval/{score}"] > 0.3 > end[f"val-core/eval/seed_prompt/{score}"]
    assert plan.validations(found) == [end[f"val-core/eval/{score}"]] and "Write" in found["prompts"][0]
    assert "tries" not in found, "there is one prompt"


def test_each_of_several_prompts_is_tried_on_every_validation_problem_and_a_router_picks_one_for_each(files):
    pytest.importorskip("sklearn")
    plan, runs = files
    job = plan.Job("controls", plan.LONG, "fst", 0, plan.Setting(1e-3, 6, 2.0), plan.QUICK)
    found = runs.train(job)
    end, size = found["stages"][-1][-1][1], job.sizes
    assert end["fst/rollouts_slow_total"] + end["fst/rollouts_fast_total"] <= size.budget
    shape = {len(found["tries"])}, {len(one) for one in found["tries"]}, {len(p) for one in found["tries"] for p in one}
    assert shape == ({len(found["prompts"])}, {size.problems}, {size.samples}) and len(found["prompts"]) > 1
    assert {score for one in found["tries"] for tries in one for score in tries} <= {0.0, 1.0}
    assert len(found["picks"]) == size.problems and set(found["picks"]) <= set(range(len(found["prompts"])))


def test_a_return_trains_on_one_book_then_on_another_and_then_on_new_problems_of_the_first(files):
    plan, runs = files
    job = plan.Job("returns", plan.FIRST, "fst", 3, plan.Setting(1e-3, 2, 3.0), plan.QUICK)
    data = runs._data(job)["train_dataset"]
    size = plan.BATCH * job.sizes.stage
    books = [data["data_source"][i * size : (i + 1) * size] for i in range(3)]
    assert [set(some) for some in books] == [
        {"fst/HouseRules-v0/book-3"},
        {"fst/HouseRules-v0/book-1003"},
        set(books[0]),
    ]
    asked = [row[-1]["content"] for row in data["prompt"]]
    assert len({*asked[:size], *asked[2 * size :]}) == 2 * size

    found = runs.train(job)
    (stage,) = found["stages"]
    steps = dict(stage)
    assert sorted(steps) == list(range(7))
    for step in (0, 6):
        assert {name.split("/")[1] for name in steps[step] if name.startswith("val-")} == {"eval_first", "eval_second"}
    offered = [steps[step]["fst/archived_offered"] for step in (1, 3, 5)]
    assert offered[0] == 0 < offered[2], "what the other book's prompts replaced is offered again"
