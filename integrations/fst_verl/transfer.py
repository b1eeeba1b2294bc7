"""verl's transfer queue, as the fast phase, drift, observation and episodes need it.

Rows that are not trained on go through the "val" partition, so that nothing of them can reach a training batch.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fst_plugin.adapter import sampled_places
from fst_plugin.reflection.base import RECORD_CHARS
from fst_plugin.reflection.text import shorten, shorten_ends

from .batches import COLUMN, column
from .compat import names

PARTITION = "val"
UNDER_WAY = ("pending", "running")
"""What verl says of a row whose sessions have not all ended."""
FIRST_POLL_S, LAST_POLL_S, POLL_SHARE = 0.05, 2.0, 0.05
"""How often a batch under way is looked after: by this share of the time that it has taken so far, within these bounds
(ours; verl's buffers look every 2 s, and a fast phase has many small batches)."""
ALIVE_S = 10.0
"""How often it is asked meanwhile whether the rollout workers live (ours)."""


class RolloutWorkerLost(RuntimeError):
    """A rollout worker has died, and with it rows that would never end."""


@dataclass(frozen=True)
class Trajectory:
    """The last output of one session.

    uid: of its row.
    score: reward, summed over the tokens.
    text: the response, decoded and shortened (see `texts`); None from `scored`.
    tokens: how many of its tokens the model generated; None from `scored`.
    extra: its `extra_fields`.
    session: its number in the row's group, as text.
    key: in the queue.
    """

    uid: str
    score: float
    text: str | None
    tokens: int | None
    extra: Mapping[str, Any]
    session: str = "0"
    key: str = ""


def roll_out(
    trainer: Any, batch: Any, loop: str, columns: Sequence[Mapping[str, Any]], **more: Any
) -> tuple[list[str], Any]:
    """Rolls `batch` out, as `send` does, and waits for all of it.

    Returns the rows' uids, and verl's batch of what finished (keys, tags, partition_id), which stays in the queue until
    `clear`.
    """
    sent = send(trainer, batch, loop, columns, **more)
    try:
        wait_for(sent, workers(trainer))
    except BaseException:
        clear(take(sent))  # no validation may sample them
        raise
    return sent, take(sent)


def send(
    trainer: Any,
    batch: Any,
    loop: str,
    columns: Sequence[Mapping[str, Any]],
    *,
    uids: Sequence[str] | None = None,
    group: int | None = None,
) -> list[str]:
    """Sends `batch` to the rollout workers of a running verl trainer, whose servers must be awake.

    batch: a TensorDict; it gets the columns that verl needs.
    loop: agent loop of every row.
    columns: the `fst` column of each row.
    uids: of the rows; None: new ones.
    group: rollouts of each row; None: the validation's.

    Returns the rows' uids.
    """
    import transfer_queue as tq

    utils, size, step = names.tensordict_utils, len(columns), trainer.global_steps
    uids = [f"fst-{uuid.uuid4()}" for _ in range(size)] if uids is None else list(uids)
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
    except BaseException:
        clear(take(uids))
        raise
    return uids


def wait_for(uids: Collection[str], workers: Sequence[Any] = (), within: float = math.inf) -> set[str]:
    """Until every session of these rows has ended, or `within` seconds are over. Only their own partition is listed,
    and less and less often. Returns the rows that are still under way.

    workers: the actors that roll out. Raises RolloutWorkerLost if one has died.
    """
    began, asked, rows = time.monotonic(), time.monotonic(), set(uids)
    while True:
        late = {key for key, tag in tags(PARTITION).items() if key in rows and tag["status"] in UNDER_WAY}
        waited = time.monotonic() - began
        if not late or waited >= within:
            return late
        if time.monotonic() - asked > ALIVE_S:
            _refuse_dead(workers)
            asked = time.monotonic()
        time.sleep(min(LAST_POLL_S, max(FIRST_POLL_S, POLL_SHARE * waited), within - waited))


def take(uids: Collection[str]) -> Any:
    """verl's batch of what these rows brought so far (keys, tags, partition_id), the rows themselves being taken out of
    the queue. By their own uids: whatever else is in the partition stays there."""
    import transfer_queue as tq

    rows = set(uids)
    found = {key: tag for key, tag in tags(PARTITION).items() if key.partition("_")[0] in rows}
    if known := [key for key in found if key in rows]:
        tq.kv_clear(keys=known, partition_id=PARTITION)
    brought = {key: tag for key, tag in found.items() if key not in rows}
    return tq.KVBatchMeta(partition_id=PARTITION, keys=list(brought), tags=list(brought.values()))


def workers(trainer: Any) -> Sequence[Any]:
    """The actors that roll out for a trainer, as far as it tells them."""
    return getattr(trainer.agent_loop_manager, "agent_loop_workers", ())


def _refuse_dead(workers: Sequence[Any]) -> None:
    import ray

    if not workers:
        return
    asked = [one.__ray_ready__.remote() for one in workers]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=1)  # a busy one answers later
    try:
        ray.get(answered)
    except ray.exceptions.RayActorError as error:
        raise RolloutWorkerLost(
            "a rollout worker died while rollouts were under way, and its own would never end: see above whether a node"
            " was lost or memory ran out, and start the run again; it goes on from its last checkpoint"
        ) from error


