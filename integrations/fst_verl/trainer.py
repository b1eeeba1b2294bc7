"""verl's trainers with fast weights.

`FastSlowHooks` extends a verl V1 trainer by its hooks only: each override calls super() and one method of `FastSlow`.
verl's registry holds ours under the modes' own names, so that a run gets them however it was started: by verl's main
module, another one, or verl's Python API. Without an `fst` node, or with `fst.enabled=false`, the registered class
makes verl's own trainer.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, open_dict

from . import batches, drift
from .compat import MODES, names
from .episodes import metrics as episodes
from .fast_slow import FastSlow


class FastSlowHooks:
    """Mixed into a verl V1 trainer: adds the fast weights.

    plain: the trainer that is extended.
    """

    plain: Any
    config: Any
    train_dataset: Any
    val_dataloader: Any

    def __new__(cls, config: DictConfig) -> Any:
        own_name = {alias: mode for mode, alias in MODES.items()}
        with open_dict(config):  # verl's trainers ask for their mode by its own name
            config.trainer.v1.trainer_mode = own_name.get(
                config.trainer.v1.trainer_mode, config.trainer.v1.trainer_mode
            )
        fst = config.get("fst")
        wanted = fst is not None and (fst.get("enabled", True) or fst.get("drift"))
        return super().__new__(cls) if wanted else cls.plain(config)  # not one of ours: __init__ is not called for it

    def __init__(self, config: DictConfig):
        fetch = super()._fetch_one_gen_batch  # type: ignore[misc]
        self.fst = FastSlow(self, config, fetch) if config.fst.get("enabled", True) else None
        super().__init__(config)  # type: ignore[call-arg]

    # begin and end of a run

    def _init_dataloader(self) -> None:
        super()._init_dataloader()  # type: ignore[misc]
        if self.fst:
            self.fst.fit_to_data()
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
        if self.fst:
            metrics.update(self.fst.metrics())
            self.fst.keep(metrics)

    def _dump_generations(self, **dump: Any) -> None:
        super()._dump_generations(**(self.fst.named(dump) if self.fst else dump))  # type: ignore[misc]

    # validate

    def _validate(self) -> dict[str, float]:
        found = {**super()._validate(), **drift.measure(self)}  # type: ignore[misc]
        if self.fst:
            self.fst.keep(found)
        return found

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


class FSTSync(FastSlowHooks, _Sync):
    """verl's synchronous trainer with fast weights."""

    plain = _Sync


class FSTColocateAsync(FastSlowHooks, _ColocateAsync):
    """verl's colocated asynchronous trainer with fast weights. Rollouts in flight when a cycle begins keep the prompts
    that they were submitted with."""

    plain = _ColocateAsync

    def on_train_begin(self) -> None:
        if self.fst:
            self.fst.evolve_if_due()  # before the warm-up batches are submitted
        super().on_train_begin()


for _mode, _ours in {"sync": FSTSync, "colocate_async": FSTColocateAsync}.items():
    names.TRAINER_REGISTRY.update({_mode: _ours, MODES[_mode]: _ours})
