"""Every verl name that is used exists in the verl that is installed."""

import importlib.metadata
import inspect

import pytest

pytest.importorskip("verl")

from fst_verl import compat  # noqa: E402


def test_this_verl_is_supported():
    assert importlib.metadata.version("verl") in compat.SUPPORTED


@pytest.mark.parametrize("name", sorted(set(compat.TABLE) - {"vLLMColocateWorkerExtension"}))
def test_the_table_resolves(name):
    assert compat.resolve(name) is not None


def test_a_missing_name_is_told_with_the_supported_versions(monkeypatch):
    monkeypatch.setitem(compat.TABLE, "gone", "verl.trainer:nothing_of_that_name")
    with pytest.raises(ImportError, match="nothing_of_that_name.*0.9.1"):
        compat.resolve("gone")


@pytest.mark.parametrize("base", ["PPOTrainerSync", "PPOTrainerColocateAsync"])
def test_the_trainers_have_the_methods_that_ours_extend(base):
    cls = compat.resolve(base)
    assert [m for m in compat.TRAINER_METHODS if not hasattr(cls, m)] == []
    source = "".join(inspect.getsource(c) for c in cls.__mro__ if c is not object)
    assert [a for a in compat.TRAINER_ATTRIBUTES if f"self.{a}" not in source] == []


def test_ours_overrides_nothing_else():
    from fst_verl.trainer import FastSlow

    base = compat.resolve("PPOTrainerSync")
    overridden = {name for name in vars(FastSlow) if callable(getattr(FastSlow, name)) and hasattr(base, name)}
    assert overridden - set(dir(object)) | {"__init__"} <= set(compat.TRAINER_METHODS)


def test_import_verl_registers_everything():
    from fst_verl.trainer import FSTColocateAsync, FSTSync

    assert compat.names.get_trainer_cls("fst_sync") is FSTSync
    assert compat.names.get_trainer_cls("fst_colocate_async") is FSTColocateAsync
    assert {"fst_context", "fst_reflect", "fst_episode"} <= set(compat.names.agent_loop_registry)


def test_without_an_accelerator_the_platform_is_cpu():
    import torch

    assert compat.names.get_platform().device_name == ("cpu" if torch.version.cuda is None else "cuda")
