"""Claims and controls through TRL on made-up runs: what is run and what is not repeated, the controls' own optimizers,
figures whose answers are known, and the committed tables."""

import importlib
import sys
from pathlib import Path

import pytest

from fst_plugin import Population
from fst_plugin.prompts import Prompt
from fst_plugin.rollouts import Problem, Rollout, Trace

FOLDER = Path(__file__).parents[2] / "examples" / "paper_claims"
NAMES = ("trl_arms", "trl_plan", "trl_runs", "make_trl_results")
SEED = "You are a helpful assistant."


@pytest.fixture(scope="module")
def files():
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)


RL = {3e-4: 0.2, 1e-3: 0.6, 3e-3: 0.5, 1e-2: 0.1}  # RL's last validation by rate
END = {"static": 0.5, "prompts_then_rl": 0.8, "rl_then_prompts": 0.7, "slow_only": 0.3, "fst": 0.9, "fst_k1": 0.95}


class Fake:
    """`train` without TRL: RL rises evenly to its end, and never leaves 0 on the task with a form; every other arm is
    at its end from step 4 on, and at half of it under the seed prompt."""

    def __init__(self, stop_after=10**6):
        self.ran, self.stop_after = [], stop_after

    def __call__(self, job):
        if len(self.ran) == self.stop_after:
            raise KeyboardInterrupt
        self.ran.append(job.name)
        steps = []
        for step in range(0, 25, 4):
            peak = 0.0 if job.task == "house_rules_format" else RL.get(job.rate, 0.0)
            end = peak * step / 24 if job.arm == "rl" else END[job.arm] * min(step, 4) / 4
            end += 0.05 * (step > 12 and job.task == "house_rules_format" and job.arm == "fst")
            data = {"val-core/eval/reward/mean@1": end, "fst/rollouts_slow_total": 128.0 * step}
            data["actor/kl_loss"] = (0.1 if job.arm == "rl" else 0.01) * step
            if job.arm != "rl":
                seed = {"val-core/eval/seed_prompt/reward/mean@1": end / 2, "fst/rollouts_fast_total": 256.0}
                data |= seed
            steps.append([step, data])
        return {"stages": [steps], "prompts": [], "seconds": 36.0}


@pytest.fixture
def perform(files, tmp_path, monkeypatch):
    """Runs the program into one file; returns what it ran."""
    monkeypatch.setattr(files["trl_runs"], "made", lambda: {"date": "2026-11-27", "trl": "1.16.0"})

    def run(*given, fake=None):
        fake = fake or Fake()
        monkeypatch.setattr(files["trl_runs"], "train", fake)
        code = files["trl_runs"].main([*given, "--json", str(tmp_path / "r.json.gz")])
        return code, fake.ran

    return run


def test_the_claims_are_three_tasks_with_rl_at_its_best_rate(perform):
    code, ran = perform("--only", "claims", "--seeds", "2")
    assert code == 0 and len(ran) == len(set(ran)) == 4 + 12 - 1, "the sweep's own run at the best rate is the first"
    assert "claims/house_rules_format/rl_lr0.001_1" in ran and "claims/house_rules_places/fst_lr0.0003_0" in ran


def test_rl_and_fst_are_swept_alike_and_the_other_controls_take_the_best_rate_of_one_of_them(perform):
    _, ran = perform("--only", "controls", "--seeds", "2")
    for arm in ("rl", "fst"):
        assert {f"controls/house_rules_codes/{arm}_lr{rate:g}_0" for rate in RL} <= set(ran)
    rates = {"static": 1e-3, "rl_then_prompts": 1e-3, "prompts_then_rl": 3e-4, "slow_only": 3e-4, "fst_k1": 3e-4}
    for arm, rate in rates.items():
        own = {name for name in ran if f"/{arm}_lr" in name}
        tasks = ["house_rules_long"] if arm == "fst_k1" else ["house_rules_codes", "house_rules_long"]
        assert own == {f"controls/{task}/{arm}_lr{rate:g}_{seed}" for task in tasks for seed in (0, 1)}


