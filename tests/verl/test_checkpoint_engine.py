"""The CPU platform's checkpoint engine between processes, as verl's own manager drives it."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

END = """if True:
    import asyncio, json, sys
    import ray, torch
    ray.util.get_node_ip_address = lambda: "127.0.0.1"
    from fst_verl.cpu.checkpoint_engine import GlooCheckpointEngine

    def weights(step):
        yield "matrix", torch.arange(6, dtype=torch.float32).reshape(2, 3).t() + step  # not contiguous
        yield "half", torch.tensor([1.5, -2.0], dtype=torch.bfloat16) * step
        yield "scalar", torch.tensor(step)
        yield "flags", torch.tensor([True, False])

    async def taken(engine):
        return [[name, str(t.dtype), list(t.shape), t.tolist()] async for name, t in engine.receive_weights()]

    engine = GlooCheckpointEngine(bucket_size=1, is_master=sys.argv[1] == "0")
    for line in sys.stdin:  # one sync a line: a method and its arguments, of which the last may be a step
        method, arguments = json.loads(line)
        if method == "send":
            asyncio.run(engine.send_weights(weights(arguments)))
            said = None
        elif method == "receive":
            said = asyncio.run(taken(engine))
        else:
            said = getattr(engine, method)(**arguments)
        print(json.dumps(said), flush=True)
"""


class End:
    """One worker of the trainer or of the servers, in a process of its own."""

    def __init__(self, number):
        self.process = subprocess.Popen(
            [sys.executable, "-c", END, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def tell(self, method, arguments=None):
        self.process.stdin.write(json.dumps([method, {} if arguments is None else arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def ends():
    made = [End(number) for number in range(4)]
    yield made
    for end in made:
        end.process.kill()
        end.process.wait()


def sync(trainers, servers, step):
    """As verl's CheckpointEngineManager does it. Returns what each server got."""
    from fst_verl.cpu.checkpoint_engine import GlooCheckpointEngine

    everybody = [*trainers, *servers]
    for end in everybody:
        end.tell("prepare")
    metadata = [end.answer() for end in everybody]
    topology = GlooCheckpointEngine.build_topology(len(trainers), len(servers), metadata)
    for part, arguments in zip((trainers, servers), topology, strict=True):
        for place, end in enumerate(part):
            end.tell("init_process_group", {name: values[place] for name, values in arguments.items()})
    assert [end.answer() for end in everybody] == [None] * len(everybody)
    for end in trainers:
        end.tell("send", step)
    for end in servers:
        end.tell("receive")
    assert [end.answer() for end in trainers] == [None] * len(trainers)
    got = [end.answer() for end in servers]
    for end in everybody:
        end.tell("finalize")
    assert [end.answer() for end in everybody] == [None] * len(everybody)
    return got


def expected(step):
    return [
        [
            "matrix",
            "torch.float32",
            [3, 2],
            [[0.0 + step, 3.0 + step], [1.0 + step, 4.0 + step], [2.0 + step, 5.0 + step]],
        ],
        ["half", "torch.bfloat16", [2], [1.5 * step, -2.0 * step]],
        ["scalar", "torch.int64", [], step],
        ["flags", "torch.bool", [2], [True, False]],
    ]


def test_every_server_gets_every_weight_of_every_sync_and_servers_come_and_go(ends):
    trainers, servers = ends[:2], ends[2:]  # two ranks, of which the first sends
    assert sync(trainers, servers[:1], step=1) == [expected(1)]
    assert sync(trainers, servers, step=2) == [expected(2)] * 2
    assert sync(trainers, servers[1:], step=3) == [expected(3)]


def test_verl_finds_it_by_the_name_in_the_config_group():
    from fst_verl import check
    from fst_verl.compat import names

    config = check.compose(["+fst_cpu=separate_async"]).actor_rollout_ref.rollout.checkpoint_engine
    __import__(config.custom_backend_module)
    assert names.CheckpointEngineRegistry.get(config.backend).__name__ == "GlooCheckpointEngine"


def test_weights_that_verl_puts_aside_stay_as_they_were():
    """On a CPU a tensor's `.cpu()` is the tensor itself."""
    import torch
    from fst_verl.cpu import platform

    weight = torch.zeros(2)
    utils = SimpleNamespace(fsdp2_sharded_save_to_cpu=lambda model: ({"w": (weight.cpu(), "own")}, "spec"))
    platform.PATCHES["verl.utils.fsdp_utils"](utils)
    state, spec = utils.fsdp2_sharded_save_to_cpu(None)
    weight += 1
    assert state["w"][0].tolist() == [0.0, 0.0] and (state["w"][1], spec) == ("own", "spec")
