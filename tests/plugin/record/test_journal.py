"""A fast phase survives being killed, and pays nothing twice."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from rule_world import World, gepa, make_problems, seed_population

from fst_plugin.prompts import Prompt
from fst_plugin.record.atomic import write_json, write_text
from fst_plugin.record.calls import CallsFile, read_calls
from fst_plugin.record.journal import Journal, JournalError, JournalMismatch, open_journal
from fst_plugin.record.sealed import UnusableFile
from fst_plugin.reflection import OfflineReflection, ReflectionRequest
from fst_plugin.rollouts import Cell, Problem, Rollout

IDENTITY = {"weights": "w0", "population": "p0"}
BUDGET, ANCHORS = 150, 30


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Moody:
    """A reflection that is not repeatable: every call of its life says something else, and every other one fails."""

    life = 0

    def propose(self, requests):
        Moody.life += 1
        if Moody.life % 2 == 0:
            raise TimeoutError("not now")
        texts = OfflineReflection().propose(requests)
        return [f"{text}\nSaid in call {Moody.life}." for text in texts]

    def describe(self):
        return "moody"


def run(folder, world, reflection=None, die_at=None, after=False):
    """One phase under a journal. die_at: ends like a killed process at that evaluate call of this run: before its
    rollouts ran, or after they ran and before anybody saw them."""
    calls = 0

    def evaluate(cells):
        nonlocal calls
        calls += 1
        if calls == die_at and not after:
            raise Killed
        rollouts = world(cells)
        if calls == die_at:
            raise Killed
        return rollouts

    journal = Journal(folder, IDENTITY)
    optimizer = gepa(journal.reflection(reflection or OfflineReflection()), k=4, budget=BUDGET)
    problems = make_problems(ANCHORS)
    evolution = optimizer.evolve(seed_population(), problems, journal.evaluate(evaluate), cycle=0, seed=5)
    journal.finish(evolution)
    return evolution, journal


def paid(world):
    return [(c.prompt.digest, c.problem.id, i) for i, batch in enumerate(world.batches) for c in batch]


def test_killed_at_every_evaluate_the_phase_ends_the_same(tmp_path):
    whole = World(reliability=0.7, luck=0.1)
    expected, _ = run(tmp_path / "whole", whole)
    calls = len(whole.batches)
    assert calls >= 4
    for boundary in range(1, calls + 1):
        folder = tmp_path / str(boundary)
        world = World(reliability=0.7, luck=0.1)
        with pytest.raises(Killed):
            run(folder, world, die_at=boundary)
        assert len(world.batches) == boundary - 1
        evolution, journal = run(folder, world)
        assert evolution.population.to_json() == expected.population.to_json()
        assert evolution.metrics == expected.metrics
        assert paid(world) == paid(whole)  # both lives together paid what the undisturbed one did
        assert journal.replayed > 0 or boundary == 1


def test_killed_at_every_evaluate_of_one_phase_again_and_again(tmp_path):
    whole = World(reliability=0.7, luck=0.1)
    expected, _ = run(tmp_path / "whole", whole)
    world = World(reliability=0.7, luck=0.1)
    lives = 0
    while True:
        lives += 1
        try:
            evolution, _ = run(tmp_path / "again", world, die_at=2)
            break
        except Killed:
            assert lives < 50
    assert evolution.population.to_json() == expected.population.to_json()
    assert paid(world) == paid(whole) and lives == len(whole.batches)


def test_a_batch_whose_answer_was_lost_is_the_only_thing_paid_twice(tmp_path):
    whole = World(luck=0.1)
    expected, _ = run(tmp_path / "whole", whole)
    world = World(luck=0.1)
    with pytest.raises(Killed):
        run(tmp_path / "a", world, die_at=3, after=True)
    evolution, _ = run(tmp_path / "a", world)
    assert evolution.population.to_json() == expected.population.to_json()
    assert len(world.batches) == len(whole.batches) + 1 and world.batches[2] == world.batches[3]


def test_reflections_that_cannot_be_repeated_and_their_failures_are_replayed(tmp_path):
    for boundary in (4, 5):
        Moody.life = 0
        world = World(reliability=0.7, luck=0.1)
        with pytest.raises(Killed):
            run(tmp_path / str(boundary), world, Moody(), die_at=boundary)
        said = [c for c in read_calls(tmp_path / str(boundary)) if c.kind == "reflect"]
        failed = [call.trouble for call in said if None in call.answer]
        assert all(trouble["failures"][1] == "TimeoutError: not now" for trouble in failed)
        life = Moody.life
        assert len(said) == life > 0 and any(None in call.answer for call in said)
        again = run_to_the_last_call(tmp_path / str(boundary), world, Moody())
        reflected = [c for c in again if c.kind == "reflect"]
        assert reflected[: len(said)] == said and len(reflected) == Moody.life >= life
        evolution, journal = run(tmp_path / str(boundary), world, Moody())
        assert journal.replayed == len(again) and len(reflected) == Moody.life
        assert "the last error: TimeoutError: not now" in evolution.warnings[0]
        assert sum(len(b) for b in world.batches) == evolution.metrics["rollouts"]


def run_to_the_last_call(folder, world, reflection=None):
    """As `run`, ended right before the phase is marked as finished. Returns the calls on record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "finish", lambda *args: None)
        run(folder, world, reflection)
    return list(read_calls(folder))


