"""python benchmarks/scale.py --json FILE [--trajectories N ...] [--repeat N]

What fast weights add to the driver of a slow step at scale: bytes through verl's transfer queue, and processor seconds
of the driver, a step with fast weights ÷ a step of plain verl.

The transfer queue is real, and so is the driver's part of a step: verl's own submit, replay buffer, old log
probabilities, advantages and metrics, and our assign and observe. No model runs: rollouts and log probabilities are
made up, and the training ranks' pulls (two a step, each trajectory once in each) read all fields, as verl's do.
All arms have the same tokens; what an evolved prompt's own tokens cost is not counted. A word stands for a token.
The step that begins a cycle, in which the rollout workers fetch the prompts, is told apart from the later ones.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import pickle
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

GROUP, PROMPT, RESPONSE = 8, 64, 256  # rollouts of a problem, tokens
ROLLOUT_WORKERS = 8  # verl's default; each fetches a population once
ARMS = [(0, 0), *((k, length) for length in (100, 4000) for k in (1, 4, 8))]  # K and a prompt's words; K=0: plain verl

console = Console()


class Meter:
    """bytes: through the queue's sockets in this process, both ways. seconds: of the driver's processor. hook_bytes,
    hook_seconds: the part of both that passes inside our own hooks; the rest of what is added travels with the rows."""

    def __init__(self) -> None:
        from transfer_queue.utils.zmq_utils import ZMQMessage

        self.begin()
        serialize, deserialize = ZMQMessage.serialize, ZMQMessage.deserialize

        def sent(message: Any) -> Any:
            return self._counted(serialize(message))

        def received(frames: Any) -> Any:
            return deserialize(self._counted(frames))

        ZMQMessage.serialize, ZMQMessage.deserialize = sent, staticmethod(received)  # type: ignore[assignment]

    def begin(self) -> None:
        self.bytes, self.seconds, self.hook_bytes, self.hook_seconds = 0, 0.0, 0, 0.0

    def _counted(self, frames: Any) -> Any:
        self.bytes += sum(memoryview(getattr(one, "buffer", one)).nbytes for one in frames)
        return frames

    @contextmanager
    def driver(self, sign: int = 1) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds += sign * (time.process_time() - began)

    @contextmanager
    def hook(self) -> Iterator[None]:
        began, before = time.process_time(), self.bytes
        yield
        self.hook_seconds += time.process_time() - began
        self.hook_bytes += self.bytes - before


class Step:
    """Slow steps of one arm: a verl trainer without engines, and fast weights with a population of K prompts."""

    def __init__(self, meter: Meter, trajectories: int, k: int, length: int, folder: Path):
        from fst_verl.compat import names
        from fst_verl.composing import compose
        from fst_verl.fast_slow import FastSlow

        from fst_plugin import Population, Prompt
        from fst_plugin.fast_weights import FastWeights
        from fst_plugin.policy import Policy

        self.meter, self.groups, self.k = meter, trajectories // GROUP, k
        self.config = compose(
            [
                "+fst=default",
                "algorithm.adv_estimator=grpo",
                "fst.reflection.kind=offline",
                f"data.train_batch_size={self.groups}",
                f"actor_rollout_ref.rollout.n={GROUP}",
                "actor_rollout_ref.rollout.calculate_log_probs=true",
                f"trainer.default_local_dir={folder}",
            ]
        )
        buffer = names.ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.01)
        self.trainer = SimpleNamespace(
            config=self.config, trainer_mode="sync", replay_buffer=buffer, tokenizer=_Words(), processor=None,
            agent_loop_manager=SimpleNamespace(generate_sequences=self._rolled_out), use_critic=False, global_steps=0,
            actor_rollout_wg=SimpleNamespace(compute_log_prob=self._log_probs),
            _rollout_moe_lb_metrics_accumulator=None, _get_n_gpus_for_throughput=lambda: 1,
        )  # fmt: skip
        self.fst = None
        if k:
            prompts = tuple(Prompt(f"{i} " + "word " * (length - 1)) for i in range(k))
            self.fst = FastSlow(self.trainer, self.config, lambda: None)
            policy = Policy(2 * length, count_tokens=lambda text: len(text.split()))
            weights = FastWeights.start(self.fst.settings, policy, folder, seed=prompts[0], log=lambda line: None)
            weights.state = replace(weights.state, population=Population(prompts))
            self.fst.weights = weights

    def run(self) -> dict[str, float]:
        """Bytes and the driver's processor seconds of one step, as a record has them."""
        import transfer_queue as tq
        from fst_verl.compat import names

        verl, trainer, metrics = names.trainer_base.TRAINER_REGISTRY.get("sync"), self.trainer, {}
        trainer.global_steps += 1
        batch = self._rows()
        meter = self.meter
        meter.begin()
        with meter.driver():
            self._hook("assign", batch)
            verl._submit_batch_to_rollout(trainer, batch)
            done, _ = trainer.replay_buffer.sample(trainer.global_steps, "train", self.groups)
            done = verl._compute_old_log_prob(trainer, done, metrics)
            self._hook("collect", done)
            done = verl._compute_advantage(trainer, done, metrics)
        self._pull(done)
        with meter.driver():
            self._hook("observe")
            timing = {"step": 1.0, "gen": 1.0, "update_actor": 1.0}
            verl._compute_metrics(trainer, done, metrics, timing, trainer.global_steps, 0)
            metrics.update(self._hook("metrics") or {})
        tq.kv_clear(keys=done.keys, partition_id="train")
        found = {"bytes": float(meter.bytes), "driver_s": meter.seconds}
        return {**found, "hook_bytes": float(meter.hook_bytes), "hook_s": meter.hook_seconds}

    def _hook(self, name: str, *given: Any) -> Any:
        if self.fst:
            with self.meter.hook():
                return getattr(self.fst, name)(*given)

    def _rows(self) -> Any:
        """A batch as verl's dataloader hands it out."""
        from fst_verl import batches
        from fst_verl.compat import names

        first = self.trainer.global_steps * self.groups
        problem = "word " * PROMPT
        system = {"role": "system", "content": "Be brief."}
        rows = [
            {
                "raw_prompt": [system, {"role": "user", "content": f"{i} {problem}"}],
                "reward_model": {"ground_truth": str(i), "style": "rule"},
                "data_source": "sums",
                "extra_info": {"index": i, "split": "train"},
                "index": i,
                "uid": f"uid-{i}",
            }
            for i in range(first, first + self.groups)
        ]
        batch = names.tensordict_utils.get_tensordict(names.collate_fn(rows))
        names.tensordict_utils.assign_non_tensor_data(batch, "global_steps", self.trainer.global_steps)
        return batches.identified(batch) if self.k else batch

    def _rolled_out(self, batch: Any) -> None:
        """The rollout workers' part: every trajectory with all columns of its row, as verl's agent loops put them."""
        import transfer_queue as tq
        from fst_verl.batches import column
        from fst_verl.compat import names

        with self.meter.driver(-1):
            self.meter.bytes += len(pickle.dumps(batch))  # what Ray sends to the workers
            self._fetched()
            columns = {name: column(batch, name) for name in batch.keys()}
            for first in range(0, self.groups, 64):  # verl puts each session by itself: more messages
                keys, fields = [], []
                for at in range(first, min(first + 64, self.groups)):
                    row = {name: values[at] for name, values in columns.items()}  # type: ignore[index]
                    keys += [f"{row['uid']}_{session}_0" for session in range(GROUP)]
                    fields += [{**row, **self._output(row, session)} for session in range(GROUP)]
                tag = {"status": "success", "min_global_steps": 0, "max_global_steps": 0, "global_steps": 0}
                put = names.tensordict_utils.list_of_dict_to_tensordict(fields)
                tq.kv_batch_put(keys=keys, partition_id="train", fields=put, tags=[dict(tag) for _ in keys])
            ended = [{"status": "finished"} for _ in range(self.groups)]
            tq.kv_batch_put(keys=columns["uid"], partition_id="train", tags=ended)  # type: ignore[arg-type]

    def _fetched(self) -> None:
        from fst_verl import prompt_store

        for _ in range(ROLLOUT_WORKERS if self.k and self.trainer.global_steps == 1 else 0):
            prompt_store._fetching.cache_clear()
            asyncio.run(prompt_store.texts_of(self.fst.weights.population.digest))  # type: ignore[union-attr]

    def _output(self, row: dict[str, Any], session: int) -> dict[str, Any]:
        score = float(session % 3 == 0)
        extra: dict[str, Any] = {"reward_extra_info": {"acc": score, "feedback": "Say why." if score < 1 else "Good."}}
        if self.fst:
            prompts = self.fst.weights.population.prompts  # type: ignore[union-attr]
            rank = (session + row["fst"].get("offset", 0)) % len(prompts)
            mark = {"digest": prompts[rank].digest, "rank": rank, "problem": row["fst"]["problem"], "score": score}
            extra["fst"] = mark
        rewards = torch.zeros(RESPONSE)
        rewards[-1] = score
        ones = torch.ones(RESPONSE, dtype=torch.int64)
        return {
            "prompts": torch.arange(PROMPT), "responses": torch.arange(RESPONSE), "response_mask": ones,
            "loss_mask": ones, "rollout_log_probs": -torch.rand(RESPONSE), "rm_scores": rewards, "num_turns": 2,
            "input_ids": torch.arange(PROMPT + RESPONSE), "position_ids": torch.arange(PROMPT + RESPONSE),
            "extra_fields": extra, "metrics": {"generate_sequences": 1.0}, "session_id": session,
        }  # fmt: skip

    def _pull(self, batch: Any) -> None:
        """A training call: every trajectory is read once, with all its fields, by the rank that it falls to."""
        import transfer_queue as tq

        for at in range(0, len(batch.keys), 1024):
            tq.kv_batch_get(keys=batch.keys[at : at + 1024], partition_id="train")

    def _log_probs(self, batch: Any) -> Any:
        import transfer_queue as tq
        from tensordict import TensorDict

        with self.meter.driver(-1):
            self._pull(batch)
            for at in range(0, len(batch.keys), 1024):
                keys = batch.keys[at : at + 1024]
                of_all = torch.nested.as_nested_tensor(
                    [-torch.rand(PROMPT + RESPONSE) for _ in keys], layout=torch.jagged
                )
                fields = TensorDict({"log_probs": of_all, "entropy": of_all.clone()}, batch_size=len(keys))
                tq.kv_batch_put(keys=keys, partition_id="train", fields=fields)
        return batch


