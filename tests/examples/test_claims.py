"""The claims runner on made-up runs: what is run, what is not repeated, and figures whose answers are known."""

import dataclasses
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from programs import imported

from fst_plugin.config import parse
from fst_plugin.policy import Policy
from fst_plugin.prompts import Prompt
from fst_plugin.reflection.base import ReflectionRequest
from fst_plugin.reflection.build import build_reflection
from fst_plugin.reflection.offline import OfflineReflection
from fst_plugin.rollouts import Problem, Rollout

pytest.importorskip("torch")
demo = pytest.importorskip("fst_verl.experiments.demo")
runner = pytest.importorskip("fst_verl.experiments.runner")
pytest.importorskip("scipy")

FOLDER = Path(__file__).parents[2] / "examples" / "paper_claims"


@pytest.fixture(scope="module")
def claims():
    with imported("examples/paper_claims", "plan", "figures", "run", "make_results") as found:
        yield found


LENGTHS = {"main": 48, "stage": 6, "probe": 6, "zero": 12, "val_size": 50}
RATE = {"3e-4": 0.5, "1e-3": 0.75, "3e-3": 0.6, "1e-2": 0.2}  # RL's peak by learning rate


class Setup:
    """What a run was asked for, from verl's arguments, of which the last one of a key counts."""

    def __init__(self, arguments):
        self.extra, self.given = tuple(arguments), dict(a.lstrip("+").split("=", 1) for a in arguments)
        self.steps = int(self.given["trainer.total_training_steps"])
        self.learning_rate = float(self.given["actor_rollout_ref.actor.optim.lr"])
        self.val_samples = self.given["actor_rollout_ref.rollout.val_kwargs.n"]
        self.model = self.given["actor_rollout_ref.model.path"]
        self.task = [a for a in arguments if a.startswith(("data.env.id", "+data.env.kwargs", "data.env.tasks"))]
        frozen = int(self.given.get("trainer.critic_warmup", 0)) > self.steps
        self.arm = "rl" if self.given.get("fst.enabled") == "false" else "prompts" if frozen else "fst"


class Fake:
    """`launch` without verl: writes the log that a run would leave. RL rises evenly to its peak at the last step, FST
    is at 0.9 from step 12 on."""

    def __init__(self, fails=()):
        self.ran, self.fails = [], fails

    def __call__(self, arguments, out, on_step, program):
        assert program == ("-m", "verl.trainer.main_ppo")
        name, setup = str(out).split("/claims/")[1], Setup(arguments)
        arm = setup.arm
        self.ran.append((name, setup.model, setup))
        if name in self.fails:
            raise RuntimeError("verl ended with 1")
        out.mkdir(parents=True)
        with open(out / "metrics.jsonl", "w") as file:
            for step in range(0, setup.steps + 1, 6):
                data = {"fst/kl_to_base": (0.02 if arm == "fst" else 0.1) * step, "timing_s/update_actor": 1.0}
                for source, value in self.scores(name, arm, setup, step).items():
                    data[f"val-core/{source}/acc/mean@{setup.val_samples}"] = value
                    if arm == "fst":
                        under_seed = 0.02 if step == 0 else 0.4
                        data[f"val-core/{source}/seed_prompt/acc/mean@{setup.val_samples}"] = under_seed
                if name.startswith(
                    "search"
                ):  # hybrid: rollouts take half as long again, and after step 6 nothing waits
                    data["timing_s/gen"] = 3.0 if "hybrid" in name else 2.0
                    data["fst/seconds"] = 0.0 if "hybrid" in name and step > 6 else 4.0
                    data["timing_s/step"] = data["timing_s/gen"] + data["fst/seconds"] + 1.0
                if step:
                    data |= {"fst/rollouts_slow_total": 128.0 * step, "fst/rollouts_fast_total": 500.0}
                    data |= {} if arm == "fst" else {"fst/rollouts_fast_total": 0.0}
                file.write(json.dumps({"step": step, "data": data}) + "\n")
        if setup.given["trainer.save_freq"] != "-1":
            weights = out / "checkpoints" / f"global_step_{setup.steps}" / "actor" / "huggingface"
            weights.mkdir(parents=True)
            (weights / "model.safetensors").touch()
        live = out / "checkpoints" / "fst"
        live.mkdir(parents=True)
        (live / "best_prompt.txt").write_text(f"Best of '{name}'.")

    def scores(self, name, arm, setup, step):
        kind, own = name.split("/")
        if kind == "continual":
            seed = int(own[-1])
            names = [
                f"fst/HouseRules-v0/book-{seed}_kinds-default",
                f"fst/HouseRules-v0/book-{seed + 50}_kinds-places",
                f"fst/HouseRules-v0/book-{seed + 200}_kinds-default",
            ]
            high = 0.8 if arm == "fst" else 0.5 if own.startswith("rl_equal") else 0.4
            return {n: (high if step >= 6 * (i + 1) else 0.0) - 0.1 * (step > 6 * (i + 1)) for i, n in enumerate(names)}
        if kind == "plasticity":
            return {"x": {"rl": 0.4, "fst": 0.6, "rl_equal": 0.5}[own.rpartition("_")[0]]}
        if kind == "attribution":
            return {"x": 0.5}
        if kind in ("house_rules_format", "star_graph"):
            late = setup.steps + 1 if kind == "star_graph" else 12
            return {"x": 0.5 * (step >= (6 if arm == "fst" else late))}
        if arm == "fst":
            return {"x": 0.9 if step >= 12 else 0.0}
        return {"x": RATE[f"{setup.learning_rate:.0e}".replace("e-0", "e-")] * step / setup.steps}


