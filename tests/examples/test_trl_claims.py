"""Claims and controls through TRL on made-up runs: what is run and what is not repeated, several at a time and within a
time, the controls' own optimizers, figures whose answers are known, and the committed tables."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from programs import imported

from fst_plugin import Population
from fst_plugin.prompts import Prompt
from fst_plugin.rollouts import Problem, Rollout, Trace

FOLDER = Path(__file__).parents[2] / "examples" / "paper_claims"
NAMES = ("trl_arms", "trl_plan", "trl_train", "trl_runs", "trl_figures", "make_trl_results")
SEED = "You are a helpful assistant."


@pytest.fixture(scope="module")
def files():
    with imported("examples/paper_claims", *NAMES) as found:
        yield found


RL = {3e-4: 0.2, 1e-3: 0.6, 3e-3: 0.5, 1e-2: 0.1}  # RL's last validation by rate
END = {
    "static": 0.5,
    "prompts_then_rl": 0.8,
    "rl_then_prompts": 0.7,
    "slow_only": 0.3,
    "fst": 0.9,
    "fst_k1": 0.95,
    "fst_hybrid": 0.9,
    "fst_frontier": 0.85,
    "fst_examples": 0.85,
    "four_prompts_then_rl": 0.75,
}
SEVERAL = ("static", "slow_only", "fst", "fst_frontier", "fst_examples")


class Fake:
    """`train` without TRL: RL rises evenly to its end, and never leaves 0 on the task with a form; every other arm is
    at its end from step 4 on, and at half of it under the seed prompt. A rate of 3e-4 and short fast phases suit
    them."""

    def __init__(self, stop_after=10**6, fails="no run"):
        self.ran, self.stop_after, self.fails = [], stop_after, fails

    def __call__(self, job):
        if len(self.ran) == self.stop_after:
            raise KeyboardInterrupt
        if job.name == self.fails:
            raise ValueError("the weights are not finite")
        self.ran.append(job.name)
        if job.part == "returns":
            return _return(job.arm)
        steps, rate = [], job.setting.rate
        for step in range(0, 25, 4):
            peak = 0.0 if job.task == "house_rules_format" else RL.get(rate, 0.0)
            suits = 0.1 * (rate != 3e-4) + 0.02 * (job.part == "controls" and job.setting.fast > 0.5)
            end = peak * step / 24 if job.arm == "rl" else (END[job.arm] - suits) * min(step, 4) / 4
            end += 0.05 * (step > 12 and job.task == "house_rules_format" and job.arm == "fst")
            data = {"val-core/eval/reward/mean@1": end, "fst/rollouts_slow_total": 128.0 * step}
            data["actor/kl_loss"] = (0.1 if job.arm == "rl" else 0.01) * step
            if job.arm != "rl":
                seed = {"val-core/eval/seed_prompt/reward/mean@1": end / 2, "fst/rollouts_fast_total": 256.0}
                data |= seed
            steps.append([step, data])
        found = {"stages": [steps], "prompts": [], "seconds": 36.0}
        if job.part == "controls" and job.arm in SEVERAL:  # two problems, each solved under one prompt of two
            tries = [[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]]
            found |= {"tries": tries, "picks": [0, 1] if job.arm.startswith("fst") else None}
        if job.arm in ("fst", "fst_k1") and job.part == "controls":
            found["prompts"] = _prompts(job)
        return found


def _return(arm):
    """With an archive a task has 0.76 of 0.8 again a cycle after its return, without one 0.4."""
    first, back = {12: 0.8, 24: 0.1, 36: 0.8}, {"fst": 0.76, "no_archive": 0.4}[arm]
    steps = []
    for step in range(0, 37):
        data = {"fst/rollouts_fast_total": 80.0 * step, "fst/rollouts_slow_total": 128.0 * step}
        if step % 6 == 0:
            data["val-core/eval_first/reward/mean@1"] = {**first, 30: back}.get(step, 0.0)
            data["val-core/eval_first/seed_prompt/reward/mean@1"] = 0.05
            data["val-core/eval_second/reward/mean@1"] = 0.6 if step == 24 else 0.2
        if step % 6 == 1:
            data["fst/archived_revived"] = float(step == 25 and arm == "fst")
            if arm == "fst":
                data["fst/archived_rollouts"] = 6.0
        steps.append([step, data])
    return {"stages": [steps], "prompts": [], "seconds": 36.0}


def _prompts(job):
    """One prompt states seven rules, a second one five others."""
    from fst_envs.house.rules import draw_book
    from trl_plan import task_kwargs

    rules = draw_book(**task_kwargs(job.task, job.seed)).rules()
    texts = ["\n".join(["Be brief.", *some]) for some in (rules[:7], rules[7:12])]
    return texts if job.arm == "fst" else texts[:1]


@pytest.fixture
def perform(files, tmp_path, monkeypatch):
    """Runs the program into one file; returns what it ran."""
    monkeypatch.setattr(files["trl_runs"], "made", lambda: {"date": "2026-11-27", "trl": "1.16.0"})
    monkeypatch.setattr(files["trl_runs"], "processes", ThreadPoolExecutor)

    def run(*given, fake=None):
        fake = fake or Fake()
        monkeypatch.setattr(files["trl_runs"], "train", fake)
        code = files["trl_runs"].main([*given, "--json", str(tmp_path / "r.json.gz")])
        return code, fake.ran

    return run


def test_the_claims_are_three_tasks_with_rl_at_its_best_rate(perform):
    code, ran = perform("--only", "claims", "--seeds", "2")
    assert code == 0 and len(ran) == len(set(ran)) == 4 + 12 - 1, "the sweep's own run at the best rate is the first"
    assert "claims/house_rules_format/rl_lr0.001_1" in ran and "claims/house_rules_places/fst_lr0.0003_T6_x1_0" in ran


def test_every_control_is_tuned_on_each_task_with_a_seed_that_is_not_reported(perform, files):
    _, ran = perform("--only", "controls", "--seeds", "2")
    best = dict.fromkeys(["static", "slow_only"], "lr0.0003") | {"rl": "lr0.001", "fst_frontier": "lr0.0003_T6_x0.5"}
    best |= dict.fromkeys(["fst", "fst_k1"], "lr0.0003_T6_x0.5")
    best |= dict.fromkeys(["prompts_then_rl", "rl_then_prompts", "four_prompts_then_rl"], "lr0.0003_x0.5")
    for arm, setting in best.items():
        tasks = ["house_rules_long"] if arm in files["trl_plan"].TASKS_OF else ["house_rules_codes", "house_rules_long"]
        reported = {name for name in ran if f"/{arm}_lr" in name and not name.endswith("_100")}
        assert reported == {f"controls/{task}/{arm}_{setting}_{seed}" for task in tasks for seed in (0, 1)}
    tried = [name.split("/fst_")[1] for name in ran if "long/fst_lr" in name and name.endswith("_100")]
    rates = [f"lr{rate:g}_T6_x1_100" for rate in files["trl_plan"].CONTROL_RATES]
    assert sorted(tried) == sorted([*rates, *(f"lr0.0003_{one}_100" for one in ("T6_x0.5", "T12_x1", "T12_x0.5"))])


def test_what_others_wait_for_is_run_first_and_then_a_seed_after_the_other(perform):
    _, ran = perform("--seeds", "3")
    tuning = [i for i, name in enumerate(ran) if name.endswith("_100")]
    assert tuning == list(range(len(tuning)))
    seeds = [int(name.rsplit("_", 1)[1]) + 2 * (not name.startswith("controls")) for name in ran[len(tuning) + 4 :]]
    assert seeds == sorted(seeds), "the others come two seeds behind the controls, after the four runs of a sweep"


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


def test_a_run_that_fails_is_named_and_leaves_the_others_alone(perform, capsys):
    bad = "claims/house_rules_places/fst_lr0.0003_T6_x1_0"
    code, ran = perform("--only", "claims", "--seeds", "1", fake=Fake(fails=bad))
    assert code == 1 and len(ran) == 4 + 6 - 1 - 1 and bad not in ran
    assert f"{bad} failed: ValueError: the weights are not finite" in capsys.readouterr().err
    assert perform("--only", "claims", "--seeds", "1") == (0, [bad]), "it is tried again by the next call"


def test_no_run_starts_once_the_time_is_up_and_those_left_are_counted(perform, capsys):
    assert perform("--only", "claims", "--seeds", "1", "--minutes", "0") == (0, [])
    assert "the time is up: 7 runs that could start now did not" in capsys.readouterr().out

    class Slow(Fake):
        def __call__(self, job):
            time.sleep(0.4)
            return super().__call__(job)

    _, ran = perform("--only", "claims", "--seeds", "1", "--minutes", "0.01", "--workers", "2", fake=Slow())
    assert len(ran) == 4, "two at a time, twice within 0.6 s; those that run by then finish"


def test_processes_side_by_side_leave_the_file_that_one_leaves(files, perform, tmp_path, monkeypatch):
    real = files["trl_runs"].ProcessPoolExecutor
    perform("--only", "claims", "--seeds", "1")
    alone = (tmp_path / "r.json.gz").read_bytes()
    (tmp_path / "r.json.gz").unlink()
    spawn = files["trl_runs"].multiprocessing.get_context("spawn")
    monkeypatch.setattr(files["trl_runs"], "processes", lambda workers: real(workers, spawn))
    code, ran = perform("--only", "claims", "--seeds", "1", "--workers", "3")
    assert code == 0 and ran == [], "they ran in processes of their own"
    assert (tmp_path / "r.json.gz").read_bytes() == alone


def test_processes_that_train_have_one_thread_each_and_no_gpu(files, perform, monkeypatch):
    found, wanted = [], files["trl_runs"].OF_A_WORKER

    def processes(workers):
        found.append({name: os.environ.get(name) for name in wanted})
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(files["trl_runs"], "processes", processes)
    perform("--only", "claims", "--seeds", "1")
    assert found == [wanted] and wanted["OMP_NUM_THREADS"] == "1"


def test_without_scikit_learn_nothing_starts(files, perform, capsys, monkeypatch):
    monkeypatch.setattr(files["trl_runs"], "find_spec", lambda name: None)
    assert perform("--seeds", "1") == (2, [])
    assert "needs scikit-learn: pip install 'fst-plugin[router]'" in capsys.readouterr().err


def test_the_plan_starts_nothing(perform, capsys):
    assert perform("--plan", "--seeds", "1") == (0, [])
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(set(listed)) and any("/static_" in line for line in listed)


def test_the_tables_say_what_the_runs_do(files, perform, tmp_path):
    perform("--seeds", "3")
    make = files["make_trl_results"]
    text = make.make(
        files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], make.verl_runs(), make.verl_prompts()
    )
    # FST is at RL's end of step 24 from step 4 on: 4 / 24, and (4 * 128 + 256) / (24 * 128)
    assert "| house_rules_codes | slow steps to RL's peak, FST over RL | 0.17 | 0.33 [0.17, 0.50] |  |" in text
    assert "| house_rules_codes | total rollouts to RL's peak, FST over RL | 0.25 | 0.52 [0.28, 0.71] | yes |" in text
    assert "| house_rules_codes | last validation: fst | 0.90 | 0.94 [0.92, 0.96] | yes |" in text
    assert (
        "| house_rules_format | first validation above 0: rl | never, never, never | never, never, never |  |" in text
    )
    assert "| house_rules_format | first validation above 0: fst | 4, 4, 4 | 2, 2, 2 |  |" in text
    last = "| house_rules_format | last validation: fst | 0.90 | 0.90 [0.76, 0.94] |  |"
    assert last in text, "at step 12, where verl's runs end"
    assert "| house_rules_codes | KL at the end, nats a token: rl | 2.40 | 0.73 [0.71, 1.10] | yes |" in text
    assert "| rl | 0, 1, 2 | lr0.001 | 0.60 | 0.60 | 0.60 | 0.60 | 0.60 | 3,072 | 0 |" in text
    assert "| fst | 0, 1, 2 | lr0.0003_T6_x0.5 | 0.90 | 1.00 | 0.50 | 1.00 | 0.45 | 3,072 | 256 |" in text
    assert "| static | 0, 1, 2 | lr0.0003 | 0.50 | 0.50 | 0.50 | 1.00 | 0.25 | 3,072 | 256 |" in text, "no router"
    ptr = "| prompts_then_rl | 0, 1, 2 | 0.10; 3 won, 0 lost | 0.20; 3 won, 0 lost | 0.05; 3 won, 0 lost |"
    assert ptr in text
    one = "| fst_k1 | 0, 1, 2 | -0.05; 0 won, 3 lost | 0.05; 3 won, 0 lost | -0.02; 0 won, 3 lost |"
    assert one in text, "losses stand next to wins"
    fst = "lr0.0003_T6_x1: 0.88; lr0.0003_T12_x1: 0.88"
    assert "lr0.0003_T6_x0.5: 0.90 (chosen)" in text and all(one in text for one in fst.split("; "))
    assert "| 0.20 | 0.60 (chosen) | 0.50 | 0.10 |" in text


def test_the_text_says_who_wins_and_what_four_prompts_are_worth_from_the_figures_alone(files, perform, tmp_path):
    perform("--only", "controls", "--seeds", "3")
    runs, make = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], files["make_trl_results"]
    text = "\n".join(make.control_tables(files["trl_figures"].Found(runs), "house_rules_long"))
    assert (
        "- Score: FST is ahead of rl, prompts_then_rl, slow_only, rl_then_prompts, static,"
        " four_prompts_then_rl, fst_frontier;"
        " behind fst_k1; not told apart from fst_hybrid." in text
    )
    assert (
        "K=4 against K=1: under the best prompt it loses to K=1 (-0.05; 0 won, 3 lost), with the router it beats K=1"
        in text
    )
    assert "Its best prompt states 7 of the 24 rules, its prompts together 12; the one of K=1 states 7." in text
    end = runs["controls/house_rules_long/fst_k1_lr0.0003_T6_x0.5_2"]["stages"][0][-1][1]
    end["val-core/eval/reward/mean@1"] = 0.2
    text = "\n".join(make.control_tables(files["trl_figures"].Found(runs), "house_rules_long"))
    assert "under the best prompt it is not told apart from K=1 (-0.05 [-0.05, 0.70]; 1 won, 2 lost)" in text


def test_a_return_is_run_with_an_archive_and_without_on_one_order_of_books(perform, files):
    _, ran = perform("--only", "returns", "--seeds", "2")
    arms, tasks = ("fst", "no_archive"), ("house_rules_codes", "house_rules_long")
    assert sorted(ran) == sorted(
        f"returns/{task}/{arm}_lr0.0003_T6_x{fast}_{seed}"
        for task in tasks
        for arm in arms
        for fast in ("1", "0.25")
        for seed in (0, 1)
    )
    plan = files["trl_plan"]
    with_, without = (plan.Job("returns", plan.LONG, arm, 1, plan.Setting(3e-4, 6, 1.0)).identity() for arm in arms)
    assert [book["book"] for book in with_["env"]] == [301, 1301] and with_["env"] == without["env"]
    own = with_["stages"][0], without["stages"][0]
    assert own[1].pop("fst") == {**own[0].pop("fst"), "fast": {"budget": 480, "archive": 0}} and own[0] == own[1]
    assert own[0]["steps"] == 36


def test_the_tables_say_how_much_of_a_task_is_back(files, perform, tmp_path):
    perform("--only", "returns", "--seeds", "3")
    runs, make = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], files["make_trl_results"]
    found = "\n".join(make.return_tables(files["trl_figures"].Found(runs)))
    for arm, ends in {
        "fst": "0.76 | 0.95 | 0.80 | 0.60 | 1.00 | 2,880 | 24",
        "no_archive": "0.40 | 0.50 | 0.80 | 0.60 | 0.00 | 2,880 | 0",
    }.items():
        row = f"| house_rules_long | lr0.0003_T6_x0.25 | {arm} | 0, 1, 2 | 0.80 | 0.10 | {ends} |"
        assert row in found
    assert "| 0.45; 3 won, 0 lost |" in found, "share back, seed by seed"
    assert make.return_tables(files["trl_figures"].Found({})) == ["Not finished.", ""]


def test_the_best_prompt_of_a_problem_is_picked_by_other_tries_than_it_is_scored_by(files):
    figures = files["trl_figures"]
    unknown = {"prompts": ["a", "b"], "stages": [[[0, {"val-core/": 1.0}]]]}
    assert figures.routed(unknown) is None, "several prompts, of which one was tried"
    assert figures.routed({**unknown, "prompts": ["a"]}) == 1.0
    chance = {"tries": [[[1.0, 0.0]], [[0.0, 1.0]]], "picks": [1]}
    assert figures.best_of_each(chance) == 0.0, "each prompt was right once, and never where it was not picked by that"
    apart = {"tries": [[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]]], "picks": [0, 0]}
    assert figures.best_of_each(apart) == pytest.approx((1 + 0.5 * (0 + 0)) / 2)
    assert figures.routed(apart) == 0.5 and figures.of_prompts(apart) == pytest.approx(3 / 8)


def test_intervals_that_meet_are_not_apart(files):
    whole, rounded = ({"value": v, "low": low, "high": v} for v, low in ((71 / 72, 0.9), (1.0, round(71 / 72, 6))))
    assert files["make_trl_results"]._pair([{**whole, "high": round(71 / 72, 6)}, {**rounded, "low": 71 / 72}])[2] == ""
    assert files["make_trl_results"]._pair([whole, {**rounded, "low": 0.99}])[2] == "yes"


def test_arms_are_compared_over_the_seeds_that_both_have_finished(files, perform, tmp_path):
    perform("--only", "controls", "--seeds", "3")
    runs, make = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], files["make_trl_results"]
    del runs["controls/house_rules_codes/static_lr0.0003_2"]
    for seed in range(3):
        del runs[f"controls/house_rules_codes/slow_only_lr0.0003_{seed}"]
    text = "\n".join(make.control_tables(files["trl_figures"].Found(runs), "house_rules_codes"))
    assert "Not finished: slow_only." in text and "| slow_only |" not in text
    assert "| static | 0, 1 | lr0.0003 | 0.50 |" in text and "| static | 0, 1 | 0.40; 2 won, 0 lost |" in text
    assert "| rl | 0, 1, 2 | 0.30; 3 won, 0 lost |" in text


def test_a_control_whose_sweep_is_not_finished_is_shown_as_not_tuned(files, perform, tmp_path):
    perform("--only", "controls", "--seeds", "2")
    runs, make = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"], files["make_trl_results"]
    del runs["controls/house_rules_codes/rl_lr0.003_100"]
    text = "\n".join(make.control_tables(files["trl_figures"].Found(runs), "house_rules_codes"))
    assert "| rl | 0, 1 | lr0.001 (not tuned) | 0.60 |" in text


def test_runs_of_two_versions_are_not_put_into_one_table(files, perform, tmp_path):
    perform("--only", "claims", "--seeds", "1")
    runs = files["trl_runs"].read_results(tmp_path / "r.json.gz")["runs"]
    next(iter(runs.values()))["made"]["trl"] = "1.17.0"
    with pytest.raises(ValueError, match="made by different versions"):
        files["make_trl_results"].make(runs, {}, {})


def test_no_control_spends_more_than_its_budget_and_none_ends_with_a_fast_phase(files):
    plan = files["trl_plan"]
    sizes = plan.Sizes()
    for arm in plan.ARMS:
        for cycle, phase in plan.PHASES.get(plan.TUNED_AS.get(arm, arm), ((plan.WHOLE, 0.0),)):
            job = plan.Job("controls", plan.FIRST, arm, 0, plan.Setting(1e-3, cycle, phase))
            slow, fast, last = 0, 0, None
            for stage in plan.stages(job):
                for step in range(stage.steps):
                    if stage.fst.get("slow_steps") and step % stage.fst["slow_steps"] == 0:
                        fast, last = fast + stage.fst["fast"].get("budget", 0), "phase"
                    slow, last = slow + plan.STEP, "step"
                    if stage.ends(step + 1, slow + fast):
                        break
            assert last == "step" and sizes.budget - plan.STEP - phase * sizes.fast < slow + fast <= sizes.budget, arm


@pytest.fixture
def plan():
    pytest.importorskip("omegaconf")
    with imported("examples/paper_claims", "plan") as found:
        yield found["plan"]


def test_the_claims_tasks_and_rates_are_those_of_verls_claims(files, plan):
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
    kept = [{problem: score.mean for problem, score in one.scores.items()} for one in found.population.prompts]
    assert kept[1] == {"Write horse E5.": 0.0, "Write lamb B5.": 1.0, "Write duck A1.": 0.0} and kept[2] == {}, (
        "a router can go by these"
    )


def test_evolution_from_slow_rollouts_waits_for_the_first_ones(files):
    found = evolve(files["trl_arms"].SlowOnly(), Prompt(SEED))
    assert [prompt.text for prompt in found.population.prompts] == [SEED] and found.metrics == {}


def test_the_committed_tables_are_those_of_the_committed_runs(files, tmp_path):
    assert files["make_trl_results"].main(["-o", str(tmp_path / "R.md")]) == 0
    assert (tmp_path / "R.md").read_text() == (FOLDER / "RESULTS_TRL.md").read_text()
    assert (FOLDER / "results_trl.json.gz").stat().st_size < 300_000
