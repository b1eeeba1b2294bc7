"""Two Ray nodes on one machine, each with a rollout server, a rollout worker and a training rank; then one is lost."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("verl")
pytest.importorskip("vllm")

from test_runs import BATCH, FST, G, batch_of, prompts_of, slow_rows, template_ids  # noqa: E402

from fst_plugin.record.calls import read_calls  # noqa: E402

pytestmark = pytest.mark.nodes
PROGRAM = (str(Path(__file__).parent / "probes" / "two_nodes.py"),)
ARGUMENTS = (
    "actor_rollout_ref.rollout.agent.num_workers=2",
    "trainer.save_freq=1",
    "trainer.total_training_steps=3",
)
LOOKED_AT_S = 200
"""How long a run that has lost a node is watched."""


def lose_second_node(run, happened):
    """SIGKILLs everything that runs on the second node as soon as `happened()`. Does the run end by itself?"""
    end = time.monotonic() + 900
    while not happened():
        assert run.process.poll() is None, f"verl ended before its node was lost:\n{run.tail()}"
        assert time.monotonic() < end, f"nothing to lose a node at:\n{run.tail()}"
        time.sleep(0.02)
    nodes = json.loads((run.out / "nodes.json").read_text())
    node = psutil.Process(nodes["second"])
    for process in [node, *node.children(recursive=True)]:
        process.kill()
    try:
        run.process.wait(LOOKED_AT_S)
    except subprocess.TimeoutExpired:
        run.kill()
        shutil.rmtree(nodes["folder"])
        return False
    assert run.process.returncode != 0
    return True


def groups_of(run):
    return {group[0]["index"]: group for groups in slow_rows(run).values() for group in groups}


def under(world, group, prompts):
    chats = [template_ids(world, text, group[0]["index"]) for text in prompts]
    return [entry["ids"] for entry in group] == [chats[entry["session"] % len(prompts)] for entry in group]


def test_both_nodes_send_the_same_prompts_and_a_run_that_lost_one_goes_on_with_them(world, launch):
    arguments = [*FST, *ARGUMENTS]
    run = launch("fst", *arguments, program=PROGRAM)
    phase = run.out / "checkpoints" / "fst" / "cycle_0001"
    assert lose_second_node(run, lambda: any(read_calls(phase)))  # in the fast phase before step 3
    assert not (phase / "evolution.json").exists(), "the phase was over before its node could be lost"
    paid, population = len(list(read_calls(phase))), prompts_of(run, 0)

    nodes = {entry["node"] for entry in run.sent()}
    assert len(nodes) == 2 and {e["node"] for g in groups_of(run).values() for e in g} == nodes
    for index in batch_of(1) | batch_of(2):
        assert under(world, groups_of(run)[index], population)

    run = launch("fst", *arguments, program=PROGRAM).finish()
    assert f"{paid} calls answered from the record" in run.text() and prompts_of(run, 0) == population
    assert run.metrics()[3]["fst/rollouts_slow_total"] == 3 * BATCH * G
    assert all(under(world, groups_of(run)[index], prompts_of(run, 1)) for index in batch_of(3))
    state = json.loads((run.out / "checkpoints" / "global_step_3" / "fst" / "state.json").read_text())
    assert [prompt["text"] for prompt in state["population"]["prompts"]] == prompts_of(run, 1)
