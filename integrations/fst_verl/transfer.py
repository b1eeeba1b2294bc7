"""verl's transfer queue, as the fast phase, drift, observation and episodes need it.

Rows that are not trained on go through the "val" partition, so that nothing of them can reach a training batch.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .assignment import COLUMN
from .batches import column
from .compat import names

PARTITION = "val"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Trajectory:
    """The last output of one session.

    uid: of its row.
    session: its number in the row's group, as text.
    score: reward, summed over the tokens.
    text: the response, decoded.
    tokens: how many of its tokens the model generated.
    extra: its `extra_fields`.
    """

    uid: str
    score: float
    text: str
    tokens: int
    extra: Mapping[str, Any]
    session: str = "0"


def roll_out(
    trainer: Any,
    batch: Any,
    loop: str,
    columns: Sequence[Mapping[str, Any]],
    *,
    uids: Sequence[str] | None = None,
    group: int | None = None,
) -> tuple[list[str], Any]:
    """Rolls `batch` out on a running verl trainer, whose servers must be awake, and waits for all of it.

    batch: a TensorDict; it gets the columns that verl needs.
    loop: agent loop of every row.
    columns: the `fst` column of each row.
    uids: of the rows; None: new ones.
    group: rollouts of each row; None: the validation's.

    Returns the rows' uids, and verl's batch of what finished (keys, tags, partition_id), which stays in the queue until
    `clear`.
    """
    import transfer_queue as tq

    utils, size, step = names.tensordict_utils, len(columns), trainer.global_steps
    uids = [str(uuid.uuid4()) for _ in range(size)] if uids is None else list(uids)
    utils.assign_non_tensor_stack(batch, "uid", uids)
    if group is not None:
        utils.assign_non_tensor_stack(batch, "__rollout_n__", [group] * size)
    utils.assign_non_tensor_stack(batch, "agent_name", [loop] * size)
    utils.assign_non_tensor_stack(batch, COLUMN, [dict(c) for c in columns])
    utils.assign_non_tensor_data(batch, "global_steps", step)
    utils.assign_non_tensor_data(batch, "validate", True)
    tag = {"is_prompt": True, "status": "pending", "global_steps": step}
    tq.kv_batch_put(keys=uids, partition_id=PARTITION, tags=[dict(tag) for _ in range(size)])
    try:
        trainer.agent_loop_manager.generate_sequences(batch)
        with _quick_poll(trainer.replay_buffer):
            done, _ = trainer.replay_buffer.sample(global_steps=step, partition_id=PARTITION, batch_size=size)
    except BaseException:
        tq.kv_clear(keys=_left_over(uids, tq.kv_list() or {}), partition_id=PARTITION)  # no validation may sample them
        raise
    return uids, done


def _left_over(uids: Sequence[str], listed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Keys of these rows and of their trajectories in the queue."""
    return [key for key in listed.get(PARTITION, {}) if key.split("_")[0] in set(uids)]


def keys_of(batch: Any) -> list[str]:
    """Keys of a batch's trajectories, "{uid}_{session}_{index}", without verl's padding."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


def read(keys: Sequence[str], partition: str, fields: Sequence[str]) -> Any:
    """These fields of these trajectories, as a TensorDict with one row a key."""
    import transfer_queue as tq

    return tq.kv_batch_get(keys=list(keys), partition_id=partition, select_fields=list(fields))


def trajectories(batch: Any, tokenizer: Any) -> list[Trajectory]:
    """The finished sessions of a batch, one a session; empty if it has none."""
    last = last_outputs(keys_of(batch))
    if not last:
        return []
    fields = ("rm_scores", "extra_fields", "responses", "response_mask")
    data = read(list(last.values()), batch.partition_id, fields)
    texts = tokenizer.batch_decode(list(data["responses"].unbind()), skip_special_tokens=True)
    scores, masks = data["rm_scores"].unbind(), data["response_mask"].unbind()
    extras = column(data, "extra_fields") or []
    return [
        Trajectory(uid, float(score.sum()), text, int(mask.sum()), extra, session)
        for (uid, session), score, text, mask, extra in zip(last, scores, texts, masks, extras, strict=True)
    ]


def clear(batch: Any) -> None:
    """Takes a batch out of the queue."""
    import transfer_queue as tq

    if batch.keys:
        tq.kv_clear(keys=batch.keys, partition_id=PARTITION)


def last_outputs(keys: Sequence[str]) -> dict[tuple[str, str], str]:
    """(uid, session) -> key of the last output of that session; keys read {uid}_{session}_{index}."""
    final: dict[tuple[str, str], tuple[int, str]] = {}
    for key in keys:
        uid, session, index = key.rsplit("_", 2)
        if (uid, session) not in final or int(index) > final[uid, session][0]:
            final[uid, session] = (int(index), key)
    return {name: key for name, (_, key) in final.items()}


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
