"""A random little model, a GSM8K-style parquet, and launches of `python -m verl.trainer.main_ppo`."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNS = Path(__file__).parent / "runs"
PROBES = RUNS / "probes"
TIMEOUT_S = 900
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_collection_modifyitems(items):
    for item in items:
        if RUNS in item.path.parents:
            item.add_marker(pytest.mark.verl)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder with `model/`, `train.parquet`, `val.parquet` and `loops.yaml`."""
    pytest.importorskip("verl")
    folder = tmp_path_factory.mktemp("world")
    _model(folder / "model")
    _data(folder)
    loops = "- {name: recording, _target_: probe.RecordingLoop}\n"
    loops += "- {name: recording_tools, _target_: probe.RecordingToolLoop}\n"
    (folder / "loops.yaml").write_text(loops)
    return folder


def _model(folder):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE(unk_token=None))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(
        [f"What is {a} plus {b}? system user assistant" for a in range(9) for b in range(9)], trainer
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = (
        config.eos_token_id,
        config.pad_token_id,
    )
    model.save_pretrained(folder)


def _data(folder):
    import pandas

    def row(i):
        return {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"What is {i} plus {i}?"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(2 * i)},
            "extra_info": {"index": i, "split": "train"},
        }

    pandas.DataFrame([row(i) for i in range(40)]).to_parquet(folder / "train.parquet")
    pandas.DataFrame([row(i) for i in range(100, 104)]).to_parquet(folder / "val.parquet")


class Launch:
    """One run of verl in its own process group. out: its checkpoints, metrics, log and the probe's records. memory: a
    file that tests side by side share, open; a run with servers apart (12 GB) holds it alone."""

    def __init__(self, world, out, arguments, memory, environment=None, program=("-m", "verl.trainer.main_ppo")):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.memory = out, memory
        common = {
            "+fst_cpu": "default",
            "data.train_files": world / "train.parquet",
            "data.val_files": world / "val.parquet",
            "data.shuffle": "false",
            "data.train_batch_size": 4,
            "data.max_prompt_length": 128,
            "data.max_response_length": 8,
            "actor_rollout_ref.model.path": world / "model",
            "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 4,
            "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": 4,
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 4,
            "actor_rollout_ref.rollout.max_model_len": 136,
            "actor_rollout_ref.rollout.max_num_seqs": 32,
            "actor_rollout_ref.rollout.max_num_batched_tokens": 1024,
            "actor_rollout_ref.rollout.agent.agent_loop_config_path": world / "loops.yaml",
            "actor_rollout_ref.rollout.agent.default_agent_loop": "recording",
            "reward.custom_reward_function.path": PROBES / "probe_reward.py",
            "trainer.logger": "[console,file]",
            "trainer.val_before_train": "false",
            "trainer.test_freq": -1,
            "trainer.save_freq": -1,
            "trainer.total_epochs": 10,
            "trainer.default_local_dir": out / "checkpoints",
            "hydra.run.dir": out / "hydra",
        }
        self.metrics_file = out / f"metrics_{time.monotonic_ns()}.jsonl"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"},
            "PYTHONPATH": os.pathsep.join([str(PROBES), os.environ.get("PYTHONPATH", "")]),
            "VERL_USE_EXTERNAL_MODULES": "probe",
            "VERL_FILE_LOGGER_PATH": str(self.metrics_file),
            "PROBE_DIR": str(out),
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "HYDRA_FULL_ERROR": "1",
            **(environment or {}),
        }
        given = {argument.partition("=")[0].lstrip("+") for argument in arguments}
        rest = [f"{key}={value}" for key, value in common.items() if key.lstrip("+") not in given]
        self.log = out / "log.txt"
        fcntl.flock(memory, fcntl.LOCK_EX if "+fst_cpu=separate_async" in arguments else fcntl.LOCK_SH)
        with open(self.log, "ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *program, *rest, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def finish(self):
        """Waits for a clean end."""
        try:
            code = self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"verl did not end in {TIMEOUT_S} s:\n{self.tail()}") from None
        self.memory.close()
        assert code == 0, f"verl ended with {code}:\n{self.tail()}"
        return self

    def kill_when(self, happened):
        """SIGKILLs the run, every process of it, as soon as `happened()`."""
        end = time.monotonic() + TIMEOUT_S
        while not happened():
            assert self.process.poll() is None, f"verl ended before it could be killed:\n{self.tail()}"
            assert time.monotonic() < end, f"nothing to kill at in {TIMEOUT_S} s:\n{self.tail()}"
            time.sleep(0.02)
        self.kill()

    def kill(self):
        import psutil

        tree = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
        for process in tree:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(tree, timeout=30)
        self.memory.close()

    def tail(self):
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if "is not available" not in line]
        return "\n".join(lines[-40:])

    def text(self):
        return self.log.read_text(errors="replace")

    def metrics(self):
        """step -> metrics."""
        return {e["step"]: e["data"] for e in _lines(self.metrics_file)}

    def sent(self):
        return _lines(self.out / "sent.jsonl")

    def groups(self):
        return _lines(self.out / "groups.jsonl")


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def launch(world, tmp_path, tmp_path_factory):
    """launch(name, *arguments): a running verl; the same name means the same folder. program: in place of verl's main
    module."""
    running = []

    def start(name, *arguments, program=("-m", "verl.trainer.main_ppo"), **environment):
        memory = open(tmp_path_factory.getbasetemp().parent / "memory.lock", "a")
        run = Launch(world, tmp_path / name, list(arguments), memory, environment, program)
        running.append(run)
        return run

    yield start
    for run in running:
        if run.process.poll() is None:
            run.kill()
        run.memory.close()
