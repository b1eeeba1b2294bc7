"""Prompt texts by digest, in a partition of verl's transfer queue of their own.

The trainer stores a set of texts once; rows carry its digest, and a rollout worker fetches the texts once. So what a
step moves does not depend on how many prompts there are, nor on how long they are.

A set that cannot be had stops the run: the worker's rollout fails, and leaves a note in the partition that the trainer
reads before it submits or takes in anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import lru_cache

from fst_plugin.prompts import Population, Prompt, text_digest

from . import transfer
from .batches import column
from .compat import names

PARTITION = "fst_prompts"
FIELD = "texts"
CACHED = 256
"""Sets that a rollout worker keeps (ours): those of a cycle and of its fast phase."""


class PromptsLost(RuntimeError):
    """The texts behind a row's digest are not in the transfer queue, or are not the ones that the digest names."""


class PromptStore:
    """What the trainer has put into the partition."""

    def __init__(self) -> None:
        self._stored: set[str] = set()

    def put(self, *sets: Sequence[Prompt]) -> list[str]:
        """The digest of each set of prompts (best first), which can be had by it once this returns."""
        import transfer_queue as tq

        digests = [Population(tuple(prompts)).digest for prompts in sets]
        texts = {one: [p.text for p in prompts] for one, prompts in zip(digests, sets, strict=True)}
        if new := {one: found for one, found in texts.items() if one not in self._stored}:
            fields = names.tensordict_utils.get_tensordict({FIELD: list(new.values())})
            tq.kv_batch_put(keys=list(new), partition_id=PARTITION, fields=fields)
            self._stored |= set(new)
        return digests

    def forget(self, keep: Collection[str]) -> None:
        """Takes everything out of the partition but these sets; others are stored anew when they are next put."""
        import transfer_queue as tq

        old = [key for key in transfer.tags(PARTITION) if key not in keep]
        if old:
            tq.kv_clear(keys=old, partition_id=PARTITION)
        self._stored &= set(keep)

    def refuse_lost(self) -> None:
        """Raises PromptsLost if a rollout worker could not get the prompts of a row."""
        if notes := [tag["lost"] for tag in transfer.tags(PARTITION).values() if "lost" in tag]:
            raise PromptsLost(notes[0])


async def texts_of(digest: str) -> tuple[str, ...]:
    """The texts of a set, best first; fetched once by a process, however many rollouts ask. "": none.

    Raises PromptsLost, and has the trainer stop, if they cannot be had.
    """
    if not digest:
        return ()
    try:
        return await asyncio.shield(_fetching(digest))
    except PromptsLost:
        _fetching.cache_clear()
        raise


@lru_cache(CACHED)
def _fetching(digest: str) -> asyncio.Future[tuple[str, ...]]:
    return asyncio.ensure_future(_fetch(digest))


async def _fetch(digest: str) -> tuple[str, ...]:
    import transfer_queue as tq

    try:
        found = column(await tq.async_kv_batch_get([digest], PARTITION, [FIELD]), FIELD)
        texts = tuple(found[0]) if found else ()
        if digest_of(texts) == digest:
            return texts
        why = f"what is stored there has digest {digest_of(texts)}"
    except Exception as error:  # whatever the queue's storage raises for what it does not have
        why = f"{type(error).__name__}: {error}"
    note = (
        f"the prompts {digest} of a row are not in the transfer queue's partition {PARTITION} ({why}): resume from"
        " another checkpoint, or start over with trainer.resume_mode=disable; nothing but fast weights may clear that"
        " partition"
    )
    await tq.async_kv_put(f"lost_{digest}", PARTITION, tag={"lost": note})
    raise PromptsLost(note)


def digest_of(texts: Sequence[str]) -> str:
    """As `Population.digest`, of texts."""
    return text_digest("\n".join(text_digest(text) for text in texts))
