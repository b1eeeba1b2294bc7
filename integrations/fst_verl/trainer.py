"""verl's trainers with fast weights.

`FastSlowHooks` extends a verl V1 trainer by its hooks only: each override calls super() and one method of `FastSlow`.
With `fst.enabled=false`, or without an `fst` node, every hook is verl's own.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from omegaconf import DictConfig, open_dict

from . import batches, drift
from .compat import MODES, names
from .episodes import metrics as episodes
from .fast_slow import FastSlow


class FastSlowHooks:
    """Mixed into a verl V1 trainer: adds the fast weights."""

    config: Any
    val_dataloader: Any

    def __init__(self, config: DictConfig):
        with open_dict(config):  # verl's trainers ask for their mode by its own name
            base = {ours: theirs for theirs, ours in MODES.items()}
            config.trainer.v1.trainer_mode = base.get(config.trainer.v1.trainer_mode, config.trainer.v1.trainer_mode)
        enabled = bool(config.get("fst") and config.fst.get("enabled", True))
        fetch = super()._fetch_one_gen_batch  # type: ignore[misc]
        self.fst = FastSlow(self, config, fetch) if enabled else None
        super().__init__(config)  # type: ignore[call-arg]

    # begin and end of a run

    def _init_dataloader(self) -> None:
        with self.fst.room_for_prompts() if self.fst else nullcontext():
            super()._init_dataloader()  # type: ignore[misc]
        if self.fst:
            self.val_dataloader = self.fst.paired(self.val_dataloader)

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()  # type: ignore[misc]
        if self.fst:
            self.fst.begin()

    def _save_checkpoint(self) -> None:
        if self.fst:
            self.fst.save()
        super()._save_checkpoint()  # type: ignore[misc]

    # evolve

    def _add_batch_to_generate(self) -> None:
        if self.fst:
            self.fst.evolve_if_due()
        super()._add_batch_to_generate()  # type: ignore[misc]

    # assign

    def _fetch_one_gen_batch(self) -> Any:
        return self.fst.look_ahead.next() if self.fst else super()._fetch_one_gen_batch()  # type: ignore[misc]

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        if self.fst:
            self.fst.assign(batch)
        return super()._submit_batch_to_rollout(batch)  # type: ignore[misc]

    # step

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        if self.fst:
            self.fst.observe(batch)
        return super()._compute_advantage(batch, metrics)  # type: ignore[misc]

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)  # type: ignore[misc]
        if (self.config.data.get("env") or {}).get("multi_turn"):
            metrics.update(episodes.of_batch(batch, self.config.data.train_batch_size))
        metrics.update(self.fst.metrics() if self.fst else {})

    # validate

    def _validate(self) -> dict[str, float]:
        return {**super()._validate(), **drift.measure(self)}  # type: ignore[misc]

    def _val_metrics_update(
        self, data_sources: Any, sample_uids: Any, infos: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        if self.fst:
            if "feedback" in infos:  # verl averages what is not text
                infos = {**infos, "feedback": [batches.feedback_text(said) for said in infos["feedback"]]}
            data_sources = self.fst.relabel(data_sources, sample_uids, kwargs)
        return super()._val_metrics_update(data_sources, sample_uids, infos, *args, **kwargs)  # type: ignore[misc]


_Sync: Any = names.PPOTrainerSync
_ColocateAsync: Any = names.PPOTrainerColocateAsync


@names.register_trainer(MODES["sync"])
class FSTSync(FastSlowHooks, _Sync):
    """verl's synchronous trainer with fast weights."""


@names.register_trainer(MODES["colocate_async"])
class FSTColocateAsync(FastSlowHooks, _ColocateAsync):
    """verl's colocated asynchronous trainer with fast weights. Rollouts in flight when a cycle begins keep the prompts
    that they were submitted with."""

    def on_train_begin(self) -> None:
        if self.fst:
            self.fst.evolve_if_due()  # before the warm-up batches are submitted
        super().on_train_begin()