CHILD = """
import os, signal, sys
sys.path[:0] = sys.argv[4:]
import test_journal as t
class Mortal(t.World):
    def __call__(self, cells):
        with open(sys.argv[2], "a") as paid:
            if sum(1 for _ in open(sys.argv[2])) + 1 == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            paid.write(f"{len(cells)}\\n")
        return super().__call__(cells)
evolution, _ = t.run(sys.argv[1], Mortal(reliability=0.7, luck=0.1))
print(evolution.population.digest)
"""


def test_sigkill_of_a_real_process(tmp_path):
    whole = World(reliability=0.7, luck=0.1)
    expected, _ = run(tmp_path / "whole", whole)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[3])]

    def child(kill_at):
        script = [sys.executable, "-c", CHILD, str(tmp_path / "f"), str(tmp_path / "paid"), str(kill_at), *paths]
        return subprocess.run(script, capture_output=True, text=True, timeout=120)

    (tmp_path / "paid").touch()
    for kill_at in (1, 3):
        assert child(kill_at).returncode == -signal.SIGKILL
    last = child(0)
    assert last.returncode == 0, last.stderr
    assert last.stdout.split()[-1] == expected.population.digest
    batches = [int(line) for line in (tmp_path / "paid").read_text().splitlines()]
    assert batches == [len(b) for b in whole.batches]


def ends(raw):
    """Where each call of a record ends."""
    found = []
    while raw[sum(found) :]:
        inflate = zlib.decompressobj(31)
        inflate.decompress(raw[sum(found) :])
        found.append(len(raw) - sum(found) - len(inflate.unused_data))
    return [sum(found[: i + 1]) for i in range(len(found))]


def test_a_torn_last_call_is_cut_off_and_reported(tmp_path):
    expected = run_to_the_last_call(tmp_path, World(luck=0.1))
    record = tmp_path / "calls.jsonl.gz"
    raw = record.read_bytes()
    whole = ends(raw)[-2]
    for cut in (whole + 1, whole + 15, len(raw) - 1):
        record.write_bytes(raw[:cut])
        lines = []
        assert open_journal(tmp_path, IDENTITY, lines.append).mishaps == {"record_bytes_cut": cut - whole}
        assert f"{cut - whole} bytes of a call were cut off" in lines[0] and record.read_bytes() == raw[:whole]
        assert run_to_the_last_call(tmp_path, World(luck=0.1)) == expected and record.read_bytes() == raw


def test_a_record_that_is_damaged_is_set_aside_and_the_phase_starts_anew(tmp_path):
    folder = tmp_path / "cycle_0000"
    run_to_the_last_call(folder, World(luck=0.1))
    raw = (folder / "calls.jsonl.gz").read_bytes()
    (folder / "calls.jsonl.gz").write_bytes(b"#" + raw[1:])
    with pytest.raises(UnusableFile, match="calls.jsonl.gz is damaged or edited .call 1: .*restore it or move it away"):
        Journal(folder, IDENTITY)
    lines = []
    journal = open_journal(folder, IDENTITY, lines.append)
    assert journal.mishaps == {"records_set_aside": 1.0} and "calls.jsonl.gz is damaged" in lines[0]
    assert (tmp_path / "old_cycle_0000_1" / "calls.jsonl.gz").exists() and not list(read_calls(folder))