def bases(modules):
    return modules["run"].Models(Path("base"), Path("graphs"))


def make_plan(modules, seeds=(0, 1), **more):
    return modules["plan"].Plan(seeds, modules["plan"].Lengths(**LENGTHS), **more)


@pytest.fixture
def perform(claims, monkeypatch):
    """The runner with a fake verl."""

    def run(fake, plan, out, workers=1):
        monkeypatch.setattr(runner, "launch", fake)
        return claims["run"].run(plan, bases(claims), out, workers)

    return run


@pytest.fixture(scope="module")
def whole(claims, tmp_path_factory):
    """Everything run once: (fake, out)."""
    fake, out = Fake(), tmp_path_factory.mktemp("whole") / "claims"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "launch", fake)
        assert claims["run"].run(make_plan(claims), bases(claims), out, 1) == {}
    return fake, out


@pytest.fixture
def done(whole, tmp_path):
    """The same, in a folder of the test's own: (fake, out, results)."""
    fake, out = whole
    copied = shutil.copytree(out, tmp_path / "claims")
    return fake, copied, json.loads((copied / "results.json").read_text())


def test_every_figure_is_the_one_that_the_runs_were_made_with(done):
    _, out, found = done
    for task in ("house_rules_codes", "house_rules_places", "second_try"):
        assert found["steps_ratio"][task]["median"] == pytest.approx(12 / 48)
        assert found["rollouts_ratio"][task]["median"] == pytest.approx((12 * 128 + 500) / (48 * 128))
        assert 0 < found["kl_ratio_at_matched_reward"][task]["median"] < 0.2
        gain = found["asymptote_gain"][task]  # RL still rises at its end: it may go as far as the ceiling
        assert gain["low"] <= 0.9 - 1.0 + 1e-6 < gain["high"] <= 0.9 - 0.75 + 1e-6
    plasticity = {name.split(": ")[1]: f["median"] for name, f in found["plasticity_ratio"].items()}
    assert plasticity == {
        "fst over rl": pytest.approx(1.5),
        "fst over base": pytest.approx(0.6 / (0.75 * 6 / 48)),  # the base's is RL's own run on that task, at step 6
        "rl over base": pytest.approx(0.4 / (0.75 * 6 / 48)),
        "fst over rl_equal": pytest.approx(1.2),
        "rl_equal over base": pytest.approx(0.5 / (0.75 * 6 / 48)),
    }
    assert {start: f["median"] for start, f in found["starts"].items()} == {
        "base": pytest.approx(0.75 * 6 / 48),
        "rl": 0.4,
        "fst": 0.6,
        "rl_equal": 0.5,
    }
    assert {stage: f["median"] for stage, f in found["continual_ratio"].items()} == {
        **{f"stage_{i}": pytest.approx(2.0) for i in (1, 2, 3)},
        **{f"stage_{i}, equal rates": pytest.approx(1.6) for i in (1, 2, 3)},
    }
    assert found["stages"]["stage_3: rl_equal"]["score"]["median"] == 0.5
    assert found["stages"]["stage_1: fst"]["lost"]["median"] == pytest.approx(0.1)
    assert found["stages"]["stage_3: rl"]["score"]["median"] == pytest.approx(0.4)
    assert found["star_graph_ratio"]["house_rules_format"]["median"] == pytest.approx(6 / 12)
    assert found["star_graph_ratio"]["star_graph"]["median"] == 0
    both = found["attribution"]["house_rules_codes"]
    assert both["holds"] and both["median"] == 0.9 and both["cells"]["base/evolved"]["n"] == 100
    (table,) = {(out / f"house_rules_codes/fst_{seed}/attribution.json").read_text() for seed in (0, 1)}
    assert json.loads(table)["trained/seed"] == {"passed": 20, "of": 50}
    for name in ("fst", "one_prompt"):
        assert found["ablations"][name]["steps_ratio"]["median"] == pytest.approx(12 / 48)


