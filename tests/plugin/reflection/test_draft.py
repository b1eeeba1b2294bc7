"""Reflection ahead of time."""

import threading

import pytest
from rule_world import World, make_problems

from fst_plugin.prompts import Prompt
from fst_plugin.reflection.base import ReflectionRequest
from fst_plugin.reflection.draft import Drafted
from fst_plugin.reflection.offline import OfflineReflection

REQUESTS = [ReflectionRequest(Prompt("p"), (), slot, 1, 100) for slot in range(3)]


class Slow:
    def __init__(self, error=None):
        self.go, self.calls, self.error = threading.Event(), 0, error

    def propose(self, requests):
        self.calls += 1
        self.go.wait(5)
        if self.error:
            raise self.error
        return [f"{r.slot}" for r in requests]

    def describe(self):
        return "slow"


def test_the_same_requests_take_the_draft_and_it_runs_beside_the_caller():
    inner = Slow()
    drafted = Drafted(inner)
    drafted.start(REQUESTS)
    assert drafted.used == 0  # start came back although the reflection still waits
    inner.go.set()
    assert drafted.propose(REQUESTS) == ["0", "1", "2"] and inner.calls == 1 and drafted.used == 1
    assert drafted.propose(REQUESTS) == ["0", "1", "2"] and inner.calls == 2  # a draft serves once


def test_other_requests_go_to_the_reflection():
    inner = Slow()
    inner.go.set()
    drafted = Drafted(inner)
    drafted.start(REQUESTS)
    assert drafted.propose(REQUESTS[:1]) == ["0"] and drafted.used == 0


def test_a_failed_draft_fails_as_the_reflection_would():
    inner = Slow(TimeoutError("no answer"))
    inner.go.set()
    drafted = Drafted(inner)
    drafted.start(REQUESTS)
    with pytest.raises(TimeoutError, match="no answer"):
        drafted.propose(REQUESTS)


def test_a_phase_uses_what_was_drafted_in_the_slow_phase(tmp_path, monkeypatch):
    from cycles import fast_weights, slow_phase

    from fst_plugin import fast_weights as module

    built = []

    def build(config, policy):
        built.append(Counting())
        return built[-1]

    class Counting(OfflineReflection):
        batches = 0

        def propose(self, requests):
            self.batches += 1
            return super().propose(requests)

    monkeypatch.setattr(module, "build_reflection", build)
    weights, _ = fast_weights(tmp_path, population=2)
    world, problems = World(reliability=0.9), make_problems(60)
    weights.evolve(1, "w0", problems[:30], world)
    slow_phase(weights, world, problems[:30], range(1, 4))
    reference = weights.population
    assert weights.draft(4, problems[30:], problems[:30])
    drafted = weights._drafted
    metrics = weights.evolve(4, "w3", problems[30:], world, recent=problems[:30])
    assert drafted.used == 1 and metrics["anchors_free"] > 0 and len(built) == 2
    assert weights.population.digest != reference.digest