class _Words:
    """A tokenizer that knows one word."""

    def batch_decode(self, rows: Any, skip_special_tokens: bool) -> list[str]:
        return ["word " * len(row) for row in rows]


def measure(sizes: list[int], repeat: int) -> list[dict[str, Any]]:
    """One record an arm and size: medians over `repeat` steps, and the bytes of the step before them (`first_bytes`),
    which begins a cycle."""
    meter, found = Meter(), []
    with tempfile.TemporaryDirectory() as folder:
        Step(meter, 512, *ARMS[-1], Path(folder)).run()  # what is imported and allocated once
    gc.collect()
    gc.freeze()  # else a collection of all that was imported, 0.4 s, falls on one arm's step and not on another's
    for trajectories in sizes:
        with tempfile.TemporaryDirectory() as folder:
            arms = {arm: Step(meter, trajectories, *arm, Path(folder, str(i))) for i, arm in enumerate(ARMS)}
            runs = [{arm: step.run() for arm, step in arms.items()} for _ in range(1 + repeat)]
        for k, length in ARMS:
            first, *later = (run[k, length] for run in runs)
            record = {"trajectories": trajectories, "k": k, "words": length, "first_bytes": first["bytes"]}
            found.append(record | {name: statistics.median(step[name] for step in later) for name in first})
            console.print(found[-1])
    return found