def test_the_three_searches_stand_beside_rl_and_their_steps_are_timed(done, claims):
    fake, _, found = done
    given = {name: setup.given for name, _, setup in fake.ran if name.startswith("search/")}
    assert len(given) == 2 * 3 * 3
    parents = {name.rpartition("_")[0]: own.get("fst.fast.parents") for name, own in given.items()}
    assert parents["search/second_try_frontier"] is None, "GEPA's, which +fst=paper sets"
    assert {found for name, found in parents.items() if not name.endswith("frontier")} == {"thompson"}
    assert given["search/second_try_hybrid_0"]["fst.fast.when"] == "hybrid"
    assert "fst.fast.when" not in given["search/second_try_before_0"]
    late = {"fst.reflection.path": "waiting.WaitingReflection", "fst.reflection.kwargs.seconds": "3"}
    told = {name: {key: own[key] for key in late if key in own} for name, own in given.items()}
    assert all(found == ({} if "frontier" in name else late) for name, found in told.items())
    codes = found["search"]["house_rules_codes"]
    assert codes["before"]["final"]["median"] == 0.9 and codes["before"]["steps_ratio"]["median"] == 0.25
    assert codes["frontier"]["final"]["median"] == 0.9 and "seconds" not in codes["frontier"]
    before, hybrid = (codes[name]["seconds"] for name in ("before", "hybrid"))
    assert (before["slow"]["median"], before["all"]["median"]) == (3.0, 7.0)
    assert (hybrid["slow"]["median"], hybrid["all"]["median"]) == (4.0, 4.0)
    ratios = {part: figure["median"] for part, figure in codes["hybrid over before"].items()}
    parts = {"fast phase": 0.0, "rollouts": 1.5, "update": 1.0, "slow": 4 / 3, "all": 4 / 7}
    assert ratios == {part: pytest.approx(ratio) for part, ratio in parts.items()}
    text = claims["make_results"].make(found)
    row = "| house_rules_codes | hybrid | 0.90 [0.90, 0.90] | 0.25 [0.25, 0.25] |"
    assert row in text and "| second_try | hybrid over before | 0.00 [0.00, 0.00] | 1.50 [1.50, 1.50] |" in text


def test_the_reflection_of_the_timed_searches_answers_as_the_offline_one_and_late(monkeypatch):
    slept = []
    with imported("examples/paper_claims", "waiting") as found:
        monkeypatch.setattr(found["waiting"].time, "sleep", slept.append)
        late = build_reflection(
            parse({"reflection": {"path": "waiting.WaitingReflection", "kwargs": {"seconds": 3}}}), Policy()
        )
    problem = Problem("p", ({"role": "user", "content": "2 + 2?"},))
    records = ((problem, Rollout(0.0, "5", "Sums are to be exact.")),)
    asked = [ReflectionRequest(Prompt("Old."), records, slot, 0, 500) for slot in range(2)]
    told = late.propose(asked)
    assert told == OfflineReflection().propose(asked) and "exact" in told[0]
    assert slept == [3], "once a round: its prompts are asked for side by side"


