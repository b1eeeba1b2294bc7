"""TRL with a colocated vLLM engine on CPU: `make test-trl-vllm`."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.trl, pytest.mark.skipif(find_spec("vllm") is None, reason="needs vLLM: make test-trl-vllm")]
G = 4


def train(out):
    """Three slow steps; what the reward function saw of the last one, and the prompts."""
    import torch
    import vllm.model_executor.layers.utils as layers
    from fst_envs.house import policy
    from fst_trl import FSTGRPOConfig, FSTGRPOTrainer, from_env

    def plain_linear(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    layers.dispatch_cpu_unquantized_gemm = plain_linear  # vLLM's own, on CPU, leaves no weight that TRL could sync to
    torch.set_num_threads(1)
    data, seen = from_env("fst_envs:fst/HouseRules-v0", {"book": 0}, train_size=4 * G, val_size=0), []

    def reward(prompts, completions, **more):
        seen.append(prompts)
        return inner(completions=completions, **more)

    inner, data["reward_funcs"] = data["reward_funcs"], reward
    args = FSTGRPOConfig(
        output_dir=out,
        fst={"population": 2, "slow_steps": 2, "max_prompt_tokens": 96, "reflection": {"kind": "offline"}},
        max_steps=3,
        per_device_train_batch_size=2 * G,
        num_generations=G,
        max_completion_length=12,
        use_vllm=True,
        vllm_mode="colocate",
        vllm_max_model_length=256,
        learning_rate=3e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    one = FSTGRPOTrainer(model=str(policy.path("rules")), args=args, **data)
    one.train()
    apart = [h["sampling/sampling_logp_difference/mean"] for h in one.state.log_history if "loss" in h]
    Path(out, "found.json").write_text(json.dumps({"last": seen[-1], "prompts": one.fst.texts, "apart": apart}))


def test_a_colocated_engine_rolls_out_every_prompt_of_a_group_with_the_current_weights(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {**os.environ, **alone, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["prompts"]) == 2
    for g in range(0, 2 * G, G):
        group = found["last"][g : g + G]
        assert {chat[0]["content"] for chat in group} == set(found["prompts"])
        assert len({json.dumps(chat[1:]) for chat in group}) == 1
    assert len(found["apart"]) == 3 and max(found["apart"]) < 0.05  # nats a token between vLLM's weights and TRL's


if __name__ == "__main__":
    train(sys.argv[1])
