"""Fast-phase rollouts through verl's own rollout path: the agent loops, reward functions and servers of training.

All (prompt, problem) cells of an evaluation go out as one batch, one row a cell with a group of one, in verl's "val"
partition, so that nothing of it can reach a training batch. The row's `fst` column makes the agent loop use the
training temperature.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fst_plugin.rollouts import Cell, Message, Rollout

from . import batches as rows
from .agent_loop import CONTEXT_LOOP, REFLECT_LOOP
from .assignment import COLUMN, row_column
from .compat import names

PARTITION = "val"
POLL_SECONDS = 0.05


class FastRollouts:
    """Runs fast-phase batches on a running verl trainer, whose servers must be awake with the current weights.

    trainer: a verl V1 trainer inside `fit`. provider: `fst.context` as a dict. show_answer: may feedback that is made
    here quote the reference answer?
    """

    def __init__(self, trainer: Any, provider: Mapping[str, Any], show_answer: bool):
        self.trainer, self.provider, self.show_answer = trainer, dict(provider), show_answer
        self.pool: Any = None
        self.row_of: dict[str, int] = {}

    def open(self, chunks: Sequence[Any]) -> None:
        """Makes the rows of these chunks available by problem id."""
        self.pool = names.tensordict_utils.concat_tensordict(list(chunks)) if len(chunks) > 1 else chunks[0]
        self.row_of = {}
        for row, problem in enumerate(rows.problems(self.pool)):
            self.row_of.setdefault(problem.id, row)

    def evaluate(self, cells: Sequence[Cell]) -> list[Rollout]:
        """One Rollout a cell, in order; a cell that failed in the engine or the environment has its `error` set."""
        if not cells:
            return []
        batch = self.pool[[self.row_of[cell.problem.id] for cell in cells]]
        step = self.trainer.global_steps
        inner = rows.column(batch, "agent_name") or [self.default_loop] * len(cells)
        columns = [
            row_column(loop, [cell.prompt.text], self.provider, split="anchor", step=step)
            for loop, cell in zip(inner, cells, strict=True)
        ]
        done = self._run(batch, CONTEXT_LOOP, columns)
        return [self._rollout(cell, result) for cell, result in zip(cells, done, strict=True)]

    def generate(self, chats: list[list[Message]]) -> list[str]:
        """The policy's own answers to plain chats; "" for one that failed."""
        if not chats:
            return []
        batch = self.pool[[0] * len(chats)]
        names.tensordict_utils.assign_non_tensor_stack(batch, "raw_prompt", [[dict(m) for m in chat] for chat in chats])
        done = self._run(batch, REFLECT_LOOP, [{} for _ in chats])
        return [result["text"] if result else "" for result in done]

    def fits(self, chat: Sequence[Message]) -> bool:
        """Does this plain chat fit the rollouts' prompt length?"""
        config = self.trainer.config
        rendered = self.trainer.tokenizer.apply_chat_template(
            [dict(m) for m in chat],
            add_generation_prompt=True,
            tokenize=True,
            **dict(config.data.get("apply_chat_template_kwargs") or {}),
        )
        return len(names.normalize_token_ids(rendered)) <= config.actor_rollout_ref.rollout.prompt_length

    @property
    def default_loop(self) -> str:
        return self.trainer.config.actor_rollout_ref.rollout.agent.default_agent_loop

    def _run(self, batch: Any, loop: str, columns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """Submits the batch, waits for all of it, and returns one result a row; None for a row that failed."""
        import transfer_queue as tq

        utils, trainer, size = names.tensordict_utils, self.trainer, len(columns)
        uids = [str(uuid.uuid4()) for _ in range(size)]
        for name, values in (("uid", uids), ("agent_name", [loop] * size), ("__rollout_n__", [1] * size)):
            utils.assign_non_tensor_stack(batch, name, values)
        utils.assign_non_tensor_stack(batch, COLUMN, [dict(c) for c in columns])
        utils.assign_non_tensor_data(batch, "global_steps", trainer.global_steps)
        utils.assign_non_tensor_data(batch, "validate", True)
        tag = {"is_prompt": True, "status": "pending", "global_steps": trainer.global_steps}
        tq.kv_batch_put(keys=uids, partition_id=PARTITION, tags=[dict(tag) for _ in uids])
        trainer.agent_loop_manager.generate_sequences(batch)
        with _quick_poll(trainer.replay_buffer):
            done, _ = trainer.replay_buffer.sample(
                global_steps=trainer.global_steps, partition_id=PARTITION, batch_size=size
            )
        if not done.keys:
            return [None] * size
        scored = loop == REFLECT_LOOP or trainer.reward_loop_manager.reward_loop_worker_handles is not None
        if not scored:  # a colocated reward model takes the servers' place, as in verl's own validation
            trainer.checkpoint_manager.sleep_replicas()
            done = trainer._compute_reward_colocate(done)
            trainer.checkpoint_manager.update_weights(trainer.global_steps)
        final = {uid: key for (uid, _), key in rows.last_outputs(done.keys).items()}
        data = tq.kv_batch_get(
            keys=list(final.values()), partition_id=PARTITION, select_fields=["rm_scores", "extra_fields", "responses"]
        )
        extras = rows.column(data, "extra_fields") or []
        texts = trainer.tokenizer.batch_decode(list(data["responses"].unbind()), skip_special_tokens=True)
        scores = [float(row.sum()) for row in data["rm_scores"].unbind()]
        results = {uid: {"score": scores[i], "text": texts[i], "extra": extras[i]} for i, uid in enumerate(final)}
        tq.kv_clear(keys=done.keys, partition_id=PARTITION)
        return [results.get(uid) for uid in uids]

    def reference(self, answer: Any) -> str | None:
        """The reference answer, where feedback that is made here may quote it."""
        return str(answer) if self.show_answer and answer not in (None, "") else None

    def _rollout(self, cell: Cell, result: Mapping[str, Any] | None) -> Rollout:
        if result is None:
            return Rollout(0.0, error="scoring failed; verl's agent loop worker logged why")
        return rows.rollout(result["score"], result["text"], result["extra"], self.reference(cell.problem.answer))


@contextmanager
def _quick_poll(buffer: Any) -> Iterator[None]:
    """verl's buffers look every 2 s; a fast phase has many small batches."""
    before = getattr(buffer, "poll_interval", None)
    if before is None:  # a user's own sampler
        yield
        return
    buffer.poll_interval = min(before, POLL_SECONDS)
    try:
        yield
    finally:
        buffer.poll_interval = before
