"""Which of verl's trainer modes fast weights go with: every one whose trainer has the hooks that they need."""

from __future__ import annotations

import os
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fst_plugin.config import ConfigProblem

from .compat import MODES, OLD_NAMES, TRAINER_METHODS, names

KEY = "trainer.v1.trainer_mode"
SEPARATE = "separate_async"
MAIN = "verl.trainer.main_ppo"
LOG_LEVEL = "VERL_LOGGING_LEVEL"


def mode_of(config: DictConfig) -> Any:
    """The mode of a config under verl's own name; None if it has none."""
    given = OmegaConf.select(config, KEY)
    return OLD_NAMES.get(given, given)


def problems(config: DictConfig, module: str) -> list[ConfigProblem]:
    """Why fast weights do not go with the config's mode; empty if they may.

    module: the command's main module. One of a user's own may register a mode that is not known here.

    verl's own modes are known without verl; for another one verl's trainers are imported, which takes seconds.
    """
    mode = mode_of(config)
    if mode is None or mode in MODES:
        return _separate(config) if mode == SEPARATE else []
    registry = names.trainer_base.TRAINER_REGISTRY
    if mode in registry:
        return lacking(mode, registry.get(mode))
    if module != MAIN:
        return []
    message = (
        f"{mode} is not registered: use one of {', '.join(sorted(registry))}, or set VERL_USE_EXTERNAL_MODULES to the"
        " module that registers it"
    )
    return [ConfigProblem(KEY, message)]


def lacking(mode: str, trainer: Any) -> list[ConfigProblem]:
    """What a mode's trainer, as it was registered, would need for fast weights and does not have."""
    missing = [name for name in TRAINER_METHODS if not callable(getattr(trainer, name, None))]
    if not missing:
        return []
    message = f"the trainer of {mode} has no {', '.join(missing)}, which fast weights extend: use one of"
    message += f" {', '.join(MODES)}"
    return [ConfigProblem(KEY, message)]


def _separate(config: DictConfig) -> list[ConfigProblem]:
    """What verl itself asserts of this mode, once it has started everything."""
    found, role = [], config.actor_rollout_ref
    parts, mini = config.trainer.v1.separate_async.parameter_sync_step, role.actor.ppo_mini_batch_size
    if config.data.train_batch_size != parts * mini:
        message = (
            f"is {config.data.train_batch_size}, and {SEPARATE} trains on it in {parts} parts of {mini}: set it to"
        )
        message += f" {parts * mini} (trainer.v1.separate_async.parameter_sync_step x"
        message += " actor_rollout_ref.actor.ppo_mini_batch_size)"
        found.append(ConfigProblem("data.train_batch_size", message))
    for key in ("nnodes", "n_gpus_per_node"):
        if role.rollout[key] < 1:
            message = f"is {role.rollout[key]}: set it to what {SEPARATE} has for rollouts alone, 1 or more"
            found.append(ConfigProblem(f"actor_rollout_ref.rollout.{key}", message))
    if role.rollout.checkpoint_engine.backend == "naive":
        message = f"naive reaches no server of another device: set one that does, such as nccl for {SEPARATE}"
        found.append(ConfigProblem("actor_rollout_ref.rollout.checkpoint_engine.backend", message))
    if not role.hybrid_engine and os.environ.get(LOG_LEVEL, "INFO") in ("DEBUG", "INFO"):
        message = "false fails at a line that verl itself logs (plain verl, too): set the environment variable"
        message += f" {LOG_LEVEL}=WARN where the run is started"
        found.append(ConfigProblem("actor_rollout_ref.hybrid_engine", message))
    model = config.reward.reward_model
    if model.enable and not model.enable_resource_pool:
        message = f"a reward model has no place among servers that never rest, as in {SEPARATE}: set it to true"
        found.append(ConfigProblem("reward.reward_model.enable_resource_pool", message))
    return found
