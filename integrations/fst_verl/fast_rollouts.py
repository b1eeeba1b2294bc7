"""Fast-phase rollouts through verl's own rollout path: the agent loops, reward functions and servers of training.

All (prompt, problem) cells of an evaluation go out as one batch, one row a cell with a group of one. The row's `fst`
column asks for the training's sampling, and for an error in place of a failed group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fst_plugin.rollouts import Cell, Message, Rollout

from . import batches, check, servers, transfer
from .assignment import CONTEXT_LOOP, REFLECT_LOOP, RowColumn, loops_of_batch
from .compat import names
from .prompt_store import PromptStore
from .transfer import Trajectory


class FastRollouts:
    """Runs fast-phase batches on a running verl trainer, whose servers must be awake with the current weights.

    trainer: a verl V1 trainer inside `fit`.
    show_answer: may feedback that is made here quote the reference answer?
    prompts: where rollout workers get the prompts' texts.
    """

    def __init__(self, trainer: Any, show_answer: bool):
        self.trainer, self.show_answer = trainer, show_answer
        self.prompts = PromptStore()
        self.pool: Any = None
        self.row_of: dict[str, int] = {}

    def open(self, chunks: Sequence[Any]) -> None:
        """Makes the rows of these chunks available by problem id."""
        self.pool = names.tensordict_utils.concat_tensordict(list(chunks)) if len(chunks) > 1 else chunks[0]
        self.row_of = {}
        for row, problem in enumerate(batches.problem_ids(self.pool)):
            self.row_of.setdefault(problem, row)

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        """One Rollout a cell, in order; a cell that failed in the engine or the environment has its `error` set."""
        if not cells:
            return []
        batch, columns = self.rows(cells)
        done = self._run(batch, CONTEXT_LOOP, columns)
        return [self._rollout(cell, result) for cell, result in zip(cells, done, strict=True)]

    def rows(self, cells: Sequence[Cell]) -> tuple[Any, list[dict[str, Any]]]:
        """The batch that rolls these cells out, one row each, and the `fst` column of every row."""
        batch = self.pool[[self.row_of[cell.problem.id] for cell in cells]]
        inner = loops_of_batch(batch, self.trainer.config)
        alone = {cell.prompt.digest: (cell.prompt,) for cell in cells}
        held = dict(zip(alone, self.prompts.put(*alone.values()), strict=True))
        return batch, [
            RowColumn(
                loop,
                held[cell.prompt.digest],
                split="anchor",
                step=self.trainer.global_steps,
                problem=cell.problem.id,
                sampling="training",
                on_error="record",
            ).to_row()
            for loop, cell in zip(inner, cells, strict=True)
        ]

    def results(self, cells: Sequence[Cell], uids: Sequence[str], done: Any, *, unless: str) -> list[Rollout]:
        """What rows brought, which are taken out of the queue. done: see `transfer.take`. unless: what is wrong with a
        row that is not in it."""
        found = self._taken(done)
        return [
            self._rollout(cell, found[uid]) if uid in found else Rollout(0.0, error=unless)
            for cell, uid in zip(cells, uids, strict=True)
        ]

    def generate(self, chats: list[list[Message]]) -> list[str]:
        """The policy's own answers to plain chats; "" for one that failed."""
        if not chats:
            return []
        batch = self.pool[[0] * len(chats)]
        names.tensordict_utils.assign_non_tensor_stack(batch, "raw_prompt", [[dict(m) for m in chat] for chat in chats])
        done = self._run(batch, REFLECT_LOOP, [{} for _ in chats])
        return [(result and result.text) or "" for result in done]

    def _run(self, batch: Any, loop: str, columns: Sequence[Mapping[str, Any]]) -> list[Trajectory | None]:
        """Submits the batch, waits for all of it, and returns one trajectory a row; None for a row that failed."""
        trainer = self.trainer
        uids, done = transfer.roll_out(trainer, batch, loop, columns, group=1)
        scored = loop == REFLECT_LOOP or trainer.reward_loop_manager.reward_loop_worker_handles is not None
        if done.keys and not scored:  # a colocated reward model takes the servers' place, as in verl's own validation
            done = self._reward_of_model(done)
        results = self._taken(done)
        return [results.get(uid) for uid in uids]

    def _taken(self, done: Any) -> dict[str, Trajectory]:
        try:
            return {one.uid: one for one in transfer.trajectories(done, self.trainer.tokenizer)}
        finally:
            transfer.clear(done)

    def _reward_of_model(self, done: Any) -> Any:
        """Scored by a reward model that takes the servers' place meanwhile. Afterwards they hold what they held: the
        last finished step's weights."""
        with servers.asleep(self.trainer, self.trainer.global_steps - 1):
            return self.trainer._compute_reward_colocate(done)

    def _rollout(self, cell: Cell, result: Trajectory | None) -> Rollout:
        if result is None:
            return Rollout(0.0, error="scoring failed; verl's agent loop worker logged why")
        if not math.isfinite(result.score):
            return Rollout(0.0, error=check.not_finite([result.score], 1, self.trainer.config))
        reference = cell.problem.answer if self.show_answer else None
        return batches.rollout(result.score, result.text, result.extra, reference, result.tokens)
