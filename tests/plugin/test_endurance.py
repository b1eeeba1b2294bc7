"""A fast phase that is killed, wherever it is killed, ends as if it had not been, and pays for nothing twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cycles import fast_weights, slow_phase
from rule_world import World, make_problems

from fst_plugin.record import state as durable
from fst_plugin.record.calls import CALLS_FILE, read_calls
from fst_plugin.record.slow_scores import SlowScores
from fst_plugin.reflection import offline

PROBLEMS = make_problems(48)
SETTINGS = {"population": 2, "fast": {"passes": 3}}


class Killed(BaseException):
    """As good as SIGKILL for the code under test: nothing catches it."""


class Doom:
    """Counts what happens and kills at the n-th thing."""

    def __init__(self, at=None):
        self.count, self.at, self.names = 0, at, []

    def tick(self, name):
        self.count += 1
        self.names.append(name)
        if self.count == self.at:
            raise Killed(name)


@pytest.fixture
def doom(monkeypatch):
    """All boundaries of a phase tick: rollouts, reflections, and every write, sync and rename on the way to disk."""
    current = [Doom()]

    def around(module, name):
        real = getattr(module, name)

        def wrapped(*args, **kwargs):
            current[0].tick(f"before {name}")
            result = real(*args, **kwargs)
            current[0].tick(f"after {name}")
            return result

        monkeypatch.setattr(module, name, wrapped)

    around(os, "replace")
    around(os, "fsync")
    around(offline.OfflineReflection, "propose")

    def arm(at=None):
        current[0] = Doom(at)
        return current[0]

    return arm


class Paying:
    """The world's `evaluate`; rollouts are paid for when they come back."""

    def __init__(self, doom):
        self.world, self.doom = World(reliability=0.8), doom

    def __call__(self, cells):
        self.doom.tick("before rollouts")
        rollouts = self.world(cells)
        self.doom.tick("after rollouts")
        return rollouts


def first_cycle(folder):
    """The first cycle of a run, and its checkpoint."""
    weights, _ = fast_weights(folder, **SETTINGS)
    weights.evolve(1, "w0", PROBLEMS[:24], World(reliability=0.8))
    slow_phase(weights, World(reliability=0.8, seed=5), PROBLEMS[:24], range(1, 4))
    durable.save(weights.state, folder / "checkpoint")
    weights.slow.save(folder / "checkpoint")


def second_cycle(folder, doom):
    """The second cycle's fast phase, from the checkpoint, with slow scores. Returns (fast weights, rollouts paid)."""
    weights, _ = fast_weights(folder, **SETTINGS)
    weights.state, weights.slow = durable.load(folder / "checkpoint"), SlowScores.load(folder / "checkpoint")
    paying = Paying(doom)
    weights.evolve(4, "w3", PROBLEMS[24:], paying, recent=PROBLEMS[:24])
    return weights, paying.world.rollouts


def recorded(folder, everything):
    """Rollouts that need not be paid for again: those in whole calls of the record, all where the phase had ended."""
    if (folder / "cycle_0001" / "evolution.json").exists():
        return everything
    return sum(len(call.answer) for call in read_calls(folder / "cycle_0001") if call.kind == "evaluate")


def test_killed_at_every_boundary(tmp_path, doom):
    first_cycle(tmp_path / "start")
    shutil.copytree(tmp_path / "start", tmp_path / "whole")
    counted = doom()
    whole, everything = second_cycle(tmp_path / "whole", counted)
    reference = whole.population.to_json()
    assert {"before rollouts", "after rollouts", "before propose", "before replace", "after fsync"} <= set(
        counted.names
    )
    assert counted.count > 40 and whole.state.cycle == 1
    rng = random.Random(0)
    for at in range(1, counted.count + 1):
        folder = tmp_path / f"at{at}"
        shutil.copytree(tmp_path / "start", folder)
        with pytest.raises(Killed):
            second_cycle(folder, doom(at))
        calls = folder / "cycle_0001" / CALLS_FILE
        if at % 3 == 0 and calls.exists() and not (folder / "cycle_0001" / "evolution.json").exists():
            tear(calls, rng)
        if at % 4 == 0:  # killed once more, soon after
            try:
                second_cycle(folder, doom(rng.randint(1, 6)))
            except Killed:
                pass
        known = recorded(folder, everything)
        again, paid = second_cycle(folder, doom())
        assert again.population.to_json() == reference, f"killed {counted.names[at - 1]}"
        assert paid == everything - known, f"killed {counted.names[at - 1]}"
        assert durable.load(folder) == again.state == whole.state


def tear(path, rng):
    """What a kill in the middle of a write leaves: a part of the last call."""
    raw = path.read_bytes()
    last = raw.rfind(b"\x1f\x8b\x08\x00\x00\x00\x00\x00")  # where gzip's header says: no name, no time
    path.write_bytes(raw[: rng.randint(last, max(last, len(raw) - 1))])


SCRIPT = """
import sys, time
sys.path.insert(0, {here!r})
import pathlib, test_endurance
class Slowly:
    def tick(self, name): time.sleep(0.02)
weights, _ = test_endurance.second_cycle(pathlib.Path(sys.argv[1]), Slowly())
print(weights.population.digest)
"""


def test_sigkill_again_and_again(tmp_path, doom):
    first_cycle(tmp_path / "killed")
    shutil.copytree(tmp_path / "killed", tmp_path / "whole")
    reference = second_cycle(tmp_path / "whole", doom())[0].population.digest
    command = [sys.executable, "-c", SCRIPT.format(here=str(Path(__file__).parent)), str(tmp_path / "killed")]
    rng, kills = random.Random(3), 0
    begun = tmp_path / "killed" / "cycle_0001" / "identity.json"
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while process.poll() is None and not begun.exists():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == reference and kills >= 1
