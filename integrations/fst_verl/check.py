"""What can be wrong with a verl + fst config, all of it at once, before anything is started."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fst_plugin import config as core
from fst_plugin.adapter import part_problems
from fst_plugin.config import ConfigError, ConfigProblem, FSTConfig
from fst_plugin.secrets import described

from . import modes, room, support
from .compat import ESTIMATOR
from .composing import compose
from .schedules import config_problems


def fst_config(config: DictConfig) -> FSTConfig:
    """The validated `fst` node of a verl config. Raises ConfigError."""
    return core.parse(node(config))


def node(config: DictConfig) -> dict[str, Any]:
    """The `fst` node as plain data. Raises ConfigError if something in it points to a key that is not there."""
    try:
        return OmegaConf.to_container(config.fst, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "fst"
        message = str(error).splitlines()[0]
        raise ConfigError([ConfigProblem(key, f"{message}; a dollar sign in a text is written \\${{...}}")]) from None


def prompt_cap(fst: FSTConfig, config: DictConfig) -> int:
    """Cap of an evolved prompt in the policy's tokens: `fst.max_prompt_tokens`, else half the prompt length (ours)."""
    return fst.max_prompt_tokens or room.prompt_length(config) // 2


def rollout_setup(config: DictConfig) -> dict[str, Any]:
    """What decides how a rollout goes besides prompt, problem and weights: data, reward function with its file,
    sampling, lengths. A change of the environment's own code is not seen."""
    rollout = config.actor_rollout_ref.rollout
    sampling = ("temperature", "top_p", "top_k", "prompt_length", "response_length", "max_model_len", "multi_turn")
    parts = {
        "data": OmegaConf.to_container(config.data, resolve=True),
        "placement": config.fst.context.placement,
        "reward": OmegaConf.to_container(config.reward, resolve=True) if config.get("reward") else None,
        "rollout": {k: OmegaConf.to_container(OmegaConf.create({k: rollout.get(k)}), resolve=True) for k in sampling},
        "model": str(config.actor_rollout_ref.model.path),
    }
    path = OmegaConf.select(config, "reward.custom_reward_function.path")
    if path and Path(str(path)).is_file():
        parts["reward_file"] = Path(str(path)).read_text(encoding="utf-8", errors="replace")
    return parts


def not_finite(bad: Sequence[float], of: int, config: DictConfig) -> str:
    """What to say of rewards that are NaN or infinite, with the function or the environment that gave them."""
    custom = OmegaConf.select(config, "reward.custom_reward_function") or {}
    source = "verl's own reward function of the data source"
    if env := config.data.get("env"):
        named = OmegaConf.select(env, "id", throw_on_missing=False)
        source = f"the environment {named} (data.env.id)" if named else "an environment of data.env.tasks"
    if custom.get("path"):
        source = f"{custom.get('name')} in {custom['path']} (reward.custom_reward_function)"
    return f"{len(bad)} of {of} rewards are not finite (such as {bad[0]}): fix {source}"


