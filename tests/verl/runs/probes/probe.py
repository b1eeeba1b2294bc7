"""Imported by verl's processes in these tests: what a user of verl may bring along, and a record of what they saw."""

import asyncio
import json
import os

import ray
import torch
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.trainer.ppo.core_algos import register_adv_est


def _append(name, entry):
    with open(os.path.join(os.environ["PROBE_DIR"], name), "a") as file:
        file.write(json.dumps(entry) + "\n")


class Recording:
    """Records the token ids that an agent loop sent to the engine. Rows of the training data from PROBE_HOLD on are
    held back for good; those that are not trained on call the engine only PROBE_LATE_S seconds later."""

    async def run(self, sampling_params, **row):
        if int(os.environ.get("PROBE_HOLD", 100)) <= row["index"] < 100:
            await asyncio.Event().wait()
        if row["uid"].startswith("fst-") and row["index"] < 100:
            await asyncio.sleep(float(os.environ.get("PROBE_LATE_S", 0)))
        output = await super().run(sampling_params, **row)
        entry = {
            "ids": list(output.prompt_ids),
            "session": row["session_id"],
            "uid": row["uid"],
            "index": row["index"],
            "step": row["global_steps"],
            "temperature": sampling_params["temperature"],
            "node": ray.get_runtime_context().get_node_id(),
        }
        _append("sent.jsonl", entry)
        return output


class RecordingLoop(Recording, SingleTurnAgentLoop):
    """A user's own agent loop."""


class RecordingToolLoop(Recording, ToolAgentLoop):
    """verl's tool agent loop."""


@register_adv_est("probe_grpo")
def probe_grpo(token_level_rewards, response_mask, index, config=None, **kwargs):
    """GRPO, recorded: which rollouts made up which group."""
    rewards = token_level_rewards.sum(-1)
    advantages = torch.zeros_like(rewards)
    for uid in set(index):
        rows = [i for i, u in enumerate(index) if u == uid]
        advantages[rows] = (rewards[rows] - rewards[rows].mean()) / (rewards[rows].std() + 1e-6)
        group = {"uid": uid, "rewards": rewards[rows].tolist(), "advantages": advantages[rows].tolist()}
        _append("groups.jsonl", group)
    out = advantages.unsqueeze(-1) * response_mask
    return out, out
