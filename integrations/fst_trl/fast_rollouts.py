"""Fast-phase rollouts through TRL's own generation and reward functions, with the current weights, as in training.

With several processes the first one leads the fast phase. The others follow its calls, so that each does its share of
the rollouts, and all end with the same result.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch

from fst_plugin.prompts import text_digest
from fst_plugin.rollouts import Cell, Message, Rollout

from . import rows
from .compat import names


class RewardsKnown(BaseException):
    """Ends TRL's generate-and-score once the rewards are known; not an Exception: nothing may take it for a fault."""

    def __init__(self, rollouts: list[Rollout]):
        self.rollouts = rollouts


class FastRollouts:
    """Runs fast-phase batches on a GRPOTrainer inside `train`.

    trainer: the trainer.
    place: the messages of a row under a prompt.
    """

    def __init__(self, trainer: Any, place: Callable[[Any, str], list[Message]]):
        self.trainer, self.place = trainer, place
        self.asking = False  # does the trainer generate for a fast phase?
        self.step = 0
        self.row_of: Mapping[str, Any] = {}

    # ---------------------------------------------------------------------------------------------- lead and follow

    def lead(self, run: Callable[[], Any], step: int = 0, row_of: Mapping[str, Any] | None = None) -> Any:
        """`run` on the first process, where it may call `evaluate` and `generate`; its result on every process.

        step: the slow step that a fast phase comes before.
        row_of: problem id -> row of the dataset, for `evaluate`.
        Raises RuntimeError on the other processes if `run` fails on the first one.
        """
        self.step, self.row_of = step, row_of or {}
        if not self.trainer.accelerator.is_main_process:
            return self._follow()
        try:
            found = run()
        except BaseException as error:
            self._tell("failed", f"{type(error).__name__}: {error}")
            raise
        self._tell("done", found)
        return found

    def _tell(self, what: str = "", given: Any = None) -> tuple[str, Any]:
        """What the first process says, on every process."""
        return names.broadcast_object_list([(what, given)])[0]

    def _follow(self) -> Any:
        while True:
            what, given = self._tell()
            if what == "done":
                return given
            if what == "failed":
                raise RuntimeError(f"the first process failed: {given}")
            (self._evaluate if what == "cells" else self._generate)(given)

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        """One Rollout a cell, in order (on the first process)."""
        plain = [(cell.prompt.text, cell.problem.id) for cell in cells]
        self._tell("cells", plain)
        return self._evaluate(plain)

    def generate(self, chats: list[list[Message]]) -> list[str]:
        """The policy's own answers to plain chats (on the first process)."""
        plain = [[dict(message) for message in chat] for chat in chats]
        self._tell("chats", plain)
        return self._generate(plain)

    # ----------------------------------------------------------------------------------------------------- rollouts

    def _evaluate(self, cells: list[tuple[str, str]]) -> list[Rollout]:
        found = [(self.row_of[problem], text) for text, problem in cells]
        asked = [{**row, "prompt": self.place(row, text)} for row, text in found]
        return self._shared(asked, self._score, repr(cells))

    def _score(self, asked: list[dict[str, Any]]) -> list[Rollout]:
        self.asking = True
        try:
            self.trainer._generate_and_score_completions(asked)
        except RewardsKnown as known:
            return known.rollouts
        finally:
            self.asking = False
            self.trainer._pending_extra_logs.clear()
            self.trainer._pending_metrics.clear()
        raise RuntimeError("TRL's generate-and-score ended without rewards")

    def _generate(self, chats: list[list[dict[str, Any]]]) -> list[str]:
        with self.plain_chats():
            return self._shared(chats, lambda some: list(map(rows.text, self.trainer._generate(some)[3])), repr(chats))

    @contextmanager
    def plain_chats(self) -> Iterator[None]:
        """A trainer without tools, environments and a rollout function: a chat is just answered."""
        trainer = self.trainer
        kept = trainer.tools, trainer.environment_factories, trainer.rollout_func
        trainer.tools, trainer.environment_factories, trainer.rollout_func = [], None, None
        try:
            yield
        finally:
            trainer.tools, trainer.environment_factories, trainer.rollout_func = kept

    def _shared(self, items: list[Any], run: Callable[[list[Any]], list[Any]], what: str) -> list[Any]:
        """`run` on every item, each process its share; the results on every process.

        Shares are of one size, since TRL gathers over the processes: the last one may repeat the first items.
        """
        if not items:
            return []
        state, trainer = self.trainer.accelerator, self.trainer
        share = -(-len(items) // state.num_processes)
        begin = state.process_index * share
        mine = [items[i % len(items)] for i in range(begin, begin + share)]
        width = trainer._train_batch_size * trainer.args.steps_per_generation
        done: list[Any] = []
        with self._apart(int(text_digest(f"{self.step} {what}")[:8], 16) + state.process_index):
            for first in range(0, share, width):
                done += run(mine[first : first + width])
        return names.gather_object(done)[: len(items)]

    @contextmanager
    def _apart(self, seed: int) -> Iterator[None]:
        """Random numbers that depend on what is asked for alone, so that a resumed phase changes nothing that comes
        after it; and nothing of it shows in the training's own random numbers and figures."""
        trainer, device = self.trainer, self.trainer.accelerator.device
        metrics = {name: list(values) for name, values in trainer._metrics["train"].items()}
        seen, python, arrays = trainer.state.num_input_tokens_seen, random.getstate(), numpy.random.get_state()
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(seed)
                random.seed(seed)
                numpy.random.seed(seed % 2**32)
                yield
        finally:
            random.setstate(python)
            numpy.random.set_state(arrays)
            trainer._metrics["train"] = defaultdict(list, metrics)
            trainer.state.num_input_tokens_seen = seen


__all__ = ["FastRollouts", "RewardsKnown"]
