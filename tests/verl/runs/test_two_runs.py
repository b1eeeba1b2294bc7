"""Two runs on one host, each with a local Ray cluster: verl names their weight sockets alike, and we do not."""

from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from fst_verl.compat import names  # noqa: E402
from fst_verl.cpu import platform as cpu  # noqa: E402
from fst_verl.cpu import vllm_worker as cpu_vllm  # noqa: E402
from fst_verl.experiments.runner import VerlRun, run_all  # noqa: E402

HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def both_ends(monkeypatch, raylet):
    """(sender's socket, receiver's socket) of a run whose node has this raylet."""
    monkeypatch.setenv("RAY_RAYLET_PID", raylet)
    monkeypatch.setattr(cpu_vllm._Base, "_get_zmq_handle", lambda self: HANDLE)

    class ServerAdapter:
        def __init__(self, rank):
            self.rank, self.zmq_handle = rank, HANDLE

    cpu._patch_weight_socket(SimpleNamespace(ServerAdapter=ServerAdapter))
    sender = ServerAdapter(rank=3)
    assert sender.rank == 3
    receiver = object.__new__(cpu_vllm.CPUWorkerExtension)
    return sender.zmq_handle, receiver._get_zmq_handle()


def test_a_runs_two_ends_meet_at_a_socket_of_its_own(monkeypatch):
    sender, receiver = both_ends(monkeypatch, "4711")
    assert sender == receiver == HANDLE.replace(".sock", "-raylet-4711.sock")
    assert both_ends(monkeypatch, "4712")[0] != sender


def test_without_ray_the_socket_is_verls(monkeypatch):
    monkeypatch.delenv("RAY_RAYLET_PID", raising=False)
    assert cpu.own_socket(HANDLE) == HANDLE


def test_verls_sender_is_mended_and_its_receiver_is_ours():
    from fst_verl.check import compose

    cpu.activate()
    assert names.ServerAdapter.__init__.__module__ == cpu.__name__
    engine = compose(["+fst_cpu=default"]).actor_rollout_ref.rollout.engine_kwargs.vllm
    assert engine.worker_extension_cls == f"{cpu_vllm.__name__}.{cpu_vllm.CPUWorkerExtension.__name__}"


def test_on_an_accelerator_runs_side_by_side_need_one_cluster(monkeypatch, tmp_path):
    ran, one = [], VerlRun(tmp_path / "rl_0", "rl", 0, ("a=b",))
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RuntimeError, match="--jobs 2: .*RAY_ADDRESS"):
        run_all([one], 2, ran.append)
    assert not ran
    run_all([one], 1, ran.append)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    run_all([one], 2, ran.append)
    assert ran == [one, one]
