"""Two runs never write into one folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fst_plugin import Prompt
from fst_plugin.config import parse
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.record import lock
from fst_plugin.record.lock import FolderInUse, hold

CHILD = """
import os, pathlib, sys, time
from fst_plugin.record.lock import hold
held = hold(pathlib.Path(sys.argv[1]), print)
if len(sys.argv) > 2 and os.fork() == 0:
    time.sleep(2)  # as a data loader's worker does, for a moment after its parent was killed
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


def other_run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", CHILD, str(folder), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_is_refused_with_host_and_process_of_the_first(tmp_path):
    other = other_run(tmp_path / "fst")
    try:
        lines = []
        with pytest.raises(FolderInUse, match=f"process {other.pid} on '{socket.gethostname()}'.*default_local_dir"):
            hold(tmp_path / "fst", lines.append, wait_s=0.1)
        assert "waiting 0.1 s" in lines[0]
        assert hold(tmp_path / "another", lines.append) is not None
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize("arguments", [(), ("with a child that lives on",)])
def test_what_a_killed_run_left_is_taken_over(tmp_path, arguments):
    other = other_run(tmp_path / "fst", *arguments)
    other.send_signal(signal.SIGKILL)
    other.wait()
    began = time.monotonic()
    assert hold(tmp_path / "fst", lambda line: None) is not None
    assert time.monotonic() - began < 5 and str(os.getpid()) in (tmp_path / "fst.owner.json").read_text()
    other.communicate()


def test_one_process_holds_a_folder_more_than_once_and_frees_it_with_the_last(tmp_path):
    folder = tmp_path / "fst"
    first, second = hold(folder, print), hold(folder, print)
    del first
    lines = []
    assert refused(folder)
    del second
    assert not refused(folder) and not lines


def test_a_fresh_start_moves_nothing_of_a_run_that_is_alive(tmp_path, monkeypatch):
    folder = tmp_path / "fst"
    (folder / "cycle_0000").mkdir(parents=True)
    monkeypatch.setattr("fst_plugin.fast_weights.hold", partial(hold, wait_s=0.1))
    settings = parse({"reflection": {"kind": "offline"}})
    policy = Policy(400, len)
    other = other_run(folder)
    try:
        with pytest.raises(FolderInUse):
            FastWeights.start(settings, policy, folder, seed=Prompt("p"), fresh=True)
        assert (folder / "cycle_0000").exists()
    finally:
        other.kill()
        other.communicate()
    weights = FastWeights.start(settings, policy, folder, seed=Prompt("p"), fresh=True, log=lambda line: None)
    assert not folder.exists() and refused(weights.folder)


def refused(folder):
    code = "import pathlib, sys; from fst_plugin.record.lock import hold; hold(pathlib.Path(sys.argv[1]), print, 0.1)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return (
        subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, env=environment).returncode != 0
    )


def test_a_disk_without_locks_is_reported_and_does_not_keep_a_run_from_starting(tmp_path, monkeypatch):
    def no_locks(self, timeout):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(lock.FileLock, "acquire", no_locks)
    lines = []
    assert hold(tmp_path / "fst", lines.append) is None
    assert "cannot be locked (no flock here)" in lines[0]