def table(records: list[dict[str, Any]], title: str | None = None) -> Table:
    """What docs/measuring.md shows of the records."""
    plain = {one["trajectories"]: one for one in records if not one["k"]}
    shown = Table(title=title)
    bytes_, seconds = ("MB a step", "÷ plain", "in hooks", "cycle's first"), ("driver, s", "÷ plain", "in hooks")
    for name in ("trajectories", "K", "words", *bytes_, *seconds):
        shown.add_column(name, justify="right")
    for one in records:
        base = plain[one["trajectories"]]
        arm = [str(one["k"]), str(one["words"])] if one["k"] else ["plain", "-"]
        moved = [f"{one['bytes'] / 1e6:.1f}", f"{one['bytes'] / base['bytes']:.3f}"]
        took = [f"{one['driver_s']:.2f}", f"{one['driver_s'] / base['driver_s']:.2f}"]
        hooks = [f"{one['hook_bytes'] / base['bytes']:.3f}", f"{one['first_bytes'] / base['bytes']:.3f}"]
        share = f"{one['hook_s'] / base['driver_s']:.2f}"
        shown.add_row(str(one["trajectories"]), *arm, *moved, *hooks, *took, share)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--trajectories", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--repeat", type=int, default=1)
    given = parser.parse_args()
    import ray
    import transfer_queue as tq

    ray.init(num_cpus=16, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    tq.init()
    records = measure(given.trajectories, given.repeat)
    console.print(table(records))
    if given.json:
        given.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