def test_rl_gets_the_rate_that_serves_it_best(done):
    fake, _, found = done
    swept = found["learning_rates"]["house_rules_codes"]
    assert swept["chosen"] == 1e-3 and swept["swept"]
    assert {rate: tried["peak"] for rate, tried in swept["tried"].items()} == {
        "0.0003": pytest.approx(0.5),
        "0.001": pytest.approx(0.75),
        "0.003": pytest.approx(0.6),
        "0.01": pytest.approx(0.2),
    }
    names = [name for name, _, _ in fake.ran]
    rates = {name: setup.learning_rate for name, _, setup in fake.ran}
    assert rates["continual/rl_0"] == 1e-3 and rates["continual/rl_equal_0"] == demo.Setup.learning_rate
    assert rates["plasticity/rl_equal_1"] == 1e-3, "the pass itself is the same from everywhere"
    assert "second_try/rl_lr0.001_1" in names and not any("second_try/rl_lr0.0003" in name for name in names)
    assert next(setup for name, _, setup in fake.ran if name == "house_rules_format/rl_0").learning_rate == 1e-3
    fst = [setup.learning_rate for name, _, setup in fake.ran if "/fst_" in name and "plasticity" not in name]
    assert len(fst) == 12 and set(fst) == {demo.Setup.learning_rate}  # three tasks, two zero, continual; two seeds
    bases = {name.split("/")[0]: model for name, model, _ in fake.ran if "plasticity" not in name}
    assert {kind for kind, model in bases.items() if model == "graphs"} == {"star_graph"}
    assert len(names) == len(set(names)), "the sweep's own run is the main one at the chosen rate"


def test_a_finished_run_is_not_repeated_and_a_lost_one_is(done, claims, perform):
    _, out, found = done
    again = Fake()
    perform(again, make_plan(claims), out)
    assert again.ran == []
    (out / "plasticity" / "fst_1" / "result.json").unlink()  # as if it had been cut off
    perform(again, make_plan(claims), out)
    assert [name for name, _, _ in again.ran] == ["plasticity/fst_1"]
    assert json.loads((out / "results.json").read_text()) == found


def test_a_run_with_other_settings_is_not_taken_for_this_one(done, claims, perform):
    _, out, _ = done
    with pytest.raises(RuntimeError, match="other settings: move the folder away"):
        perform(Fake(), make_plan(claims, extra=("fst.seed=3",)), out)


def test_later_runs_start_from_the_weights_and_prompt_of_earlier_ones(done, claims):
    fake, _, _ = done
    runs = {name: (model, setup) for name, model, setup in fake.ran}
    trained = "claims/house_rules_codes/fst_1/checkpoints/global_step_48/actor/huggingface"
    assert runs["plasticity/fst_1"][0].endswith(trained)
    assert "rl_lr0.001_1" in runs["plasticity/rl_1"][0] and "rl_lr0.0003_1" in runs["plasticity/rl_equal_1"][0]
    prompt = "data.env.system_prompt='Best of \\'house_rules_codes/fst_1\\'.'"
    model, setup = runs["attribution/base_evolved_1"]
    assert model == "base" and setup.extra[-1] == prompt and "trainer.val_only=true" in setup.extra
    probe, (_, base) = runs["plasticity/fst_1"][1], runs[make_plan(claims).plasticity_job("base", 1, 1e-3).name]
    assert probe.given["data.env.system_prompt"] == base.given["data.env.system_prompt"]
    size = int(probe.given["data.train_batch_size"]) * base.steps
    assert [int(s.given["data.env.train_size"]) for s in (probe, base)] == [size, size]
    assert probe.task == base.task, "the probe is asked the problems that the base was"


def test_a_run_that_fails_is_told_and_stops_no_other(claims, tmp_path, perform):
    fake, out = Fake(fails=("house_rules_codes/fst_1",)), tmp_path / "claims"
    failed = perform(fake, make_plan(claims), out)
    assert failed["house_rules_codes/fst_1"] == "verl ended with 1"
    assert "left no weights" in failed["plasticity/fst_1"]
    found = json.loads((out / "results.json").read_text())
    assert found["steps_ratio"]["house_rules_codes"]["median"] is None
    assert found["steps_ratio"]["second_try"]["median"] == pytest.approx(0.25)
    assert "plasticity/fst_1" in found["plasticity_ratio"]["house_rules_places: fst over rl"]["reason"]
    assert found["failed"] == failed
    text = claims["make_results"].make(found)
    assert "Runs that failed" in text and "| house_rules_codes/fst_1 | verl ended with 1 |" in text


