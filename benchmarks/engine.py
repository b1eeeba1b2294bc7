"""A rollout engine in simulated time: continuous batching, so that its throughput depends on how many requests it has.

One replica decodes a token for each of its running requests per step; a step takes `base_s + per_request_s * running`
seconds. Requests beyond `max_num_seqs` wait. Lengths are drawn per request (log-normal, cut at `max_tokens`). The
defaults are about right for an 8B model in bfloat16 on a current accelerator: ours, an assumption, not measured.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any, Protocol

from fst_plugin.reflection import OfflineReflection

REFLECTION_S = 20.0
"""One round of parallel reflection calls (ours, an assumption)."""


@dataclass
class Engine:
    """The simulated engine.

    replicas: copies of the model, which share the requests.
    max_num_seqs: requests that one replica runs at a time.
    base_s, per_request_s: seconds of a step, and of each running request in it.
    mean_tokens, sigma, max_tokens: distribution of an answer's length.
    clock: simulated seconds so far.
    busy: seconds in which at least one request ran.
    served: finished requests.
    """

    replicas: int = 1
    max_num_seqs: int = 256
    base_s: float = 0.008
    per_request_s: float = 0.00006
    mean_tokens: int = 512
    sigma: float = 0.6
    max_tokens: int = 4096
    clock: float = 0.0
    busy: float = 0.0
    served: int = 0
    _rng: random.Random = field(default_factory=lambda: random.Random(0))

    def run(self, requests: int) -> float:
        """Serves a batch that arrives at once. Returns the seconds to its last answer, and adds them to the clock."""
        shares = [requests // self.replicas + (i < requests % self.replicas) for i in range(self.replicas)]
        took = max((self._replica([self._length() for _ in range(share)]) for share in shares), default=0.0)
        self.clock += took
        self.busy += took
        self.served += requests
        return took

    def wait(self, seconds: float) -> None:
        self.clock += seconds

    def _length(self) -> int:
        drawn = self._rng.lognormvariate(0, self.sigma) * self.mean_tokens / 1.2
        return max(1, min(self.max_tokens, int(drawn)))

    def _replica(self, lengths: list[int]) -> float:
        """Seconds until all are done. A request admitted at decode step s with length n ends at step s + n."""
        waiting = list(reversed(lengths))
        running: list[int] = []  # end steps
        step, seconds = 0, 0.0
        while waiting or running:
            while waiting and len(running) < self.max_num_seqs:
                heapq.heappush(running, step + waiting.pop())
            end = running[0]
            seconds += (end - step) * (self.base_s + self.per_request_s * len(running))
            step = end
            while running and running[0] == step:
                heapq.heappop(running)
        return seconds


class Clock(Protocol):
    """What can be waited on."""

    def wait(self, seconds: float) -> None: ...


class Waiting(OfflineReflection):
    """The offline reflection, which takes as long as an LM would; nothing else goes on meanwhile."""

    def __init__(self, clock: Clock):
        super().__init__()
        self.clock = clock

    def propose(self, requests: Any) -> Any:
        self.clock.wait(REFLECTION_S)
        return super().propose(requests)
