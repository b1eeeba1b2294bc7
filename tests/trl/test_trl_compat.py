"""All that is used of TRL's trainer exists in the TRL that is installed."""

import ast
import inspect
import runpy
import sys

import pytest


@pytest.fixture(scope="module")
def base():
    from trl import GRPOTrainer

    return GRPOTrainer


def modules():
    from fst_trl import fast_rollouts, fast_slow, run_log, trainer

    return fast_rollouts, fast_slow, run_log, trainer


def overrides(base):
    from fst_trl import FastSlowHooks

    return {name for name, value in vars(FastSlowHooks).items() if callable(value) and hasattr(base, name)}


def used():
    """Attributes of a trainer that are read or called, and those that are set for a time and put back."""
    from fst_trl.fast_rollouts import PLAIN, REWARDS_ALONE
    from fst_trl.trainer import ONE_EACH

    found = {*PLAIN, *REWARDS_ALONE, *ONE_EACH, "_metrics", "_pending_extra_logs", "_pending_metrics"}
    for module in modules():
        trainers = {"trainer"} | ({"self"} if module.__name__.endswith(".trainer") else set())
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute):
                value = node.value
                last = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", None)
                if last in trainers:
                    found.add(node.attr)
    return found - {"fst", "check", "trainer"}


def test_a_missing_trl_is_reported_with_what_to_install(monkeypatch):
    from fst_trl import compat

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ImportError, match=r"fst_trl needs TRL .* to .*: pip install 'fst-plugin\[trl\]'"):
        runpy.run_path(compat.__file__)


def test_the_installed_trl_is_one_that_is_said_to_be_tested():
    from fst_trl.compat import TESTED
    from packaging.version import Version
    from trl import __version__

    assert Version(TESTED[0]) <= Version(__version__) <= Version(TESTED[-1])


def test_the_pin_says_what_is_tested():
    from pathlib import Path

    from fst_trl.compat import TESTED

    oldest, newest = ([int(n) for n in version.split(".")] for version in (TESTED[0], TESTED[-1]))
    pin = f'"trl>={oldest[0]}.{oldest[1]},!=1.15.*,<{newest[0]}.{newest[1] + 1}"'
    assert pin in (Path(__file__).parents[2] / "pyproject.toml").read_text()


def test_trls_trainer_has_all_that_is_used_of_it(base):
    source = "".join(inspect.getsource(cls) for cls in base.__mro__ if cls is not object)
    assert len(used()) > 20
    assert [name for name in used() if not hasattr(base, name) and f"self.{name}" not in source] == []


def test_every_override_extends_a_method_of_trls_own_and_calls_super(base):
    from fst_trl import trainer

    tree = ast.parse(inspect.getsource(trainer))
    hooks = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "FastSlowHooks")
    methods = {f.name: ast.unparse(f) for f in hooks.body if isinstance(f, ast.FunctionDef)}
    assert set(methods) == overrides(base) | {"check"}
    assert [name for name, code in methods.items() if "super()." not in code] == ["check"]


def test_every_override_calls_super_whatever_happens(base):
    """No branch of an override leaves TRL's own method out."""
    from fst_trl import trainer

    tree = ast.parse(inspect.getsource(trainer))
    hooks = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "FastSlowHooks")
    for method in (f for f in hooks.body if isinstance(f, ast.FunctionDef) and f.name != "check"):
        before = []
        for statement in method.body:
            if "super()." in ast.unparse(statement) and not isinstance(statement, ast.If):
                break
            before += [node for node in ast.walk(statement) if isinstance(node, ast.Return)]
        else:
            pytest.fail(f"{method.name} calls super() in a branch only")
        assert before == [], method.name