def engine_width(config: DictConfig) -> int:
    """Rollouts that the engine runs at a time: max_num_seqs of every replica; in separate_async, of those that are
    never the trainer's."""
    rollout = config.actor_rollout_ref.rollout
    place = rollout if modes.mode_of(config) == modes.SEPARATE else config.trainer
    gpus = int(place.n_gpus_per_node) * int(place.nnodes)
    share = int(rollout.get("tensor_model_parallel_size") or 1) * int(rollout.get("pipeline_model_parallel_size") or 1)
    share *= int(rollout.get("data_parallel_size") or 1)
    return int(rollout.max_num_seqs) * max(1, gpus // share)


def problems(config: DictConfig, module: str = modes.MAIN) -> list[ConfigProblem]:
    """Every problem of the whole config; empty if there are none. module: the command's main module."""
    try:
        given = node(config)
    except ConfigError as error:
        return error.problems
    fst, found = core.inspect(given)
    if not fst.enabled and not fst.drift:  # plain verl: nothing more to check
        return [*found, *(ConfigProblem(*problem) for problem in config_problems(config))]
    found += [*modes.problems(config, module), *_framework(config), *_group(config), *_loss(config)]
    return [*found, *_reward(config), *part_problems(fst), *_drift(fst, config), *_hybrid(fst, config)]


def environment(config: DictConfig) -> list[ConfigProblem]:
    """What keeps the environments of `data.env` from being made, reset and played as the run would; empty if the run
    names none."""
    env: Any = OmegaConf.to_container(config.data.env, resolve=True) if config.data.get("env") else {}
    named = {"data.env": env} if env.get("id", "???") != "???" else {}
    if isinstance(env.get("tasks"), list) and not config_problems(config):
        named |= {f"data.env.tasks[{i}]": task for i, task in enumerate(env["tasks"])}
    episodes = bool(env.get("multi_turn"))
    return [problem for key, task in named.items() for problem in _played(key, task, episodes)]


def _played(key: str, task: dict[str, Any], episodes: bool) -> list[ConfigProblem]:
    from fst_envs.make import make

    try:
        made = make(task["id"], **(task.get("kwargs") or {}))
        made.reset(options={"index": 0, "split": "train"})
        ends = episodes or any(made.step("")[2:4])
        made.close()
    except Exception as error:  # of any author's environment
        return [ConfigProblem(key, f"{task['id']} cannot be made and played: {described(error)}")]
    if ends:
        return []
    return [ConfigProblem("data.env.multi_turn", f"{task['id']} goes on after one answer: set it to true")]


def _framework(config: DictConfig) -> list[ConfigProblem]:
    found = support.refused(config)
    sampler = OmegaConf.select(config, "trainer.v1.sampler.custom_sampler.name")
    for key in ("algorithm.filter_groups.enable", "trainer.v1.sampler.sync_refill_failed_groups"):
        if sampler == "quick_poll" and OmegaConf.select(config, key):
            fix = "is not passed on to custom samplers by verl: also set trainer.v1.sampler.custom_sampler.name=null"
            found.append(ConfigProblem(key, fix))
    if config.trainer.get("val_only") and not config.trainer.get("val_before_train", True):
        message = "false: verl validates alone only before it trains, and would train (plain verl, too): set it to true"
        found.append(ConfigProblem("trainer.val_before_train", message))
    env = config.data.get("env")
    found += [ConfigProblem(*problem) for problem in config_problems(config)]
    if env is not None and OmegaConf.is_missing(env, "id") and not env.get("tasks"):
        found.append(
            ConfigProblem("data.env.id", "is missing: name the environment, such as fst_envs:fst/HouseRules-v0")
        )
    return found


def _reward(config: DictConfig) -> list[ConfigProblem]:
    """A reward function next to a reward model that takes the servers' place: verl's V1 trainers hand it a row without
    data source and ground truth, which every reward manager of verl asks for."""
    model, reward = config.reward.reward_model, config.reward
    own = reward.reward_manager.source != "register"
    if own or not model.enable or model.enable_resource_pool or not reward.custom_reward_function.path:
        return []
    why = "false: verl's V1 trainers call a reward function without data source and ground truth there, and fail (plain"
    fix = "set it to true, or reward.custom_reward_function.path=null for the model's own score"
    return [ConfigProblem(support.POOL_KEY, f"{why} verl, too): {fix}")]


def _group(config: DictConfig) -> list[ConfigProblem]:
    found = []
    group = config.actor_rollout_ref.rollout.n
    if not isinstance(group, int) or group < 1:
        found.append(ConfigProblem("actor_rollout_ref.rollout.n", f"is {group}: set the group size G, 1 or more"))
    return found


def _loss(config: DictConfig) -> list[ConfigProblem]:
    """What would rescale the weights that `fst_grpo` carries in its advantages."""
    if config.algorithm.adv_estimator != ESTIMATOR:
        return []
    found, mode = [], config.actor_rollout_ref.actor.loss_agg_mode
    if mode != "token-mean":
        message = f"{mode}: fst_grpo averages per problem by itself; set it to token-mean"
        found.append(ConfigProblem("actor_rollout_ref.actor.loss_agg_mode", message))
    correction = config.algorithm.get("rollout_correction") or {}
    if correction.get("bypass_mode") and correction.get("rollout_rs"):
        message = "takes tokens away after fst_grpo has counted them: set bypass_mode=false, or use grpo"
        found.append(ConfigProblem("algorithm.rollout_correction.rollout_rs", message))
    return found


def _drift(fst: FSTConfig, config: DictConfig) -> list[ConfigProblem]:
    found = []
    if fst.drift and not needs_reference_policy(config):
        found.append(
            ConfigProblem(
                "fst.drift",
                "needs verl's reference policy: set actor_rollout_ref.actor.use_kl_loss=true, with"
                " kl_loss_coef=0 to measure alone",
            )
        )
    return found


def _hybrid(fst: FSTConfig, config: DictConfig) -> list[ConfigProblem]:
    if fst.fast.when != "hybrid":
        return []
    found, model = [], config.reward.reward_model
    if model.enable and not model.enable_resource_pool:
        message = "a reward model that takes the servers' place cannot score what runs beside a step: set it to true,"
        found.append(ConfigProblem("reward.reward_model.enable_resource_pool", f"{message} or fst.fast.when=before"))
    mode = modes.mode_of(config)
    ahead = OmegaConf.select(config, f"trainer.v1.{mode}.num_warmup_batches") or 0
    least = core.least_steps(every=2) + math.ceil(ahead)
    if mode not in (None, "sync") and fst.slow_steps < least:
        message = f"is {fst.slow_steps}, and where verl rolls out ahead ({mode}) fst.fast.when=hybrid needs {least}"
        found.append(ConfigProblem("fst.slow_steps", f"{message} steps or more: raise it, or set when=before"))
    return found


def needs_reference_policy(config: DictConfig) -> bool:
    """verl's `need_reference_policy`, without importing torch for it; a test compares."""
    keys = ("algorithm.use_kl_in_reward", "actor_rollout_ref.actor.use_kl_loss")
    return any(OmegaConf.select(config, key) for key in keys)


__all__ = [
    "compose",
    "engine_width",
    "environment",
    "fst_config",
    "needs_reference_policy",
    "node",
    "problems",
    "prompt_cap",
    "rollout_setup",
]
