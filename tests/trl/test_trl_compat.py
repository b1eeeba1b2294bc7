"""Every name of TRL that is used exists in the TRL that is installed."""

import ast
import inspect

import pytest


@pytest.fixture(scope="module")
def compat():
    from fst_trl import compat

    return compat


def sources():
    from fst_trl import fast_rollouts, fast_slow, trainer

    return {module.__name__: ast.parse(inspect.getsource(module)) for module in (fast_rollouts, fast_slow, trainer)}


def test_the_table_resolves(compat):
    assert [name for name in compat.TABLE if getattr(compat.names, name) is None] == []


def test_a_missing_name_is_reported_with_what_to_install(compat):
    from fst_plugin.imports import Names

    with pytest.raises(ImportError, match="trl:nothing_of_that_name is not there.*TRL 1.16"):
        _ = Names({"gone": "trl:nothing_of_that_name"}, compat.NEEDS).gone


def test_the_trainer_has_what_ours_extends_calls_and_reads(compat):
    cls = compat.names.GRPOTrainer
    assert [m for m in (*compat.TRAINER_METHODS, *compat.TRAINER_CALLS) if not hasattr(cls, m)] == []
    source = "".join(inspect.getsource(c) for c in cls.__mro__ if c is not object)
    assert [a for a in compat.TRAINER_ATTRIBUTES if f"self.{a}" not in source] == []


def test_nothing_else_of_a_trainer_is_used(compat):
    own = {"fst", "check"}
    allowed = {*compat.TRAINER_METHODS, *compat.TRAINER_CALLS, *compat.TRAINER_ATTRIBUTES, *own}
    used = set()
    for name, tree in sources().items():
        trainers = {"trainer"} | ({"self"} if name.endswith("trainer") else set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                value = node.value
                last = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", None)
                if last in trainers and node.attr != "trainer":
                    used.add(node.attr)
    assert len(used) > 20 and used <= allowed, used - allowed


def test_ours_overrides_nothing_else(compat):
    from fst_trl import FastSlowHooks

    base = compat.names.GRPOTrainer
    overridden = {name for name, value in vars(FastSlowHooks).items() if callable(value) and hasattr(base, name)}
    assert overridden == set(compat.TRAINER_METHODS)


def test_every_override_calls_super():
    tree = next(tree for name, tree in sources().items() if name.endswith("trainer"))
    hooks = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "FastSlowHooks")
    without = [f.name for f in hooks.body if isinstance(f, ast.FunctionDef) and "super()" not in ast.unparse(f)]
    assert without == ["check"]
