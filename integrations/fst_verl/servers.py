"""verl's rollout servers on the trainer's own devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asleep(trainer: Any, weights: int) -> Iterator[None]:
    """The servers on the trainer's devices make way for the trainer, and are awake again afterwards. Rollouts for
    training that are under way are paused, or moved to other servers, as verl itself does it.

    trainer: a verl V1 trainer inside `fit`, whose servers are awake.
    weights: the step after which the trainer's weights are what they are.
    """
    if leave := getattr(trainer, "switch_to_trainer", None):  # separate_async: the others go on meanwhile
        leave()
        yield
        trainer.switch_to_rollout()
        return
    servers, ahead = trainer.checkpoint_manager, trainer.trainer_mode != "sync"
    if ahead:
        servers.abort_replicas()
    servers.sleep_replicas()
    yield
    servers.update_weights(weights)
    if ahead:
        servers.resume_generation_replicas()