def test_a_seed_that_is_not_finished_is_left_out_and_named(claims, tmp_path, perform):
    lost = ["second_try/fst_2", "continual/rl_2", "attribution/base_evolved_2", "ablations/one_prompt_2"]
    lost += [
        f"search/{name}" for name in ("second_try_hybrid_1", "house_rules_codes_before_0", "house_rules_codes_before_1")
    ]
    lost += ["search/second_try_hybrid_2"]
    fake, out = Fake(fails=lost), tmp_path / "claims"
    perform(fake, make_plan(claims, (0, 1, 2)), out)
    found = json.loads((out / "results.json").read_text())
    second, whole = (found["steps_ratio"][task] for task in ("second_try", "house_rules_codes"))
    assert (second["n"], second["missing"]) == (2, ["second_try, seed 2"]) and second["median"] == pytest.approx(0.25)
    assert (whole["n"], whole["missing"]) == (3, [])
    assert found["continual_ratio"]["stage_2"]["missing"] == ["continual/rl_2"]
    both = found["attribution"]["house_rules_codes"]
    assert both["missing"] == ["seed 2"] and both["cells"]["base/seed"]["n"] == 100
    assert found["ablations"]["one_prompt"]["final"]["n"] == 2 and found["ablations"]["fst"]["final"]["n"] == 3
    searches = found["search"]
    assert searches["second_try"]["hybrid"] == {"reason": "not finished"}
    assert searches["second_try"]["hybrid over before"] == {} and searches["second_try"]["before"]["final"]["n"] == 3
    assert searches["house_rules_codes"]["before"] == {"reason": "not finished"}
    text = claims["make_results"].make(found)
    assert "| house_rules_codes | before | not finished |" in text
    assert "| second_try | 0.25 [0.25, 0.25] (without second_try, seed 2) |" in text
    assert "| 0.90 [0.90, 0.90] (without one_prompt, seed 2) |" in text and "| house_rules_codes | 0.25 [0.25" in text


def test_only_one_claim_runs_only_what_it_needs(claims, tmp_path, perform):
    fake, out = Fake(), tmp_path / "claims"
    perform(fake, make_plan(claims, claims=("continual",)), out)
    kinds = {name.split("/")[0] for name, _, _ in fake.ran}
    assert kinds == {"continual", "house_rules_codes"}  # the latter for RL's learning rate
    found = json.loads((out / "results.json").read_text())
    assert found["continual_ratio"]["stage_3"]["median"] == pytest.approx(2.0)
    assert found["attribution"]["house_rules_codes"]["reason"] == "attribution was not asked for"
    assert found["steps_ratio"]["second_try"]["reason"] == "efficiency was not asked for"
    text = claims["make_results"].make(found)
    assert "| stage_3 | 2.00" in text and "second_try" not in text and "not asked for" not in text


def test_the_text_says_what_is_met_and_what_is_not(done, claims):
    _, _, found = done
    make_results = claims["make_results"]
    lines = make_results.make(found).splitlines()
    row = next(line for line in lines if "slow steps" in line and "second_try" in line)
    assert row.endswith("| second_try | 0.25 [0.25, 0.25] | ≤ 1/3 | yes |")
    assert any("| star_graph | 0.00 [0.00, 0.00]; fst at 6, 6; rl at never, never |" in line for line in lines)
    found["steps_ratio"]["second_try"] = {"median": "never", "low": 2.0, "high": "never", "n": 3}
    row = next(line for line in make_results.make(found).splitlines() if "slow steps" in line and "second_try" in line)
    assert row.endswith("| never [2.00, never] | ≤ 1/3 | no |")
    assert make_results.verdict("asymptote_gain", "x", {"median": 0.1, "low": None, "high": None}) == "-"
    assert make_results.verdict("asymptote_gain", "x", {"median": 0.1, "low": -0.1, "high": 0.3}) == "no"
    assert make_results.verdict("continual_ratio", "stage_2", {"median": 1.4}) == "no"


def test_the_command_runs_all_of_it(claims, tmp_path, monkeypatch):
    out = tmp_path / "claims"
    arguments = ["--quick", "--model", str(tmp_path), "--out", str(out)]
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fake = Fake()
    fake.scores = lambda name, arm, setup, step: {"x": 0.5}
    monkeypatch.setattr(runner, "launch", fake)
    assert claims["run"].main([*arguments, "--only", "attribution"]) == 0
    assert {name.split("/")[0] for name, _, _ in fake.ran} == {"attribution", "house_rules_codes"}
    assert "house_rules_codes/rl_lr0.001_0" in {name for name, _, _ in fake.ran}, "unswept, RL gets the best known rate"
    assert claims["make_results"].main([str(out / "results.json"), "-o", str(tmp_path / "R.md")]) == 0
    assert (tmp_path / "R.md").read_text().startswith("# Results")
    assert claims["run"].main(["--plan"]) == 0

    ran = len(fake.ran)
    (out / "attribution" / "base_evolved_0" / "result.json").unlink()  # as if it had been cut off
    assert claims["run"].main([*arguments, "--only", "attribution", "--collect"]) == 0 and len(fake.ran) == ran
    found = json.loads((out / "results.json").read_text())
    assert found["attribution"]["house_rules_codes"]["reason"] == "not finished: seed 0"


