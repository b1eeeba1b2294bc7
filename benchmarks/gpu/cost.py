"""python benchmarks/gpu/cost.py OUT [--device cpu --quick] [--seconds N]

What fast weights cost through TRL, on a model of 0.5 B parameters: Qwen2's shape, random weights, bfloat16 on a GPU,
generation by transformers. Two parts, each a JSON file in OUT, which is written as soon as there is a figure for it.

step: a slow step by TRL's GRPOTrainer, by FSTGRPOTrainer with enabled=False, and with K=4 prompts, in one process, in
turns. Their system messages have the same number of tokens. `bare`, GRPOTrainer with a system message of one word,
shows what the tokens of a prompt cost by themselves.

phase: the rollouts of one fast phase as its search asks for them, and then the same rollouts as one batch.

Time on one H100: with `--seconds 100` there was one round of the slow steps, and after 215 s the fast phase was over,
the same rollouts were not. By its steps a round is some 70 s, which leaves at most 150 s for the rest: the default
takes about 6 minutes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from fst_trl import FSTGRPOConfig, FSTGRPOTrainer
from fst_trl.fast_rollouts import changed
from random_model import FULL, HEADS, Sizes, make, verdict, words
from setting import arguments, machine, on, write
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

sys.path.insert(0, str(Path(__file__).parents[1]))
from trl_overhead import Clock  # noqa: E402

ARMS = ("plain", "off", "on", "bare")
K, CYCLE = 4, 6  # prompts, slow steps a cycle


SMALL = {"hidden_size": 28, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 600, **HEADS}
QUICK = Sizes(SMALL, problems=2, group=4, micro=4, prompt=24, question=8, answer=4, steps=3)


class World:
    """A model, its tokenizer, a word a token, and problems of random words."""

    def __init__(self, device: str, sizes: Sizes):
        self.device, self.sizes = device, sizes
        self.model, self.tokenizer = make(device, sizes)

    def data(self, system: int) -> Dataset:
        """Enough problems for two cycles. system: words of the system message."""
        first = {"role": "system", "content": words(system, "system")}
        asked = [words(self.sizes.question, number) for number in range(2 * CYCLE * self.sizes.problems)]
        return Dataset.from_list([{"prompt": [first, {"role": "user", "content": text}]} for text in asked])

    def reward(self, completions: Any, log_extra: Any, **_: Any) -> list[float]:
        found = [verdict(one[0]["content"]) for one in completions]
        log_extra("feedback", [feedback for _, feedback in found])
        return [reward for reward, _ in found]

    def trainer(self, arm: str, out: str, fst: dict[str, Any] | None, **own: Any) -> Any:
        sizes = self.sizes
        args = FSTGRPOConfig(
            output_dir=out,
            fst=fst,
            max_steps=sizes.steps,
            per_device_train_batch_size=sizes.micro,
            gradient_accumulation_steps=sizes.problems * sizes.group // sizes.micro,
            num_generations=sizes.group,
            max_completion_length=sizes.answer,
            learning_rate=0.0,
            gradient_checkpointing=False,  # its hooks would add up on a model that several trainers take
            **on(self.device),
        )
        cls = GRPOTrainer if arm in ("plain", "bare") else FSTGRPOTrainer
        data = {"train_dataset": self.data(1 if arm == "bare" else sizes.prompt), "reward_funcs": self.reward}
        made = cls(model=self.model, processing_class=self.tokenizer, args=args, **data, **own)
        made.remove_callback(PrinterCallback)
        return made


# ------------------------------------------------------------------------------------------------------------ slow step


def step(world: World, arm: str) -> list[float]:
    """Seconds of the steps of one training, without the first."""
    given = {"count": K, "length": world.sizes.prompt}
    fast = {"population": K, "fast": {"path": "random_model.Given", "kwargs": given}, "reflection": {"kind": "offline"}}
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        fst = {"plain": None, "bare": None, "off": {"enabled": False}, "on": {**fast, "max_prompt_tokens": 256}}[arm]
        world.trainer(arm, out, fst, callbacks=[clock]).train()
    return [wall for wall, _ in clock.took]


def steps(world: World, seconds: float) -> dict[str, Any]:
    """Rounds of all arms, another one as long as it will fit into these seconds; at least one."""
    began, rounds = time.monotonic(), list[dict[str, list[float]]]()
    while not rounds or (time.monotonic() - began) * (1 + 1 / len(rounds)) < seconds:
        first = len(rounds) % len(ARMS)  # so that no arm always goes first
        rounds.append({arm: step(world, arm) for arm in (*ARMS[first:], *ARMS[:first])})
    every = {arm: [one for some in rounds for one in some[arm]] for arm in ARMS}
    plain = statistics.median(every["plain"])
    arms = {}
    for arm, took in every.items():
        each = [statistics.median(some[arm]) / statistics.median(some["plain"]) for some in rounds]
        middle = statistics.median(took)
        arms[arm] = {"seconds": took, "median": middle, "ratio": middle / plain, "ratio_of_each_round": each}
    return {"rounds": len(rounds), "arms": arms}


# ----------------------------------------------------------------------------------------------------------- fast phase


def phase(world: World) -> Iterator[dict[str, Any]]:
    """One fast phase of the shipped search, and its rollouts again, twice. All figures so far, after each."""
    asked: list[tuple[list[Any], float]] = []
    again: dict[str, float] = {}

    class First(TrainerCallback):
        """Ends the training with its first slow step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = True

    def timed(cells: Any) -> Any:
        began = time.perf_counter()
        found = evaluate(cells)
        asked.append((list(cells), time.perf_counter() - began))
        return found

    with tempfile.TemporaryDirectory() as out:
        fst = {"population": K, "slow_steps": CYCLE, "max_prompt_tokens": 256, "reflection": {"kind": "offline"}}
        trainer = world.trainer("on", out, fst, callbacks=[First()])
        evaluate = trainer.fst.rollouts.evaluate
        trainer.fst.rollouts.evaluate = timed
        trainer.train()
        whole = next(logged["fst/seconds"] for logged in trainer.state.log_history if "fst/seconds" in logged)
        batches, inside = [len(batch) for batch, _ in asked], sum(seconds for _, seconds in asked)
        found = {"batches": batches, "rollouts": sum(batches), "seconds": whole, "generating": inside}
        yield {**found, "again": again}
        cells = [cell for batch, _ in asked for cell in batch]
        for name, width in (("training_batches", trainer.args.generation_batch_size), ("one_batch", len(cells))):
            with changed(trainer.args, {"generation_batch_size": width}):
                began = time.perf_counter()
                evaluate(cells)
                again[name] = time.perf_counter() - began
            yield {**found, "again": again}


def main(given: list[str] | None = None) -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=220, help="for the slow steps; a round is never cut off")
    args = parser.parse_args(given)
    sizes, where = QUICK if args.quick else FULL, machine(args.device)
    torch.manual_seed(0)
    world = World(args.device, sizes)
    model = {"parameters": world.model.num_parameters(), "dtype": str(world.model.dtype).removeprefix("torch.")}
    kept = {"machine": where, "sizes": {**vars(sizes), **model}}
    write(args.out, "step", {**kept, **steps(world, args.seconds)})
    for found in phase(world):
        write(args.out, "phase", {**kept, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
