"""A checkpoint engine without an accelerator: brings the trainer's weights to rollout servers of their own.

verl's `separate_async` trainer needs one, and verl's own engines need an accelerator or RDMA. Reached through verl's
door for other engines (`actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module`), which
`+fst_cpu=separate_async` sets.

Every sync makes a process group of its own and drops it: nothing is kept between syncs, so servers may come and go.
Gloo carries the tensors one after the other; their names, and that the last one has come, go through the group's store.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ..compat import names

BACKEND = "fst_gloo"
TIMEOUT = timedelta(minutes=10)
END = "null"

_Engine: Any = names.CheckpointEngine


@names.CheckpointEngineRegistry.register(BACKEND)
class GlooCheckpointEngine(_Engine):
    """One end of the sync.

    bucket_size: verl gives it to every engine; unused, tensors are sent whole.
    is_master: is this rank 0 of the trainer, which sends?
    """

    def __init__(self, bucket_size: int, is_master: bool = False):
        self.is_master = is_master
        self.store: Any = None
        self.group: Any = None

    def prepare(self) -> tuple[str, int] | None:
        """The address of this sync's store, from the master; None from all others."""
        if not self.is_master:
            return None
        import ray

        host = ray.util.get_node_ip_address()
        self.store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        return host, self.store.port

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[Any]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Keyword arguments of `init_process_group`, for the trainer's workers and for the servers'. The group's rank 0
        is the trainer's; the trainer's other ranks (-1) stay out."""
        size = 1 + rollout_world_size

        def arguments(ranks: list[int]) -> dict[str, list[Any]]:
            return {"rank": ranks, "size": [size] * len(ranks), "address": [metadata[0]] * len(ranks)}

        return arguments([0] + [-1] * (actor_wg_world_size - 1)), arguments(list(range(1, size)))

    def init_process_group(self, rank: int, size: int, address: tuple[str, int]) -> None:
        if rank < 0:
            return
        if self.store is None:
            self.store = dist.TCPStore(*address, is_master=False, timeout=TIMEOUT)
        self.group = dist.ProcessGroupGloo(dist.PrefixStore("group", self.store), rank, size, TIMEOUT)

    def finalize(self) -> None:
        self.group = self.store = None

    @torch.no_grad()
    async def send_weights(self, weights: Iterable[tuple[str, Any]], global_steps: int | None = None) -> None:
        """Sends (name, tensor) pairs. Every rank of the trainer goes through them, as gathering one takes all ranks."""
        number = 0
        for number, (name, tensor) in enumerate(weights, 1):
            if self.group is not None:
                told = json.dumps([name, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")])
                self.store.set(str(number - 1), told)
                await asyncio.to_thread(self._broadcast, tensor.detach().contiguous())
        if self.group is not None:
            self.store.set(str(number), END)
            await asyncio.to_thread(self.group.barrier().wait)  # nobody is left reading when the store goes

    async def receive_weights(self, global_steps: int | None = None) -> AsyncIterator[tuple[str, Any]]:
        """Yields (name, tensor) pairs."""
        number = 0
        while told := json.loads(await asyncio.to_thread(self.store.get, str(number))):
            name, shape, dtype = told
            tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            await asyncio.to_thread(self._broadcast, tensor)
            yield name, tensor
            number += 1
        await asyncio.to_thread(self.group.barrier().wait)

    def _broadcast(self, tensor: Any) -> None:
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        self.group.broadcast([tensor.view(-1).view(torch.uint8)], options).wait()
