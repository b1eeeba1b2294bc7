"""Every verl name that is used exists in the verl that is installed."""

import ast
import importlib
import importlib.metadata
import inspect
import os
import subprocess
import sys

import pytest

pytest.importorskip("verl")

from fst_verl import compat, modes  # noqa: E402


def test_this_verl_is_supported():
    assert importlib.metadata.version("verl") in compat.SUPPORTED


@pytest.mark.parametrize("name", sorted(set(compat.TABLE) - {"vLLMColocateWorkerExtension"}))
def test_the_table_resolves(name):
    assert compat.resolve(name) is not None


def test_a_missing_name_is_told_with_the_supported_versions(monkeypatch):
    monkeypatch.setitem(compat.TABLE, "gone", "verl.trainer:nothing_of_that_name")
    with pytest.raises(ImportError, match="nothing_of_that_name.*0.9.1"):
        compat.resolve("gone")


@pytest.mark.parametrize("mode", compat.MODES)
def test_the_trainers_have_the_methods_that_ours_extend(mode):
    cls = compat.names.trainer_base.TRAINER_REGISTRY.get(mode)
    assert modes.lacking(mode, cls) == []
    assert all(hasattr(cls, call) == (mode == "separate_async") for call in compat.SEPARATE_CALLS)
    assert [m for m in (*compat.TRAINER_METHODS, *compat.TRAINER_CALLS) if not hasattr(cls, m)] == []
    source = "".join(inspect.getsource(c) for c in cls.__mro__ if c is not object)
    assert [a for a in compat.TRAINER_ATTRIBUTES if f"self.{a}" not in source] == []


@pytest.mark.parametrize("module", ["beside", "drift", "fast_rollouts", "fast_slow", "transfer"])
def test_nothing_else_of_a_running_trainer_is_used(module):
    source = inspect.getsource(importlib.import_module(f"fst_verl.{module}"))
    trainers = [
        n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute) and "trainer" in names_of(n.value)
    ]
    used = {node.attr for node in trainers}
    assert len(used) >= 2 and used <= {*compat.TRAINER_CALLS, *compat.TRAINER_ATTRIBUTES}


def names_of(node):
    """`trainer` and `self.trainer`, but not `config.trainer`."""
    if isinstance(node, ast.Name):
        return {node.id}
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    return {node.attr} if own else set()


def test_ours_overrides_nothing_else():
    from fst_verl.trainer import FastSlowHooks

    overridden = {name for name, found in vars(FastSlowHooks).items() if callable(found)}
    assert overridden - {"__new__"} == set(compat.TRAINER_METHODS)


@pytest.mark.parametrize("first", ["verl.trainer.ppo.v1", "fst_verl.trainer", "fst_verl.agent_loop", "hydra"])
def test_import_verl_registers_everything(first):
    """Whichever of verl's modules and ours comes first, and with no warning."""
    code = f"""if True:
        import {first}
        import verl
        from fst_verl.compat import names
        assert names.get_trainer_cls("sync").__module__ == "fst_verl.trainer"
        assert names.get_trainer_cls("colocate_async").__name__ == "FastSlowPPOTrainerColocateAsync"
        assert {{"fst_context", "fst_reflect", "fst_episode"}} <= set(names.agent_loop_registry)
        from verl.trainer.ppo.core_algos import get_adv_estimator_fn
        assert get_adv_estimator_fn("fst_grpo").__module__ == "fst_verl.loss"
        from hydra.core.plugins import Plugins
        from hydra.plugins.search_path_plugin import SearchPathPlugin
        assert "FSTSearchPath" in {{p.__name__ for p in Plugins.instance().discover(SearchPathPlugin)}}
    """
    run(code, "-W", "error:fst_verl")


def test_import_verl_alone_loads_none_of_what_is_heavy():
    """Every process of a run imports verl; most need no trainer and no agent loop."""
    run("import sys, verl; assert not {'fst_verl.trainer', 'fst_verl.agent_loop', 'fst_envs'} & set(sys.modules)")


def test_a_part_that_cannot_be_loaded_is_told():
    """verl itself would hide it."""
    code = "import sys; sys.modules['fst_verl.loss'] = None; import verl.trainer.ppo.core_algos"
    assert "fast weights are not available" in run(code).stderr


def run(code, *options):
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_merely_installed_it_leaves_verl_and_its_process_alone():
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VERL_", "VLLM_", "OMP_"))}
    code = """if True:
        import os
        before = dict(os.environ)
        import verl
        import verl.trainer.main_ppo
        from fst_verl.compat import names
        added = {k for k in os.environ if os.environ[k] != before.get(k)}
        assert not added & {"OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE", "VERL_PLATFORM", "VERL_ENGINE_DEVICE"}, added
        assert "cpu" not in names.PlatformRegistry.registered_names()
    """
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_platform_is_cpu_where_it_is_asked_for():
    code = """if True:
        from fst_verl.hydra_door import CPUCallback
        from fst_verl.compat import names
        import verl
        CPUCallback().on_job_start(None)
        assert names.get_platform().device_name == "cpu"
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    env = {**os.environ, "VERL_PLATFORM": "cpu"}
    code = "import verl; from fst_verl.compat import names; assert names.get_platform().device_name == 'cpu'"
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_the_old_names_of_our_trainers_are_registered_as_well():
    for old, mode in compat.OLD_NAMES.items():
        assert compat.names.get_trainer_cls(old) is compat.names.get_trainer_cls(mode)


def test_the_registered_trainer_makes_verls_own_without_fast_weights(monkeypatch):
    from omegaconf import OmegaConf

    cls = compat.names.get_trainer_cls("fst_sync")
    plain = cls.plain
    monkeypatch.setattr(cls, "plain", lambda config: ("verl's own", config))

    def config(**fst):
        return OmegaConf.create({"trainer": {"v1": {"trainer_mode": "fst_sync"}}, **fst})

    for node in ({}, {"fst": None}, {"fst": {"enabled": False}}, {"fst": {"enabled": False, "drift": False}}):
        word, given = cls(config=config(**node))
        assert word == "verl's own" and given.trainer.v1.trainer_mode == "sync"
    monkeypatch.setattr(cls, "plain", plain)
    for node in ({"enabled": False, "drift": True}, {}):
        assert isinstance(cls.__new__(cls, config(fst=node)), cls)
