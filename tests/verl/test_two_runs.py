"""Two runs on one host, each with a local Ray cluster: verl names their weight sockets alike, and we do not."""

from types import SimpleNamespace

from fst_verl import cpu, cpu_vllm

HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def both_ends(monkeypatch, raylet):
    """(sender's socket, receiver's socket) of a run whose node has this raylet."""
    monkeypatch.setenv("RAY_RAYLET_PID", raylet)
    monkeypatch.setattr(cpu_vllm._Base, "_get_zmq_handle", lambda self: HANDLE)

    class ServerAdapter:
        def __init__(self, rank):
            self.rank, self.zmq_handle = rank, HANDLE

    cpu._mend_weight_socket(SimpleNamespace(ServerAdapter=ServerAdapter))
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
