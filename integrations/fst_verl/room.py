"""Room for an evolved prompt in verl's lengths: added on top, so that no row of the data is lost to it.

`data.max_prompt_length` stays as the user set it, and with it what verl's overlong filter keeps: plain RL and fast
weights train and validate on the same rows. What grows is the rollout's own prompt length.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

ROLLOUT = "actor_rollout_ref.rollout"
TEACHERS = "distillation.teacher_models"
PACKED = (
    # tokens of a micro-batch with dynamic batch sizes: the longest sequence must fit
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu",
    f"{ROLLOUT}.log_prob_max_token_len_per_gpu",
    "critic.ppo_max_token_len_per_gpu",
    "critic.forward_max_token_len_per_gpu",
)


def prompt_length(config: DictConfig) -> int:
    """The longest prompt of a rollout, in tokens, as the config has it."""
    return int(OmegaConf.select(config, f"{ROLLOUT}.prompt_length") or config.data.max_prompt_length)


def lengths(config: DictConfig, cap: int, context: int | None = None) -> dict[str, int]:
    """Config key -> its new value, for every length that is too short for a row with an evolved prompt.

    cap: longest evolved prompt, in tokens.
    context: longest sequence that the model takes; None: not known. Room ends where it does.
    """
    response = int(config.data.max_response_length)
    wanted = max(prompt_length(config), int(config.data.max_prompt_length) + cap)
    if context:
        wanted = max(prompt_length(config), min(wanted, context - response))
    needed = {f"{ROLLOUT}.prompt_length": wanted, f"{ROLLOUT}.max_model_len": wanted + response}
    if context and needed[f"{ROLLOUT}.max_model_len"] > context:
        del needed[f"{ROLLOUT}.max_model_len"]
    needed |= dict.fromkeys(PACKED, wanted + response)
    for teacher in _teachers(config):
        needed |= {f"{teacher}.prompt_length": wanted, f"{teacher}.max_model_len": wanted + response + 1}
    found: dict[str, int] = {}
    for key, least in needed.items():
        value: Any = OmegaConf.select(config, key)
        if value is not None and int(value) < least:
            found[key] = least
    return found


def _teachers(config: DictConfig) -> list[str]:
    """Keys of the servers that score rollouts for on-policy distillation: a teacher reads a whole rollout, with the
    prompt that it ran under, and verl has it generate one token."""
    if not OmegaConf.select(config, "distillation.enabled"):
        return []
    return [f"{TEACHERS}.{name}.inference" for name in config.distillation.teacher_models]


def make(config: DictConfig, cap: int, context: int | None = None) -> list[str]:
    """Sets these lengths. Returns one line for people, if there was anything to set."""
    changed = lengths(config, cap, context)
    before = {key: OmegaConf.select(config, key) for key in changed}
    with open_dict(config):
        for key, value in changed.items():
            OmegaConf.update(config, key, value)
    said = ", ".join(f"{key} {before[key]} -> {value}" for key, value in changed.items())
    lines = [f"room for evolved prompts of {cap} tokens: {said}"] if said else []
    missing = int(config.data.max_prompt_length) + cap - prompt_length(config)
    if missing > 0:
        lines.append(
            f"the model's context of {context} tokens has no room for the last {missing} of them: a row that is longer"
            f" with its prompt than {prompt_length(config)} tokens fails; lower fst.max_prompt_tokens or"
            " data.max_prompt_length"
        )
    return lines