def test_a_finished_phase_needs_no_record_of_its_calls(tmp_path):
    expected, _ = run(tmp_path, World(luck=0.1))
    assert not (tmp_path / "calls.jsonl.gz").exists()
    (tmp_path / "calls.jsonl.gz").write_bytes(b"of a kill before it was deleted, and damaged")
    again = Journal(tmp_path, IDENTITY).finished()
    assert again.population == expected.population and not (tmp_path / "calls.jsonl.gz").exists()


class FullDisk:
    """Stands for a disk that is full from the n-th record on: half of the call is written."""

    def __init__(self, monkeypatch, full_at):
        self.left, self.sync = full_at, os.fsync
        monkeypatch.setattr(os, "fsync", self)

    def __call__(self, handle):
        if "calls.jsonl" in os.readlink(f"/proc/self/fd/{handle}") and os.fstat(handle).st_size > 0:
            self.left -= 1
            if self.left == 0:
                os.ftruncate(handle, os.fstat(handle).st_size - 20)
                raise OSError(28, "No space left on device")
        self.sync(handle)


@pytest.mark.parametrize("kind", ["evaluate", "reflect"])
def test_a_call_that_cannot_be_recorded_ends_the_phase_and_leaves_whole_calls(tmp_path, monkeypatch, kind):
    expected = run_to_the_last_call(tmp_path / "whole", World(luck=0.1))
    full_at = next(i for i, call in enumerate(expected, 1) if i > 1 and call.kind == kind)
    world = World(luck=0.1)
    with monkeypatch.context() as patch:
        FullDisk(patch, full_at)
        with pytest.raises(JournalError, match="calls.jsonl.gz cannot be written .*No space left.*free space"):
            run(tmp_path / "full", world)
    assert list(read_calls(tmp_path / "full")) == expected[: full_at - 1] and CallsFile(tmp_path / "full").cut == 0
    assert run_to_the_last_call(tmp_path / "full", world) == expected


def test_after_a_call_was_lost_no_other_is_answered(tmp_path, monkeypatch):
    journal = Journal(tmp_path, IDENTITY)
    cells = [Cell(Prompt("p"), make_problems(1)[0])]
    with monkeypatch.context() as patch:
        FullDisk(patch, 1)
        with pytest.raises(JournalError):
            journal.evaluate(World())(cells)
    with pytest.raises(JournalError, match="No space left"):
        journal.evaluate(World())(cells)
    assert not list(read_calls(tmp_path))


def test_long_answers_take_little_room_and_are_the_same_after_a_restart(tmp_path):
    cells = [Cell(Prompt("p"), p) for p in make_problems(50)]
    answer = "解答は次のとおりです。" * 12_000
    journal = Journal(tmp_path, IDENTITY)
    seen = journal.evaluate(lambda asked: [Rollout(0.5, answer, "誤り。" * 9_000) for _ in asked])(cells)
    assert len(seen[0].response) == len(seen[0].feedback) == 4000 and seen[0].response[-11:] == answer[-11:]
    assert (tmp_path / "calls.jsonl.gz").stat().st_size < 20_000
    assert Journal(tmp_path, IDENTITY).evaluate(None)(cells) == seen
    text = gzip.decompress((tmp_path / "calls.jsonl.gz").read_bytes()).decode()
    assert "解答は" in text and "\\u" not in text


def test_a_batch_is_made_durable_once_however_many_rollouts_it_has(tmp_path, monkeypatch):
    journal, problems, sync, synced = Journal(tmp_path, {"phase": "1"}), make_problems(50), os.fsync, []
    evaluate = journal.evaluate(lambda cells: [Rollout(0.0, "word " * 5000) for _ in cells])
    evaluate([Cell(Prompt("a"), problems[0])])  # makes the file, and the folder's entry of it
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file) or sync(file))
    for size in (1, 50):
        synced.clear()
        evaluate([Cell(Prompt("a"), problem) for problem in problems[:size]])
        assert len(synced) == 1
    assert (tmp_path / "calls.jsonl.gz").read_bytes()[8] == 4, "gzip's header: compressed the fast way"