def tags(partition: str) -> dict[str, dict[str, Any]]:
    """Everything in a partition of the queue: key -> tag."""
    import transfer_queue as tq

    return (tq.kv_list(partition) or {}).get(partition, {})


def under_way() -> list[dict[str, Any]]:
    """The `fst` columns of training rows whose sessions have not all ended; verl keeps rows in the queue where it rolls
    out ahead of the training."""
    keys = [key for key, tag in tags("train").items() if tag.get("status") in UNDER_WAY]
    return [dict(one) for one in column(read(keys, "train", [COLUMN]), COLUMN) or []] if keys else []


def keys_of(batch: Any) -> list[str]:
    """Keys of a batch's trajectories, "{uid}_{session}_{index}", without verl's padding."""
    return [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]


def read(keys: Sequence[str], partition: str, fields: Sequence[str]) -> Any:
    """These fields of these trajectories, as a TensorDict with one row a key."""
    import transfer_queue as tq

    return tq.kv_batch_get(keys=list(keys), partition_id=partition, select_fields=list(fields))


def trajectories(batch: Any, tokenizer: Any) -> list[Trajectory]:
    """The finished sessions of a batch with what they said, one a session; empty if it has none."""
    last = last_outputs(keys_of(batch))
    if not last:
        return []
    keys = list(last.values())
    data = read(keys, batch.partition_id, ("rm_scores", "extra_fields", "response_mask"))
    scores, extras, masks = _sums(data), column(data, "extra_fields") or [], data["response_mask"].unbind()
    said = texts(keys, batch.partition_id, tokenizer)
    return [
        replace(one, text=text, tokens=int(mask.sum()))
        for one, text, mask in zip(_finished(last, scores, extras), said, masks, strict=True)
    ]


def scored(batch: Any) -> list[Trajectory]:
    """As `trajectories`, without what they said: scores are those of the marks (see `agent_loop.Marked`), and of what
    has one value a token no more than a sample is read."""
    last = last_outputs(keys_of(batch))
    if not last:
        return []
    keys = list(last.values())
    extras = column(read(keys, batch.partition_id, ["extra_fields"]), "extra_fields") or []
    return _finished(last, _scores(keys, batch.partition_id, extras), extras)


def _finished(last: Mapping[tuple[str, str], str], scores: Sequence[float], extras: Sequence[Any]) -> list[Trajectory]:
    return [
        Trajectory(uid, score, None, None, extra, session, key)
        for ((uid, session), key), score, extra in zip(last.items(), scores, extras, strict=True)
    ]


def _scores(keys: Sequence[str], partition: str, extras: Sequence[Mapping[str, Any]]) -> list[float]:
    """What the marks say, and the queue's own rewards bear out: those that no mark tells are read, and a sample of the
    others. If one has changed since its rollout (by a reward model on the trainer's devices, say),
    all are read."""
    told: list[Any] = [(extra.get("fst") or {}).get("score") for extra in extras]
    places = sorted({*sampled_places(len(keys)), *(place for place, score in enumerate(told) if score is None)})
    found = dict(zip(places, _sums(read([keys[place] for place in places], partition, ["rm_scores"])), strict=True))
    if len(found) < len(keys) and any(told[place] not in (None, score) for place, score in found.items()):
        _tell_changed()
        return _sums(read(keys, partition, ["rm_scores"]))
    return [found.get(place, score) for place, score in enumerate(told)]


def _sums(data: Any) -> list[float]:
    return data["rm_scores"].sum(dim=1).tolist()


@cache
def _tell_changed() -> None:
    print("fst: rewards change after their rollouts: all are read, a value a token, not only a sample", flush=True)


def texts(keys: Sequence[str], partition: str, tokenizer: Any) -> list[str]:
    """The responses of these trajectories, decoded and no longer than a reflection is shown. Of a response with more
    tokens than that has characters, only both ends are decoded."""
    if not keys:
        return []
    responses = list(read(keys, partition, ["responses"])["responses"].unbind())
    head = RECORD_CHARS * 2 // 3
    tails = {place: one[head - RECORD_CHARS :] for place, one in enumerate(responses) if len(one) > RECORD_CHARS}
    heads = [one[:head] if place in tails else one for place, one in enumerate(responses)]
    said = tokenizer.batch_decode([*heads, *tails.values()], skip_special_tokens=True)
    ends = dict(zip(tails, said[len(heads) :], strict=True))
    return [
        shorten_ends(text, ends[place], RECORD_CHARS, f"the middle of {len(responses[place])} tokens")
        if place in ends
        else shorten(text, RECORD_CHARS)
        for place, text in enumerate(said[: len(heads)])
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
