"""verl's trainers with fast weights.

`FastSlowHooks` extends a verl V1 trainer by its hooks only: each override calls super() and one method of `FastSlow`.
Whatever trainer is asked for by name, verl's own or another package's, is given with the hooks mixed in, and so a run
gets them however it was started: by verl's main module, another one, or verl's Python API. Without an `fst` node, or
with `fst.enabled=false`, that class makes the trainer that was registered.
"""

from __future__ import annotations

import functools
from collections import UserDict
from typing import Any

from omegaconf import DictConfig, open_dict

from fst_plugin.config import ConfigError
from fst_plugin.rollouts import feedback_text

from . import drift, modes
from .compat import OLD_NAMES, names
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

    def __new__(cls, config: DictConfig, *more: Any, **named: Any) -> Any:
        mode = config.trainer.v1.trainer_mode
        with open_dict(config):  # verl's trainers ask for their mode by its own name
            config.trainer.v1.trainer_mode = OLD_NAMES.get(mode, mode)
        fst = config.get("fst")
        wanted = fst is not None and (fst.get("enabled", True) or fst.get("drift"))
        if not wanted and "plain" in vars(cls):  # else it was derived from ours: its hooks have nothing to do
            return cls.plain(config, *more, **named)  # not one of ours: __init__ is not called for it
        if wanted and (problems := modes.lacking(mode, cls.plain)):
            raise ConfigError(problems)
        return super().__new__(cls)

    def __init__(self, config: DictConfig, *more: Any, **named: Any):
        fetch = super()._fetch_one_gen_batch  # type: ignore[misc]
        fst = config.get("fst")
        self.fst = FastSlow(self, config, fetch) if fst and fst.get("enabled", True) else None
        super().__init__(config, *more, **named)  # type: ignore[call-arg]

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

    # evolve, assign

    def _fetch_one_gen_batch(self) -> Any:
        if not self.fst:
            return super()._fetch_one_gen_batch()  # type: ignore[misc]
        self.fst.evolve_if_due()  # the first batch of a step, or of those that are sent ahead of the first step
        return self.fst.look_ahead.next()

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        if self.fst:
            self.fst.assign(batch)
        return super()._submit_batch_to_rollout(batch)  # type: ignore[misc]

    # evolve, beside a step

    def on_sample_begin(self) -> None:
        super().on_sample_begin()  # type: ignore[misc]
        if self.fst:
            self.fst.send_beside()

    def on_sample_end(self) -> None:
        if self.fst:
            self.fst.gather_beside()
        super().on_sample_end()  # type: ignore[misc]

    def on_step_end(self) -> None:
        super().on_step_end()  # type: ignore[misc]
        if self.fst and self.fst.beside:
            self.fst.beside.reopen()

    # step

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        if self.fst:
            self.fst.collect(batch)
        return super()._compute_advantage(batch, metrics)  # type: ignore[misc]

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, Any]) -> Any:
        batch = super().step(metrics, timing_raw)  # type: ignore[misc]
        if self.fst:
            self.fst.observe()
        return batch

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
        if self.fst and self.fst.beside:
            self.fst.beside.clear()
        found = {**super()._validate(), **drift.measure(self)}  # type: ignore[misc]
        if self.fst:
            self.fst.keep(found)
        return found

    def _val_metrics_update(
        self, data_sources: Any, sample_uids: Any, infos: Any, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        if self.fst:
            if "feedback" in infos:  # verl averages what is not text
                infos = {**infos, "feedback": [feedback_text(said) for said in infos["feedback"]]}
            data_sources = self.fst.relabel(data_sources, sample_uids, kwargs)
        return super()._val_metrics_update(data_sources, sample_uids, infos, *args, **kwargs)  # type: ignore[misc]


@functools.cache
def with_fast_weights(registered: Any) -> Any:
    """The class that a run gets where `registered` is asked for. One that has the hooks already stays as it is."""
    if not isinstance(registered, type) or issubclass(registered, FastSlowHooks):
        return registered
    body = {"plain": registered, "__doc__": registered.__doc__, "__module__": __name__}
    return type(f"FastSlow{registered.__name__}", (FastSlowHooks, registered), body)


class Registry(UserDict[str, Any]):
    """verl's registry of trainers, on verl's own entries: what is registered stays as it is, early or late; what is
    asked for comes with fast weights. `get`, by which verl compares what is registered twice, shows the entries."""

    def __init__(self, entries: dict[str, Any]):
        self.data = entries

    def __getitem__(self, name: str) -> Any:
        return with_fast_weights(self.data[OLD_NAMES.get(name, name)])

    def get(self, name: str, default: Any = None) -> Any:
        return self.data.get(name, default)


_base = names.trainer_base
if not isinstance(_base.TRAINER_REGISTRY, Registry):
    _base.TRAINER_REGISTRY = Registry(_base.TRAINER_REGISTRY)