def test_another_identity_is_refused_by_name(tmp_path):
    Journal(tmp_path, IDENTITY)
    with pytest.raises(JournalMismatch, match="weights was 'w0', is 'w1'") as error:
        Journal(tmp_path, {**IDENTITY, "weights": "w1"})
    assert "p0" not in str(error.value)
    with pytest.raises(JournalMismatch, match="settings was None"):
        Journal(tmp_path, {**IDENTITY, "settings": "s"})
    assert Journal(tmp_path, IDENTITY).finished() is None
    (tmp_path / "calls.jsonl.gz").touch()
    (tmp_path / "identity.json").unlink()
    with pytest.raises(JournalMismatch, match="cannot tell which phase"):
        Journal(tmp_path, IDENTITY)


def test_a_call_that_is_not_the_recorded_one_is_refused_even_inside_a_phase(tmp_path):
    world = World(luck=0.1)
    calls = run_to_the_last_call(tmp_path, world)
    journal = Journal(tmp_path, IDENTITY)
    with pytest.raises(JournalMismatch, match="optimizer is not deterministic"):
        journal.evaluate(world)([Cell(Prompt("another"), make_problems(1)[0])])
    first = next(i for i, c in enumerate(calls) if c.kind == "reflect")
    calls[first] = replace(calls[first], digest="0" * 16)
    (tmp_path / "calls.jsonl.gz").unlink()
    record = CallsFile(tmp_path)
    for call in calls:
        record.append(call)
    before = world.rollouts
    with pytest.raises(JournalMismatch, match="reflect"):
        run(tmp_path, world)
    assert world.rollouts == before


def test_rollouts_and_proposals_come_back_as_they_were(tmp_path):
    rollouts = [Rollout(0.5, "a\u2028\ud800\n", "größe", None), Rollout(float("nan"), "", "", "boom")]
    cells = [Cell(Prompt("p"), p) for p in make_problems(2)]
    ask = [ReflectionRequest(Prompt("p"), ((cells[0].problem, rollouts[0]),), 0, 1, 10)]
    journal = Journal(tmp_path, IDENTITY)
    assert journal.evaluate(lambda c: list(rollouts))(cells) is not None
    assert journal.reflection(SaysOneThing("x\ny")).propose(ask) == ["x\ny"]
    again = Journal(tmp_path, IDENTITY)

    def never(*args):
        raise AssertionError("paid twice")

    back = again.evaluate(never)(cells)
    assert back[0] == rollouts[0] and back[1].error == "boom" and back[1].score != back[1].score
    assert again.reflection(SaysOneThing(never)).propose(ask) == ["x\ny"]
    assert (again.replayed, again.recorded) == (2, 0)
    other = Journal(tmp_path, IDENTITY)
    other.evaluate(never)(cells)
    with pytest.raises(JournalMismatch, match="reflect"):
        other.reflection(SaysOneThing(never)).propose([replace(ask[0], mate=Prompt("a second one"))])


class SaysOneThing:
    def __init__(self, text):
        self.text = text

    def propose(self, requests):
        return [self.text() if callable(self.text) else self.text for _ in requests]

    def describe(self):
        return "says one thing"


def test_a_finished_phase_comes_back_whole(tmp_path):
    world = World()
    evolution, _ = run(tmp_path, world)
    back = Journal(tmp_path, IDENTITY).finished()
    assert back is not None and back.population.to_json() == evolution.population.to_json()
    assert back.metrics == evolution.metrics and back.warnings == evolution.warnings
    data = json.loads((tmp_path / "evolution.json").read_text())
    data["population"]["prompts"][0]["text"] += " edited"
    (tmp_path / "evolution.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="edited"):
        Journal(tmp_path, IDENTITY).finished()


def test_atomic_files(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"b": 1, "a": "ü\n"})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"b": 1, "a": "ü\n"} and "ü" in text
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text(encoding="utf-8"))["b"] == 1
    write_text(path, "a\r\nb\n")
    assert path.read_bytes() == b"a\r\nb\n"
    write_json(path, {"a": "\ud800"})
    assert json.loads(path.read_text()) == {"a": "\ud800"}
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "f.txt"
    write_text(path, "old")

    def fails(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: .*/f.json"):
        write_json(tmp_path / "f.json", {})


def test_made_feedback_stays_marked_when_it_is_answered_from_the_record(tmp_path):
    cell = Cell(Prompt("p"), Problem("q", ()))
    made = Rollout(0.0, "an answer", "The answer got 0.", feedback_made=True)
    for evaluate in (lambda cells: [made], None):  # the second time, nothing is left to run
        assert Journal(tmp_path / "cycle", {"weights": "w"}).evaluate(evaluate)([cell]) == [made]
