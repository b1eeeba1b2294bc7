"""Fast-phase rollouts through TRL's own generation and reward functions, with the current weights, as in training."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import numpy
import torch

from fst_plugin.processes import Processes
from fst_plugin.prompts import text_digest
from fst_plugin.rollouts import Cell, Message, Rollout

from . import compat, rows

PLAIN: dict[str, Any] = {"tools": [], "environment_factories": None, "rollout_func": None}
"""A trainer with these attributes just answers a chat."""
REWARDS_ALONE = {"beta": 0.0, "vllm_importance_sampling_correction": False}
"""A trainer with these attributes computes no log probabilities that only a loss would need."""


class RewardsKnown(BaseException):
    """Ends TRL's generate-and-score once the rewards are known; not an Exception: nothing may take it for a fault."""

    def __init__(self, rollouts: list[Rollout]):
        self.rollouts = rollouts


@contextmanager
def changed(of: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """The object with these attributes; afterwards it has its own again."""
    kept = {name: getattr(of, name) for name in values}
    vars(of).update(values)
    try:
        yield
    finally:
        vars(of).update(kept)


class FastRollouts:
    """Runs fast-phase batches on a GRPOTrainer inside `train`.

    trainer: the trainer.
    place: the messages of a row under a prompt.
    """

    def __init__(self, trainer: Any, place: Callable[[Any, str], list[Message]]):
        self.trainer, self.place = trainer, place
        self.asking = False  # does the trainer generate for a fast phase?

    @cached_property
    def processes(self) -> Processes:
        state = self.trainer.accelerator
        calls: dict[str, Callable[[Any], Any]] = {"evaluate": self._evaluate, "generate": self._generate}
        first = lambda one: compat.broadcast_object_list([one])[0]  # noqa: E731
        return Processes(state.process_index, state.num_processes, first, compat.gather_object, calls)

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        """One Rollout a cell, in order (on the first process, as `generate`)."""
        places = [(cell.prompt.text, cast(rows.RowProblem, cell.problem).place) for cell in cells]
        return self.processes.everywhere("evaluate", places)

    def generate(self, chats: list[list[Message]]) -> list[str]:
        """The policy's own answers to plain chats."""
        return self.processes.everywhere("generate", [[dict(message) for message in chat] for chat in chats])

    def _evaluate(self, cells: list[tuple[str, int]]) -> list[Rollout]:
        found = [(self.trainer.train_dataset[index], text) for text, index in cells]
        asked = [{**row, "prompt": self.place(row, text)} for row, text in found]
        with changed(self, {"asking": True}), changed(self.trainer, REWARDS_ALONE):
            return self._shared(asked, self._score, repr(cells))

    def _score(self, asked: list[dict[str, Any]]) -> list[Rollout]:
        said: dict[str, Any] = {name: defaultdict(list) for name in ("_pending_extra_logs", "_pending_metrics")}
        with changed(self.trainer, said):
            try:
                self.trainer._generate_and_score_completions(asked)
            except RewardsKnown as known:
                return known.rollouts
        raise RuntimeError("TRL's generate-and-score ended without rewards")

    def _generate(self, chats: list[list[dict[str, Any]]]) -> list[str]:
        def answers(some: list[Any]) -> list[str]:
            return self.processes.together(lambda: list(map(rows.text, self.trainer._generate(some)[3])))

        with changed(self.trainer, PLAIN):
            return self._shared(chats, answers, repr(chats))

    def _shared(self, items: list[Any], run: Callable[[list[Any]], list[Any]], what: str) -> list[Any]:
        """The results of all items, see `Processes.shared`. what: decides the random numbers."""
        trainer, seed = self.trainer, int(text_digest(f"{self.trainer.state.global_step} {what}")[:8], 16)
        with self._apart((seed + self.processes.number) % 2**32):
            return self.processes.shared(items, trainer.args.generation_batch_size, run)

    @contextmanager
    def _apart(self, seed: int) -> Iterator[None]:
        """Random numbers that depend on what is asked for alone, so that a resumed phase changes nothing that comes
        after it; and nothing of it shows in the training's own random numbers and figures."""
        trainer, device = self.trainer, self.trainer.accelerator.device
        python, arrays = random.getstate(), numpy.random.get_state()
        with (
            changed(trainer, {"_metrics": {"train": defaultdict(list)}}),
            changed(trainer.state, {"num_input_tokens_seen": 0}),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            try:
                compat.set_seed(seed)
                yield
            finally:
                random.setstate(python)
                numpy.random.set_state(arrays)