def test_an_interrupted_call_goes_on_and_repeats_nothing(perform):
    first = Fake(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        perform("--only", "claims", fake=first)
    _, rest = perform("--only", "claims")
    assert len(first.ran) == 5 and not set(first.ran) & set(rest)
    assert perform("--only", "claims") == (0, [])
    _, more = perform("--only", "claims", "--seeds", "4")
    assert len(more) == 6 and all(name.endswith("_3") for name in more)


def test_a_run_with_other_settings_is_refused(perform, capsys):
    perform("--only", "claims", "--seeds", "1")
    assert perform("--only", "claims", "--seeds", "1", "--quick") == (1, [])
    assert "with other settings: give --json another file" in capsys.readouterr().err


def test_the_plan_starts_nothing(perform, capsys):
    assert perform("--plan", "--seeds", "1") == (0, [])
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len({line.split()[-1] for line in listed}) and any("/static_" in line for line in listed)


def test_the_tables_say_what_the_runs_do(files, perform, tmp_path):
    perform("--seeds", "3")
    make = files["make_trl_results"]
    text = make.make(files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], make.verl_runs())
    # FST is at RL's end of step 24 from step 4 on: 4 / 24, and (4 * 128 + 256) / (24 * 128)
    assert "| house_rules_codes | slow steps to RL's peak, FST over RL | 0.17 | 0.17 [0.17, 0.33] |  |" in text
    assert "| house_rules_codes | total rollouts to RL's peak, FST over RL | 0.25 | 0.32 [0.31, 0.57] | yes |" in text
    assert "| house_rules_codes | last validation: fst | 0.90 | 0.99 [0.97, 0.99] | yes |" in text
    assert (
        "| house_rules_format | first validation above 0: rl | never, never, never | never, never, never |  |" in text
    )
    assert "| house_rules_format | first validation above 0: fst | 4, 4, 4 | 2, 2, 2 |  |" in text
    last = "| house_rules_format | last validation: fst | 0.90 | 0.90 [0.76, 0.94] |  |"
    assert last in text, "at step 12, where verl's runs end"
    assert "| house_rules_codes | KL at the end, nats a token: rl | 2.40 | 0.73 [0.71, 1.10] | yes |" in text
    assert "| rl | 0, 1, 2 | 0.001 | 0.60 | 0.60 | 3,072 | 0 |" in text
    assert "| fst | 0, 1, 2 | 0.0003 | 0.90 | 0.45 | 3,072 | 256 |" in text
    assert "| prompts_then_rl | 0, 1, 2 | 0.10; 3 won, 0 lost | 0.05; 3 won, 0 lost |" in text
    assert "| fst_k1 | 0, 1, 2 | -0.05; 0 won, 3 lost | -0.02; 0 won, 3 lost |" in text
    assert "| rl | 0, 1, 2 | 0.30; 3 won, 0 lost | -0.15; 0 won, 3 lost |" in text, "losses stand next to wins"
    assert "| controls | rl | 0.20 | 0.60 (chosen) | 0.50 | 0.10 |" in text


def test_intervals_that_meet_are_not_apart(files):
    whole, rounded = ({"value": v, "low": low, "high": v} for v, low in ((71 / 72, 0.9), (1.0, round(71 / 72, 6))))
    assert files["make_trl_results"]._pair([{**whole, "high": round(71 / 72, 6)}, {**rounded, "low": 71 / 72}])[2] == ""
    assert files["make_trl_results"]._pair([whole, {**rounded, "low": 0.99}])[2] == "yes"


def test_arms_are_compared_over_the_seeds_that_both_have_finished(files, perform, tmp_path):
    perform("--only", "controls", "--seeds", "3")
    runs, make = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], files["make_trl_results"]
    del runs["controls/house_rules_codes/static_lr0.001_2"]
    for seed in range(3):
        del runs[f"controls/house_rules_codes/slow_only_lr0.0003_{seed}"]
    text = "\n".join(make.control_tables(make.Found(runs), "house_rules_codes"))
    assert "Not finished: slow_only." in text and "| slow_only |" not in text
    assert "| static | 0, 1 | 0.001 | 0.50 |" in text and "| static | 0, 1 | 0.40; 2 won, 0 lost |" in text
    assert "| rl | 0, 1, 2 | 0.30; 3 won, 0 lost |" in text


def test_runs_of_two_versions_are_not_put_into_one_table(files, perform, tmp_path):
    perform("--only", "claims", "--seeds", "1")
    runs = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"]
    next(iter(runs.values()))["made"]["trl"] = "1.17.0"
    with pytest.raises(ValueError, match="made by different versions"):
        files["make_trl_results"].make(runs, {})


def test_every_arm_has_the_same_budget(files):
    plan = files["trl_plan"]
    for arm in (*plan.ARMS, plan.ONE_PROMPT):
        *before, last = plan.stages(plan.Job("controls", plan.FIRST, arm, 0, 1e-3))
        sizes, step = plan.Sizes(), plan.BATCH * plan.GROUP
        if before:  # RL first: what it leaves is a fast phase and the one step that follows it, without learning
            assert before[0].until == sizes.budget - sizes.fast - step and last.rate == 0.0
            assert last.fst["fast"]["budget"] == sizes.fast and last.until <= step
        else:
            assert last.until == sizes.budget == last.steps * step and last.rate == 1e-3


