"""verl's main module on two Ray nodes of its own: two raylets on this machine, each with a made-up GPU.

PROBE_DIR/nodes.json: the process whose children are all that runs on the second node, and the folder of both nodes.
"""

import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODE = ("--num-cpus=8", "--num-gpus=1", "--object-store-memory=150000000", "--min-worker-port=0", "--max-worker-port=0")
NODE += ("--dashboard-agent-listen-port=0", "--disable-usage-stats", "--block")


def start(*arguments):
    return subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", *arguments, *NODE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def address_in(folder, node):
    """The address of the cluster whose head has this folder; a folder of its own, so that nobody else finds it."""
    end = time.monotonic() + 120
    while not (found := folder / "ray_current_cluster").exists() or not found.read_text().strip():
        assert node.poll() is None and time.monotonic() < end, "the head node has not come up"
        time.sleep(0.1)
    return found.read_text().strip()


def main():
    os.environ["TQ_SIMPLE_STORAGE_SEND_RECV_TIMEOUT"] = "10"  # not 200 s, three times, for a storage unit that is lost
    os.environ["RAY_AUTH_MODE"] = "disabled"  # `ray start` asks for a token, ray.init() of a local run does not
    folder = Path(tempfile.mkdtemp(prefix="two-"))
    client = f"--ray-client-server-port={free_port()}"
    nodes = [start("--head", "--port=0", "--include-dashboard=false", client, f"--temp-dir={folder}")]
    try:
        address = address_in(folder, nodes[0])
        nodes.append(start(f"--address={address}"))
        found = {"second": nodes[1].pid, "folder": str(folder)}
        Path(os.environ["PROBE_DIR"], "nodes.json").write_text(json.dumps(found))
        given = [f"+ray_kwargs.ray_init.address={address}", "ray_kwargs.ray_init.num_cpus=null"]
        given += ["ray_kwargs.ray_init.num_gpus=null", "~ray_kwargs.ray_init.include_dashboard", "trainer.nnodes=2"]
        sys.argv += given
        runpy.run_module("verl.trainer.main_ppo", run_name="__main__", alter_sys=True)
    finally:
        for node in nodes:
            node.terminate()  # takes its children with it
            node.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
