"""Drift: KL(trained || starting weights) in nats per token on the validation problems (paper §evaluation).

With `fst.drift=true` every validation is followed by rollouts of its problems at the training's sampling, as many per
problem as `val_kwargs.n` (ours), which verl's own actor and reference worker then score; nothing is trained on them
and they are in no count of rollouts. The estimate is the mean of log p - log p_ref over the sampled tokens: unbiased,
where verl's `low_var_kl` loses up to 1 nat a token once the policy no longer samples what the base would have said.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import servers, transfer
from .assignment import CONTEXT_LOOP, RowColumn, inner_loops
from .batches import COLUMN
from .compat import names
from .validation import BEST, SEED

KEYS = {BEST: "fst/kl_to_base", SEED: "fst/kl_to_base_seed_prompt"}
"""Arm -> metric. Plain RL has one arm: its rollouts are those of the data's own prompt."""


def measure(trainer: Any) -> dict[str, float]:
    """KL of every arm that is validated; empty with `fst.drift=false`. Call it where verl's servers are awake.

    trainer: a verl V1 trainer inside `fit`.

    Raises ValueError if the run has no reference policy.
    """
    fst = trainer.config.get("fst")
    if not (fst and fst.get("drift")):
        return {}
    if not trainer.use_reference_policy:
        raise ValueError("fst.drift needs verl's reference policy: set actor_rollout_ref.actor.use_kl_loss=true")
    sums: dict[str, list[float]] = {arm: [0.0, 0] for arm in KEYS}
    for rows, columns, arm_of in _batches(trainer):
        for arm, gap in _gaps(trainer, rows, columns, arm_of):
            sums[arm] = [sums[arm][0] + float(gap.sum()), sums[arm][1] + len(gap)]
    return {KEYS[arm]: total / tokens for arm, (total, tokens) in sums.items() if tokens}


def _batches(trainer: Any) -> Iterator[tuple[Any, list[dict[str, Any]], Mapping[str, str]]]:
    """Validation batches, the `fst` column of each row, and the arm of every uid."""
    for rows in trainer.val_dataloader:
        size = len(rows["raw_prompt"])
        rows["uid"] = np.array([str(uuid.uuid4()) for _ in range(size)], dtype=object)
        if COLUMN in rows:
            arms, columns = trainer.val_dataloader.arm_of(), list(rows[COLUMN])
        else:
            arms = dict.fromkeys(rows["uid"], BEST)
            inner = inner_loops(rows.get("agent_name"), rows.get("extra_info"), size, trainer.config)
            columns = [
                RowColumn(name, "", split="val", step=trainer.global_steps, problem="").to_row() for name in inner
            ]
        # at the training's sampling; one that fails has no tokens
        yield rows, [{**column, "sampling": "training", "on_error": "record"} for column in columns], arms


def _gaps(trainer: Any, rows: Any, columns: Sequence[dict[str, Any]], arm_of: Mapping[str, str]) -> list[Any]:
    """(arm, log p - log p_ref of each sampled token) for every trajectory of the batch."""
    config = trainer.config.actor_rollout_ref
    batch = names.tensordict_utils.get_tensordict(rows)
    _, done = transfer.roll_out(trainer, batch, CONTEXT_LOOP, columns, uids=list(rows["uid"]))
    if not done.keys:
        return []
    trainer.local_trigger_step = 0  # the weights of now; at a later one verl takes those from before the step
    with servers.asleep(trainer, trainer.global_steps):
        # verl fills up to whole mini-batches only at steps that update the actor; its forward passes always need them
        whole = config.actor.ppo_mini_batch_size * config.rollout.n
        done = names.upsample_batch(done, whole, trainer.tokenizer.eos_token_id)
        done = trainer._balance_batch(done, metrics={})
        done = trainer._compute_ref_log_prob(trainer._compute_old_log_prob(done, metrics={}), metrics={})
    fields = ("old_log_probs", "ref_log_prob", "response_mask")
    data = transfer.read(done.keys, transfer.PARTITION, fields)
    transfer.clear(done)
    found = zip(done.keys, *(data[name].unbind() for name in fields), strict=True)
    return [(arm_of[uid], gap(*row)) for key, *row in found if (uid := key.rsplit("_", 2)[0]) in arm_of]


def gap(log_probs: Any, reference: Any, mask: Sequence[int]) -> Any:
    """log p - log p_ref of the sampled tokens of one trajectory; arguments are tensors of one value a response token,
    mask 0 if a token was not sampled but came from the environment."""
    return (log_probs - reference).double()[mask.bool()]  # type: ignore[attr-defined]