def test_a_baseline_at_zero_makes_an_infinite_ratio(claims, tmp_path, perform):
    fake, out = Fake(), tmp_path / "claims"
    scores = fake.scores
    fake.scores = lambda name, arm, *more: {
        source: 0.0 if arm == "rl" or name == "house_rules_format/fst_1" else value
        for source, value in scores(name, arm, *more).items()
    }
    perform(fake, make_plan(claims, claims=("continual", "zero_start")), out)
    found = json.loads((out / "results.json").read_text())
    assert found["continual_ratio"]["stage_2"]["median"] == "never"
    zero = found["star_graph_ratio"]["house_rules_format"]
    assert zero["first"] == {"fst": [6, "never"], "rl": ["never", "never"]} and zero["median"] == "never"
    text = claims["make_results"].make(found)
    assert "| stage_2 | ∞ [∞, ∞] | stages 2 and 3: ≥ 1.5 | yes |" in text
    assert "; fst at 6, never; rl at never, never | ≤ 1/5 | no |" in text


@pytest.mark.parametrize(
    "text", ["it's", "two\nlines", "end\\", "a \\' b", "x=[1],{y}", "${oc.env:HOME}", "\\${x}", '"']
)
def test_a_prompt_reaches_verl_as_it_is(claims, text):
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser")
    from omegaconf import OmegaConf

    value = parser.OverridesParser.create().parse_override(f"k={claims['plan'].quoted(text)}").value()
    assert OmegaConf.create({"k": value}).k == text


def test_every_kind_of_run_passes_the_check(claims, tmp_path, monkeypatch):
    pytest.importorskip("verl")
    from fst_verl import check

    plan = make_plan(claims, (0,))
    jobs = {job.name: job for job in (*plan.main(3e-4), *plan.after(3e-4))}
    chosen = (
        "continual/rl_0",
        "second_try/fst_0",
        "search/second_try_hybrid_0",
        "star_graph/fst_0",
        "ablations/best_only_0",
        "house_rules_places/fst_0",
    )
    chosen = (
        *chosen,
        "house_rules_format/rl_0",
        "house_rules_codes/rl_lr0.0003_0",
        "plasticity/fst_0",
        "attribution/base_evolved_0",
    )
    for name in chosen:
        job = jobs[name]
        setup = claims["plan"].with_prompt(job.setup, "It's\n$1.") if job.prompt else job.setup
        given = demo.arguments(job.arm, job.seed, setup, tmp_path, tmp_path)
        config = check.compose([a for a in given if not a.startswith("hydra.")])
        assert check.problems(config) == [], name
        if job.prompt:
            assert config.data.env.system_prompt == "It's\n$1."
        if name.startswith("second_try"):
            assert config.data.max_response_length == 64


def test_the_identity_of_a_run_is_plain_json(claims):
    job = make_plan(claims).main_job("second_try", "fst", 0)
    assert json.loads(json.dumps(job.identity())) == job.identity()
    other = dataclasses.replace(job, setup=dataclasses.replace(job.setup, steps=7))
    assert other.identity() != job.identity()


def near(a, b):
    """Equal but for what another scipy may round."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=0.02, abs=0.01)
    return a == b


def test_the_committed_figures_are_those_of_the_committed_logs(claims, tmp_path):
    with tarfile.open(FOLDER / "runs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    committed = json.loads((FOLDER / "results.json").read_text())
    only = [part for claim in committed["settings"]["claims"] for part in ("--only", claim)]
    assert claims["run"].main(["--collect", "--out", str(tmp_path), *only]) == 0
    assert near(json.loads((tmp_path / "results.json").read_text()), committed)
    assert (FOLDER / "RESULTS.md").read_text() == claims["make_results"].make(committed)


def test_the_archived_runs_are_finished_ones(claims, perform, tmp_path):
    out = tmp_path / "claims"
    with tarfile.open(FOLDER / "runs.tar.gz") as archive:
        archive.extractall(out, filter="data")
    fake, plan = Fake(), claims["plan"].Plan((0, 1, 2), claims["plan"].Lengths())
    assert perform(fake, plan, out) == {} and fake.ran == []
    (out / "attribution" / "base_evolved_1" / "result.json").unlink()
    assert perform(fake, plan, out) == {}
    ((name, _, setup),) = fake.ran
    assert name == "attribution/base_evolved_1" and "Write " in setup.given["data.env.system_prompt"]
