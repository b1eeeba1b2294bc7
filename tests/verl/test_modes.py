"""Whatever mode is registered with verl gets fast weights, whoever registers it and when."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from fst_verl import check, modes, trainer  # noqa: E402
from fst_verl.command_line import Command  # noqa: E402
from fst_verl.compat import MODES, names  # noqa: E402
from fst_verl.report import look  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from fst_plugin.config import ConfigError  # noqa: E402

OTHER = ("-m", "somebody.main")
SEPARATE = (
    "trainer.v1.trainer_mode=separate_async",
    "data.train_batch_size=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "actor_rollout_ref.rollout.nnodes=1",
    "actor_rollout_ref.rollout.n_gpus_per_node=2",
    "actor_rollout_ref.rollout.checkpoint_engine.backend=nccl",
)


@pytest.fixture
def register(monkeypatch):
    """register(name, class): as a third party does it, for one test."""
    base = names.trainer_base
    monkeypatch.setattr(base, "TRAINER_REGISTRY", trainer.Registry(dict(base.TRAINER_REGISTRY.data)))
    return lambda name, cls: base.register_trainer(name)(cls)


def own_trainer(**body):
    """A trainer class of somebody else's; it keeps what it is made with."""

    def init(self, config, *more, **named):
        self.made_with = (config, more, named)

    hooks = {"on_step_end": lambda self: None, "on_sample_end": lambda self: None}
    return type("Own", (names.trainer_base.PPOTrainer,), {"__init__": init, **hooks, **body})


def config(mode="mine", **fst):
    return OmegaConf.create({"trainer": {"v1": {"trainer_mode": mode}}, **({"fst": fst} if fst else {})})


def test_a_mode_that_is_registered_later_gets_fast_weights(register):
    cls = register("mine", own_trainer())
    given = names.get_trainer_cls("mine")
    assert given.__mro__[1:3] == (trainer.FastSlowHooks, cls) and given is names.get_trainer_cls("mine")
    assert isinstance(given(config(enabled=False, drift=True)), trainer.FastSlowHooks)


def test_without_fast_weights_the_registered_trainer_itself_is_made(register):
    cls = register("mine", own_trainer())
    made = names.get_trainer_cls("mine")(config(), 1, more=2)
    assert type(made) is cls and made.made_with == (config(), (1,), {"more": 2})


def test_verl_sees_its_own_entries_when_somebody_registers(register):
    cls = register("mine", own_trainer())
    names.get_trainer_cls("mine")
    assert register("mine", cls) is cls  # once more, as a module that is imported again
    with pytest.raises(ValueError, match="already registered to Own"):
        register("mine", own_trainer())
    with pytest.raises(ValueError, match="Unknown trainer 'yours'. Available trainers: .*mine"):
        names.get_trainer_cls("yours")


def test_a_trainer_derived_from_one_of_ours_keeps_its_own_ways_with_fast_weights_or_without(register):
    cls = register("mine", type("Derived", (names.get_trainer_cls("sync"),), {"__init__": own_trainer().__init__}))
    assert names.get_trainer_cls("mine") is cls
    assert type(cls(config())) is cls and type(cls(config(enabled=True))) is cls


def test_hooks_of_a_trainer_derived_from_ours_do_nothing_without_fast_weights(register):
    fetched = own_trainer(_fetch_one_gen_batch=lambda self: "a batch", step=lambda self, metrics, timing: "trained")
    register("base", fetched)
    made = type("Derived", (names.get_trainer_cls("base"),), {})(config())
    assert made.fst is None and made._fetch_one_gen_batch() == "a batch" and made.step({}, {}) == "trained"


