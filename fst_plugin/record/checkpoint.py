"""What a checkpoint holds of the fast weights: their state, and through it, by digest, every other file of the folder.

The state is written last. A checkpoint is taken up whole, or refused with how to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import sealed
from . import state as durable
from .slow_scores import TRACES_FILE, SlowScores


def save(folder: Path, state: durable.State, slow: SlowScores, parts: Sequence[str] = ()) -> None:
    """Writes `slow`, then `state`. parts: names of files that are in `folder` already: the state answers for them."""
    slow.save(folder)
    durable.save(replace(state, parts=sealed.digests(folder, [TRACES_FILE, *parts])), folder)


def load(
    folder: Path, *, seed_digest: str, dataset_digest: str, data_key: str, start_over: str, parts: Sequence[str] = ()
) -> tuple[durable.State, SlowScores]:
    """Inverse of `save`; `state.parts` names the files that can be read now.

    seed_digest, dataset_digest: of the run that wants to go on from here.
    data_key, start_over: for messages: the key that names the training data, and how to begin a new run instead.

    Raises ValueError if the folder holds no complete fast weights, or those of another seed prompt or dataset, or if a
    file of it is missing, damaged or of another run.
    """
    try:
        state = durable.load(folder)
        sealed.check_parts(folder, state.parts, [TRACES_FILE, *parts])
        slow = SlowScores.load(folder)
    except FileNotFoundError:
        raise ValueError(
            f"{folder.parent} holds no fast weights (no {folder.name}/{durable.STATE_FILE}): it was trained"
            f" without them or not saved whole; set fst.enabled=false, or start over with {start_over}"
        ) from None
    except sealed.UnusableFile as error:
        raise ValueError(f"{error}; or resume from another checkpoint, or start over with {start_over}") from error
    durable.refuse_mismatch(
        state,
        seed_digest=seed_digest,
        dataset_digest=dataset_digest,
        where=folder.parent,
        data_key=data_key,
        start_over=start_over,
    )
    return state, slow


__all__ = ["load", "save"]
