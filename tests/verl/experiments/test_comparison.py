"""One verl command as several arms: what is launched, what is not repeated, what is reported before."""

import json

import pytest
from typer.testing import CliRunner

pytest.importorskip("verl")

from fst_verl import check  # noqa: E402
from fst_verl.command_line import Command  # noqa: E402
from fst_verl.experiments import comparison, runner  # noqa: E402

from fst_plugin.cli import app  # noqa: E402
from fst_plugin.config import ConfigError  # noqa: E402

GIVEN = (
    "+fst_env=default",
    "data.env.id=fst_envs:fst/HouseRules-v0",
    "+data.env.kwargs.book={seed}",
    "actor_rollout_ref.model.path=org/model",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.n=4",
    "fst.reflection.kind=offline",
    "trainer.test_freq=2",
)


class FakeVerl:
    """`launch` without verl: FST is at 0.8 from step 2 on, the others get there at step 4, or not at all."""

    def __init__(self):
        self.launched, self.programs = [], []

    def __call__(self, arguments, out, on_step, program):
        self.programs.append(program)
        self.launched.append((out.name, arguments))
        out.mkdir(parents=True)
        arm = out.name.split("_")[0]
        curve = {"fst": (0.0, 0.8, 0.8), "rl": (0.0, 0.3, 0.6), "prompts": (0.0, 0.4, 0.4)}[arm]
        with open(out / "metrics.jsonl", "w") as file:
            for step, value in zip((0, 2, 4), curve, strict=True):
                data = {"val-core/x/acc/mean@1": value, "fst/rollouts_slow_total": 10.0 * step}
                file.write(json.dumps({"step": step, "data": data}) + "\n")
        on_step(4)


@pytest.fixture
def verl(monkeypatch):
    fake = FakeVerl()
    monkeypatch.setattr(runner, "launch", fake)
    return fake


def run_arms(out, *more, arms="rl,gepa,fst", seeds=2):
    return comparison.run_arms([*GIVEN, *more], arms, seeds, 1, out)


def test_every_arm_runs_with_every_seed_and_the_table_is_of_them(verl, tmp_path):
    given = ["compare", "--arms", "rl,gepa,fst", "--seeds", "2", "--out", str(tmp_path), *GIVEN]
    done = CliRunner().invoke(app, [*given, "--json", str(tmp_path / "c.json")])
    assert done.exit_code == 0, done.output
    assert [name for name, _ in verl.launched] == ["rl_0", "prompts_0", "fst_0", "rl_1", "prompts_1", "fst_1"]
    figures = json.loads((tmp_path / "c.json").read_text())
    assert figures["arms"]["fst"]["steps_ratio"]["value"] == 0.5
    assert figures["arms"]["prompts"]["steps_ratio"]["value"] == "never"
    again = CliRunner().invoke(app, given)
    assert again.exit_code == 0 and len(verl.launched) == 6, "finished runs are not repeated"


def test_arms_differ_in_nothing_but_the_arm(tmp_path):
    given = [*GIVEN, "fst.drift=true", "actor_rollout_ref.actor.use_kl_loss=true"]
    runs, own = comparison.runs(Command.parse(given), "rl,gepa,fst", 2, tmp_path), {}
    for one in runs[3:]:
        config = check.compose([a for a in one.arguments if not a.startswith("hydra.")])
        assert config.data.env.kwargs.book == 1 and config.data.seed == config.fst.seed == 1
        own[one.arm] = (config.fst.enabled, config.trainer.critic_warmup > 10**6)
    assert own == {"rl": (False, False), "prompts": (True, True), "fst": (True, False)}
    assert comparison.problems(runs) == []


def test_every_problem_is_reported_before_anything_runs(verl, tmp_path):
    with pytest.raises(ConfigError) as told:
        run_arms(tmp_path, "trainer.test_freq=-1", "trainer.logger=[console]", "fst.population=0")
    assert all(key in str(told.value) for key in ("trainer.test_freq", "trainer.logger", "fst.population"))
    assert verl.launched == []
    with pytest.raises(ValueError, match="ppo unknown; use some of rl, gepa, fst"):
        run_arms(tmp_path, arms="rl,ppo")


def test_a_whole_command_is_run_as_every_arm_with_its_flags(verl, tmp_path):
    program = ("-m", "verl.trainer.main_ppo")
    words = ["python3", "-u", *program, "--config-name", "ppo_megatron_trainer", *GIVEN]
    given = ["compare", "--arms", "rl,fst", "--out", str(tmp_path), *words]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert [name for name, _ in verl.launched] == ["rl_0", "fst_0"]
    for _, arguments in verl.launched:
        assert arguments[0] == "--config-name=ppo_megatron_trainer" and "+fst=default" in arguments
    assert verl.programs == [("-u", *program)] * 2
    assert json.loads((tmp_path / "rl_0" / "done.json").read_text())["program"] == ["-u", *program]


def test_without_arms_an_unknown_option_is_no_run():
    told = CliRunner().invoke(app, ["compare", "--basline", "rl", "somewhere"])
    assert told.exit_code == 2 and "No such option: --basline" in told.output


def test_a_run_of_other_arguments_is_refused_and_one_cut_off_moved_aside(verl, tmp_path):
    run_arms(tmp_path, arms="rl", seeds=1)
    done = json.loads((tmp_path / "rl_0" / "done.json").read_text())
    assert tuple(done["arguments"]) == verl.launched[0][1] and done["seconds"] >= 0
    with pytest.raises(RuntimeError, match="other settings: move the folder away"):
        run_arms(tmp_path, "trainer.test_freq=4", arms="rl", seeds=1)
    (tmp_path / "rl_0" / "done.json").unlink()
    run_arms(tmp_path, arms="rl", seeds=1)
    assert len(verl.launched) == 2 and (tmp_path / "old_rl_0_1" / "metrics.jsonl").exists()


def test_an_arm_that_fails_starts_no_other(tmp_path, monkeypatch):
    launched = []

    def failing(arguments, out, on_step, program):
        launched.append(out.name)
        raise RuntimeError("verl ended with 1")

    monkeypatch.setattr(runner, "launch", failing)
    with pytest.raises(RuntimeError, match="verl ended with 1"):
        run_arms(tmp_path, seeds=9)
    assert launched == ["rl_0"] and not (tmp_path / "rl_0" / "done.json").exists()


def test_launch_reports_the_end_of_the_log(tmp_path, monkeypatch):
    from fst_verl.experiments import launch

    fake = tmp_path / "fake_python"
    fake.write_text('#!/bin/sh\necho "$6 $VERL_FILE_LOGGER_PATH"; echo the cause; exit 3\n')
    fake.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(fake))
    with pytest.raises(RuntimeError, match="(?s)verl ended with 3.*metrics.jsonl.*the cause"):
        launch.launch(["a=b"], tmp_path / "out")