def test_the_claims_tasks_and_rates_are_those_of_verls_claims(files, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    pytest.importorskip("omegaconf")
    plan = importlib.import_module("plan")
    own = files["trl_plan"]
    assert own.RATES == plan.RATES and own.FST_RATE == plan.Setup.learning_rate
    assert (own.BATCH, own.GROUP, own.CYCLE) == (plan.Setup.batch, plan.Setup.group, plan.Setup.slow_steps)
    sizes = plan.Lengths()
    assert (own.Sizes.steps, own.Sizes.every, own.Sizes.problems) == (sizes.main, sizes.test_every, sizes.val_size)
    for task in own.CLAIM_TASKS:
        given = dict(one.split("=", 1) for one in plan.task_arguments(task, 2))
        kwargs = own.task_kwargs(task, 2)
        assert given["+data.env.kwargs.book"] == str(kwargs["book"])
        assert given.get("+data.env.kwargs.kinds", "[codes]") == f"[{','.join(kwargs.get('kinds', ['codes']))}]"


def test_no_prompt_can_hold_the_long_book(files):
    from fst_envs.house.language import tokenize
    from fst_envs.house.rules import draw_book

    plan = files["trl_plan"]
    rules = draw_book(**plan.task_kwargs(plan.LONG, 1)).rules()
    lines = [len(tokenize(rule + "\n")) for rule in rules]
    assert len(lines) == 24 and sum(lines) > 1.8 * plan.CAP[plan.LONG]
    assert 4 * plan.CAP[plan.LONG] > sum(lines), "four prompts can"


# ------------------------------------------------------------------------------------------------------- the controls


def evolve(optimizer, *prompts, traces=()):
    def evaluate(cells):
        raise AssertionError("this control has no rollouts of its own")

    return optimizer.evolve(Population(prompts), [], evaluate, cycle=1, seed=7, traces=traces)


def test_static_prompts_are_the_seed_and_paraphrases_that_the_policy_knows(files):
    from fst_envs.house.language import OPENERS

    texts = files["trl_plan"].PARAPHRASES
    found = evolve(files["trl_arms"].Static(texts), Prompt(SEED))
    assert [prompt.text for prompt in found.population.prompts] == [SEED, *texts] and found.metrics == {}
    assert SEED not in texts and set(texts) <= set(OPENERS)


def traced(scores, feedback):
    """One problem. scores: prompt -> its score there."""
    problem = Problem(feedback, ({"role": "user", "content": f"about {feedback}"},))
    return Trace(problem, {prompt.digest: Rollout(score, feedback=feedback) for prompt, score in scores.items()})


def test_evolution_from_slow_rollouts_keeps_the_better_half_and_states_what_the_best_one_lacks(files):
    good, fair, bad, worst = (Prompt(text) for text in ("Good.", "Fair.", "Bad.", "Worst."))
    traces = [
        traced({good: 0.0, fair: 0.0, bad: 0.5, worst: 0.0}, "Write horse E5."),
        traced({good: 1.0, fair: 1.0, bad: 0.0, worst: 0.0}, "Write lamb B5."),
        traced({good: 1.0, fair: 0.0, bad: 0.0, worst: 0.0}, "Write duck A1."),
    ]
    found = evolve(files["trl_arms"].SlowOnly(records=2), bad, worst, fair, good, traces=traces)
    texts = [prompt.text for prompt in found.population.prompts]
    assert texts[:2] == ["Good.", "Fair."], "a new prompt does not lead before it was trained under"
    assert texts[2] == "Good.\nWrite horse E5."
    assert set(texts[3].splitlines()) == {"Fair.", "Write horse E5.", "Write duck A1."}
    assert found.metrics == {"reflection_calls": 2.0}


def test_evolution_from_slow_rollouts_waits_for_the_first_ones(files):
    found = evolve(files["trl_arms"].SlowOnly(), Prompt(SEED))
    assert [prompt.text for prompt in found.population.prompts] == [SEED] and found.metrics == {}


def test_the_committed_tables_are_those_of_the_committed_runs(files, tmp_path):
    assert files["make_trl_results"].main(["-o", str(tmp_path / "R.md")]) == 0
    assert (tmp_path / "R.md").read_text() == (FOLDER / "RESULTS_TRL.md").read_text()
    assert (FOLDER / "results_trl.json.gz").stat().st_size < 300_000
