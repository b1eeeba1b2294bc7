"""Whatever happens to a file of ours, it is refused by name or means what it meant."""

import os
import random
import shutil
import socket

import pytest
from cycles import fast_weights, slow_phase
from rule_world import World, make_problems

from fst_plugin.record import lock
from fst_plugin.record.calls import CallsFile, read_calls
from fst_plugin.record.cycles import read_cycle, read_record
from fst_plugin.record.journal import Journal, open_journal
from fst_plugin.record.sealed import UnusableFile

FLIPS, CUTS = 200, 20
PROBLEMS = make_problems(48)
SETTINGS = {"population": 2, "fast": {"passes": 3}}


class Dies:
    """A world whose engine dies at its third batch, as by a kill."""

    def __init__(self):
        self.world, self.calls = World(reliability=0.8, seed=7), 0

    def __call__(self, cells):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return self.world(cells)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The live folder of a run that was killed in its second fast phase, with the checkpoint before that."""
    live = tmp_path_factory.mktemp("run") / "fst"
    weights, _ = fast_weights(live, **SETTINGS)
    weights.evolve(1, "w0", PROBLEMS[:24], World(reliability=0.8))
    slow_phase(weights, World(reliability=0.8, seed=5), PROBLEMS[:24], range(1, 4))
    weights.save(live.parent / "global_step_3" / "fst", 3, ["p", "q"])
    with pytest.raises(KeyboardInterrupt):
        weights.evolve(4, "w3", PROBLEMS[24:], Dies(), recent=PROBLEMS[:24])
    return live.parent


def damaged(raw, seed):
    """The bytes with one bit flipped, again and again; then cut off somewhere, again and again."""
    rng = random.Random(seed)
    for _ in range(FLIPS):
        at = rng.randrange(len(raw))
        yield raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]
    for _ in range(CUTS):
        yield raw[: rng.randrange(len(raw))]


def refused_or_the_same(path, read):
    """Reads the file in all its damage. Returns how often it was refused."""
    raw, expected, refused = path.read_bytes(), read(), 0
    try:
        for content in damaged(raw, path.name):
            path.write_bytes(content)
            try:
                assert read() == expected, f"{path.name} was accepted and means something else"
            except ValueError as error:
                assert str(path) in str(error) and "move it away" in str(error), error
                refused += 1
    finally:
        path.write_bytes(raw)
    return refused


@pytest.mark.parametrize("name", ["state.json", "traces.jsonl"])
def test_a_checkpoint(run, name):
    folder = run / "global_step_3" / "fst"

    def restored():
        weights, _ = fast_weights(run / "fst", **SETTINGS)
        weights.restore(folder, 3, data_key="data", start_over="resume_mode=disable")
        return weights.state, weights.slow

    assert refused_or_the_same(folder / name, restored) > 0.8 * FLIPS


@pytest.mark.parametrize(
    "name", ["evolution.json", "population.json", "candidates.jsonl", "ledger.json", "problems.jsonl"]
)
def test_a_finished_cycle(run, name):
    folder = run / "fst" / "cycle_0000"
    assert refused_or_the_same(folder / name, lambda: read_cycle(folder)) > 0.8 * FLIPS


def test_the_state_that_people_read(run):
    assert refused_or_the_same(run / "fst" / "state.json", lambda: read_record(run).rows()) > 0.8 * FLIPS


def test_the_identity_of_a_running_phase(run, tmp_path):
    folder = tmp_path / "cycle_0001"
    shutil.copytree(run / "fst" / "cycle_0001", folder)
    identity = {"weights": "w", "population": "p"}
    (folder / "identity.json").unlink()
    (folder / "calls.jsonl.gz").unlink()
    Journal(folder, identity)
    assert refused_or_the_same(folder / "identity.json", lambda: Journal(folder, identity).finished()) > 0.8 * FLIPS


def test_the_calls_of_a_running_phase(run, tmp_path):
    (tmp_path / "calls.jsonl.gz").write_bytes((run / "fst" / "cycle_0001" / "calls.jsonl.gz").read_bytes())
    path = tmp_path / "calls.jsonl.gz"
    raw, expected, refused, cut = path.read_bytes(), list(read_calls(tmp_path)), 0, 0
    assert len(expected) > 2
    for content in damaged(raw, "calls"):
        path.write_bytes(content)
        try:
            found = CallsFile(tmp_path)
        except UnusableFile as error:
            assert str(path) in str(error)
            refused += 1
            continue
        calls = list(found.read())
        assert calls == expected[: len(calls)] and (calls == expected or found.cut)
        cut += bool(found.cut)
    assert refused > 0.5 * FLIPS and cut >= 0.5 * CUTS


def test_a_killed_phase_ends_the_same_whatever_became_of_its_files(run, tmp_path):
    reference, rng = None, random.Random(4)
    for number in range(9):
        here = tmp_path / str(number)
        shutil.copytree(run, here)
        folder = here / "fst" / "cycle_0001"
        for path in [folder / "identity.json", folder / "calls.jsonl.gz"] if number else []:
            path.write_bytes(list(damaged(path.read_bytes(), number))[rng.randrange(FLIPS + CUTS)])
        weights, lines = fast_weights(here / "fst", **SETTINGS)
        weights.restore(here / "global_step_3" / "fst", 3, data_key="data", start_over="-")
        metrics = weights.evolve(4, "w3", PROBLEMS[24:], World(reliability=0.8, seed=7), recent=PROBLEMS[:24])
        reference = reference or weights.population.to_json()
        assert weights.population.to_json() == reference
        if {"records_set_aside", "record_bytes_cut"} & metrics.keys():
            assert any("discarding cycle_0001" in line or "cut off its record" in line for line in lines)


def test_the_owner_of_a_lock_is_named_as_far_as_it_is_known(tmp_path):
    held = lock.hold(tmp_path / "fst", print)
    owner = tmp_path / "fst.owner.json"
    for content in [b"", b"[" * 100_000, b'{"process": null}', *damaged(owner.read_bytes(), "owner")]:
        owner.write_bytes(content)
        assert lock._who(owner) in ("process unknown", f"process {os.getpid()} on {socket.gethostname()!r}")
    assert held


def test_a_phase_of_an_earlier_version_is_set_aside_and_starts_anew(tmp_path):
    folder = tmp_path / "cycle_0000"
    folder.mkdir()
    (folder / "identity.json").write_text('{"weights": "w"}')
    (folder / "calls.jsonl").write_text('{"kind": "evaluate", "digest": "d", "answer": []}\n')
    lines = []
    assert open_journal(folder, {"weights": "w"}, lines.append).mishaps == {"records_set_aside": 1.0}
    assert "identity.json has format None, this version reads format 2" in lines[0]
    assert (tmp_path / "old_cycle_0000_1" / "calls.jsonl").exists()
