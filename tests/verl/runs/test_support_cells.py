"""Settings of verl that many launch scripts have: runs of two steps with fast weights, on real verl and vLLM."""

import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fst_plugin import examples
from fst_plugin.context import place
from fst_plugin.record.cycles import read_record

pytest.importorskip("verl")
pytest.importorskip("vllm")

G, BATCH, STEPS = 4, 4, 2
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


FST = (
    "+fst=default",
    "fst.seed_prompt='Be kind.'",
    "fst.population=2",
    f"fst.slow_steps={STEPS}",
    "fst.fast.passes=4",
    "fst.max_prompt_tokens=64",
    "fst.reflection.kind=offline",
    "algorithm.adv_estimator=grpo",
    f"{ROLLOUT}.n={G}",
    f"trainer.total_training_steps={STEPS}",
)


@pytest.fixture
def ids_of(world):
    """ids_of(prompt, index): token ids of a problem of the data under this prompt."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "model")

    def ids(prompt, index):
        question = {"role": "user", "content": f"What is {index} plus {index}?"}
        chat = place([question], prompt)
        return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False))

    return ids


@pytest.fixture
def train(launch, ids_of):
    """train(*arguments): a finished run whose every group was rolled out under the prompts of the fast phase."""

    def finished(*arguments):
        run = launch("run", *FST, *arguments).finish()
        assert sorted(run.metrics()) == [1, 2]
        record = run.out / "checkpoints" / "fst" / "cycle_0000" / "evolution.json"
        prompts = [p["text"] for p in json.loads(record.read_text())["population"]["prompts"]]
        for entry in trained(run):
            assert entry["ids"] == ids_of(prompts[entry["session"] % len(prompts)], entry["index"])
        return run

    return finished


def trained(run):
    """The rollouts of training groups; a fast-phase cell is alone under its uid."""
    groups = defaultdict(list)
    for entry in run.sent():
        groups[entry["uid"]].append(entry)
    return [entry for group in groups.values() if len(group) == G for entry in group]


@pytest.fixture
def judge():
    """(address, what was asked) of a server that scores answers, as reward models are served."""
    asked = []

    class Judge(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            said = {"score": len(asked[-1]["answer"]) % 5 / 4, "feedback": "Write the number 7."}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_groups_without_a_signal_are_replaced(train, ids_of):
    run = train(
        "fst.components=[instructions,examples]",
        "fst.max_prompt_tokens=256",
        "algorithm.filter_groups.enable=true",
        "trainer.v1.sampler.custom_sampler.name=null",  # the CPU platform's, which verl does not tell of the filter
        "reward.custom_reward_function.name=half_without_signal",
    )
    assert any(step.get("training/filter_groups/evicted_samples", 0) > 0 for step in run.metrics().values())
    assert len(trained(run)) > STEPS * BATCH * G  # those that were replaced had prompts, too
    assert run.metrics()[STEPS]["fst/rollouts_slow_total"] > STEPS * BATCH * G  # and are counted
    texts = [one.prompt.text for one in read_record(run.out / "checkpoints").cycles[0].candidates]
    shown = [text for text in texts if examples.split(text)[1]]
    assert len(shown) >= run.metrics()[1]["fst/proposals_examples"] > 0
    assert any(one["ids"] == ids_of(text, one["index"]) for text in shown for one in run.sent())


def test_rollout_correction_dynamic_batches_and_a_reward_model_on_a_server(train, judge):
    address, asked = judge
    run = train(
        "algorithm.rollout_correction.rollout_is=token",
        f"{ROLLOUT}.calculate_log_probs=true",
        f"{ACTOR}.use_dynamic_bsz=true",
        f"{ROLLOUT}.log_prob_use_dynamic_bsz=true",
        f"{ACTOR}.ppo_max_token_len_per_gpu=136",  # the longest row of plain verl: room is made for the prompts
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu=136",
        "reward.custom_reward_function.name=judged",
        f"+reward.custom_reward_function.reward_kwargs.address={address}",
    )
    assert "rollout_corr/rollout_is_mean" in run.metrics()[1]
    assert f"{ACTOR}.ppo_max_token_len_per_gpu 136 -> 200" in run.text()
    metrics = run.metrics()[STEPS]
    assert len(asked) == metrics["fst/rollouts_slow_total"] + metrics["fst/rollouts_fast_total"]
    assert metrics["fst/perfect_score"] == 1.0


def server(key, prompt=64, response=8, **more):
    """Arguments of verl's own vLLM servers besides the policy's, as a machine without an accelerator needs them."""
    settings = {
        "name": "vllm",
        "dtype": "float32",
        "tensor_model_parallel_size": 1,
        "gpu_memory_utilization": 0.1,
        "free_cache_engine": "false",
        "prompt_length": prompt,
        "response_length": response,
        "max_num_seqs": 32,
        "max_num_batched_tokens": 1024,
        **more,
    }
    return [f"+{key}.enable_sleep_mode=false", *(f"{key}.{name}={value}" for name, value in settings.items())]


def test_rloo_with_a_teacher_with_sequences_weighed_and_rejected_and_the_kl_divergence_in_the_reward(train, world):
    teacher = "distillation.teacher_models.teacher_model"
    run = train(
        "algorithm.adv_estimator=rloo",
        "algorithm.use_kl_in_reward=true",
        "algorithm.rollout_correction.rollout_is=sequence",
        "algorithm.rollout_correction.rollout_rs=seq_mean_k1",
        "algorithm.rollout_correction.rollout_rs_threshold=0.5_2.0",
        f"{ROLLOUT}.calculate_log_probs=true",
        "ray_kwargs.ray_init.num_gpus=2",
        "distillation.enabled=true",
        "distillation.nnodes=1",
        "distillation.n_gpus_per_node=1",
        f"{teacher}.model_path={world / 'model'}",
        # as long as plain verl's longest rollout, and the token that a teacher generates
        *server(f"{teacher}.inference", prompt=128, max_model_len=137),
    )
    metrics = run.metrics()[STEPS]
    assert "rollout_corr/rollout_is_mean" in metrics and "rollout_corr/rollout_rs_masked_fraction" in metrics
    assert "actor/reward_kl_penalty" in metrics and "actor/distillation/loss" in metrics
    assert f"{teacher}.inference.max_model_len 137 -> 201" in run.text()
    assert metrics["fst/rollouts_slow_total"] == STEPS * BATCH * G  # those that were rejected ran, too


def test_a_run_that_is_profiled_and_copied_elsewhere_can_be_validated_alone(train, launch, ids_of, tmp_path):
    arguments = (
        "fst.fast.path=probe_prompts.Evolved",  # a lead that is not the seed prompt, however a random model answers
        "+fst.fast.kwargs.lead=true",
        "algorithm.adv_estimator=opo",
        "global_profiler.tool=torch",
        "global_profiler.steps=[1]",
        f"global_profiler.save_path={tmp_path / 'traces'}",
        f"{ACTOR}.profiler.enable=true",
        f"{ACTOR}.profiler.tool_config.torch.contents=[cpu]",
        f"trainer.save_freq={STEPS}",
        f"trainer.default_hdfs_dir={tmp_path / 'elsewhere'}",
    )
    run = train(*arguments)
    assert list((tmp_path / "traces").rglob("*.json.gz"))
    step = run.out / "checkpoints" / f"global_step_{STEPS}"
    state = (step / "fst" / "state.json").read_bytes()
    assert (tmp_path / "elsewhere" / step.name / "fst" / "state.json").read_bytes() == state
    sent, best = len(run.sent()), (step / "fst" / "best_prompt.txt").read_text()

    run = launch("run", *FST, *arguments, "trainer.val_only=true", "trainer.val_before_train=true").finish()
    assert list(run.metrics()) == [STEPS]  # it goes on from the checkpoint, and trains no step
    validated = sorted((entry["index"], entry["ids"]) for entry in run.sent()[sent:])
    assert best != "Be kind."
    assert validated == sorted((i, ids_of(prompt, i)) for i in range(100, 104) for prompt in (best, "Be kind."))
    assert [path.name for path in step.parent.glob("global_step_*")] == [step.name]
    assert (step / "fst" / "state.json").read_bytes() == state


def test_verls_own_reward_model_on_devices_of_its_own(train, world):
    run = train(
        "algorithm.adv_estimator=reinforce_plus_plus",
        "ray_kwargs.ray_init.num_gpus=2",
        "reward.reward_model.enable=true",
        "reward.reward_model.enable_resource_pool=true",
        "reward.reward_model.nnodes=1",
        "reward.reward_model.n_gpus_per_node=1",
        f"reward.reward_model.model_path={world / 'model'}",
        *server("reward.reward_model.rollout", max_model_len=256),
        "reward.custom_reward_function.name=modelled",
    )
    asked = [json.loads(line) for line in (run.out / "modelled.jsonl").read_text().splitlines()]
    metrics = run.metrics()[STEPS]
    assert len(asked) == metrics["fst/rollouts_slow_total"] + metrics["fst/rollouts_fast_total"]
    assert len(set(asked)) > 1  # it read the answers, and said something


def test_lora_on_two_ranks_where_each_problem_weighs_the_same(train):
    run = train(
        "algorithm.adv_estimator=fst_grpo",
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.model.lora_alpha=16",
        "trainer.n_gpus_per_node=2",
        "ray_kwargs.ray_init.num_gpus=2",
    )
    assert "'--enable_lora'" in run.text()
    assert len(set(re.findall(r"vLLMHttpServer pid=(\d+)", run.text()))) == 2  # a replica each
    assert len(trained(run)) == STEPS * BATCH * G
