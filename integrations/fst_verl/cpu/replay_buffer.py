"""verl's own replay buffers, polled more often.

verl polls every 2 s whether a batch is complete: nothing next to a GPU step, but most of a step of a small
model on CPU.
Reached through verl's door for custom samplers (`trainer.v1.sampler.custom_sampler`), which `+fst_cpu=default` sets.
verl does not pass its group-filtering settings through that door, so do not set it together with
`algorithm.filter_groups`.
"""

from __future__ import annotations

from typing import Any

from ..compat import names

POLL_SECONDS = 0.05


def quick_poll(**kwargs: Any) -> Any:
    """The buffer that verl itself would have built for this trainer mode, polling every `POLL_SECONDS`."""
    cls = names.ReplayBuffer if kwargs["trainer_mode"] == "sync" else names.ReplayBufferAsync
    return cls(**kwargs, poll_interval=POLL_SECONDS)