@pytest.mark.parametrize("first", ["own_mode", "verl"])
@pytest.mark.parametrize("door", ["variable", "import"])
def test_modes_are_found_through_verls_own_doors_in_any_order(first, door):
    """verl imports VERL_USE_EXTERNAL_MODULES before it loads plug-ins, and so before ours."""
    code = f"""if True:
        import {first}
        import own_mode
        from verl.trainer.ppo.v1 import get_trainer_cls
        assert [c.__name__ for c in get_trainer_cls("own_mode").__mro__[:3]] == [
            "FastSlowOwnTrainer", "FastSlowHooks", "OwnTrainer"]
        from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
        assert {{"sync", "colocate_async", "separate_async", "own_mode"}} <= set(TRAINER_REGISTRY)
    """
    probes = os.path.join(os.path.dirname(__file__), "runs", "probes")
    env = {name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"}  # as on any machine
    env["PYTHONPATH"] = os.pathsep.join([probes, os.environ.get("PYTHONPATH", "")])
    if door == "variable":
        env["VERL_USE_EXTERNAL_MODULES"] = "own_mode"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_evolution_comes_before_the_first_batch_of_a_step_however_a_trainer_fetches_it():
    calls = []
    fst = SimpleNamespace(
        evolve_if_due=lambda: calls.append("evolve"),
        look_ahead=SimpleNamespace(next=lambda: calls.append("batch") or "batch"),
    )
    hooks = object.__new__(trainer.FastSlowHooks)
    hooks.fst = fst
    assert hooks._fetch_one_gen_batch() == "batch" and calls == ["evolve", "batch"]


@pytest.mark.parametrize("hook", ["_submit_batch_to_rollout", "step"])
def test_a_trainer_without_a_hook_is_refused_by_name_and_runs_without_fast_weights(register, hook):
    register("mine", own_trainer(**{hook: None}))
    made = names.get_trainer_cls("mine")
    with pytest.raises(ConfigError, match=f"the trainer of mine has no {hook}, which fast weights extend"):
        made(config(enabled=True))
    assert made(config())
    (problem,) = modes.problems(config(), modes.MAIN)
    assert problem.key == modes.KEY and hook in problem.message


def test_a_mode_that_nobody_has_registered_is_refused_with_those_that_are(register):
    (problem,) = modes.problems(config("snyc"), modes.MAIN)
    assert problem.message.startswith("snyc is not registered: use one of colocate_async, separate_async, sync, or")
    assert "VERL_USE_EXTERNAL_MODULES" in problem.message
    assert modes.problems(config("snyc"), "somebody.main") == []  # which may register it


def test_verls_own_modes_and_their_old_names_are_accepted():
    for mode in (*MODES[:2], "fst_sync", "fst_colocate_async"):
        assert check.problems(check.compose([f"trainer.v1.trainer_mode={mode}", "fst.population=1"])) == []


def test_the_check_of_a_command_knows_who_else_may_register_a_mode(register, monkeypatch):
    composed = check.compose(["trainer.v1.trainer_mode=mine"])
    monkeypatch.setattr("fst_verl.report.complete", lambda command: (command, composed))
    monkeypatch.setattr("fst_verl.inputs.problems", lambda *given: [])
    assert [p.key for p in look(Command(())).problems] == [modes.KEY]
    found = look(Command((), program=OTHER))
    assert found.problems == [] and "trainer.v1.trainer_mode=mine" in found.notes[-1]
    register("mine", own_trainer())
    assert look(Command(())).problems == []


@pytest.mark.parametrize(
    ("argument", "key", "message"),
    [
        ("data.train_batch_size=9", "data.train_batch_size", "trains on it in 4 parts of 2: set it to 8"),
        ("actor_rollout_ref.rollout.nnodes=0", "actor_rollout_ref.rollout.nnodes", "1 or more"),
        ("actor_rollout_ref.rollout.n_gpus_per_node=0", "actor_rollout_ref.rollout.n_gpus_per_node", "1 or more"),
        (
            "actor_rollout_ref.rollout.checkpoint_engine.backend=naive",
            "actor_rollout_ref.rollout.checkpoint_engine.backend",
            "such as nccl",
        ),
        (
            "reward.reward_model.enable=true",
            "reward.reward_model.enable_resource_pool",
            "servers that never rest",
        ),
        ("actor_rollout_ref.hybrid_engine=false", "actor_rollout_ref.hybrid_engine", "VERL_LOGGING_LEVEL=WARN"),
    ],
)
def test_what_verl_would_refuse_with_servers_of_their_own_is_told_before_it_starts(argument, key, message, monkeypatch):
    monkeypatch.delenv("VERL_LOGGING_LEVEL", raising=False)
    assert modes.problems(check.compose(SEPARATE), modes.MAIN) == []
    (problem,) = modes.problems(check.compose([*SEPARATE, argument]), modes.MAIN)
    assert problem.key == key and message in problem.message


def test_servers_of_their_own_alone_are_accepted_if_verl_does_not_log_what_it_cannot(monkeypatch):
    monkeypatch.setenv("VERL_LOGGING_LEVEL", "WARN")
    assert modes.problems(check.compose([*SEPARATE, "actor_rollout_ref.hybrid_engine=false"]), modes.MAIN) == []


def test_with_servers_of_their_own_the_engine_is_as_wide_as_these():
    wide = ["trainer.n_gpus_per_node=8", "actor_rollout_ref.rollout.max_num_seqs=10"]
    wide.append("actor_rollout_ref.rollout.tensor_model_parallel_size=1")
    assert check.engine_width(check.compose([*SEPARATE, *wide])) == 20
    assert check.engine_width(check.compose([*SEPARATE[1:], *wide])) == 80
