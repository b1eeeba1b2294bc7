"""What unset keys of the fst config come to in this run, in words."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fst_plugin.config import TASK_AGNOSTIC_SEED, FSTConfig

from . import inputs
from .check import engine_width, prompt_cap


def unset_keys(fst: FSTConfig, config: DictConfig) -> dict[str, str]:
    """Key -> what it comes to, for every key that is null and has a default which depends on the run."""
    distinct = int(config.data.get("train_batch_size") or 0) * fst.slow_steps
    anchors = min(fst.fast.anchors or distinct, distinct)
    budget = math.ceil(fst.fast.passes * anchors)
    frontier = fst.fast.parents == "frontier"
    rounds = fst.fast.generations
    found: dict[str, tuple[Any, str]] = {
        "fst.seed_prompt": (fst.seed_prompt, _seed(config)),
        "fst.max_prompt_tokens": (fst.max_prompt_tokens, f"{prompt_cap(fst, config)} tokens"),
        "fst.fast.anchors": (
            fst.fast.anchors,
            f"at most {distinct} problems (data.train_batch_size x fst.slow_steps)",
        ),
        "fst.fast.budget": (fst.fast.budget, f"at most {budget} rollouts a fast phase (fst.fast.passes x anchors)"),
        "fst.fast.rounds": (fst.fast.rounds, f"{rounds} generations of new prompts"),
    }
    if frontier:
        children, width = -(-2 * fst.fast.new_candidates // rounds), engine_width(config)
        found["fst.fast.proposals"] = (fst.fast.proposals, f"{children} prompts at a time")
        found["fst.fast.width"] = (fst.fast.width, f"{width} rollouts at a time (max_num_seqs x replicas)")
    return {key: words for key, (value, words) in found.items() if value is None}


def _seed(config: DictConfig) -> str:
    if text := OmegaConf.select(config, "data.env.system_prompt"):
        return f"data.env.system_prompt: {text!r}"
    messages = [""] if config.data.get("env") else inputs.system_messages(config)
    if not messages:
        return "the data's one system message, else the default text"
    if len(found := set(messages)) > 1:
        return f"{len(found)} different system messages among the first {len(messages)} rows"
    text = found.pop()
    return f"the data's system message: {text!r}" if text else f"the default text: {TASK_AGNOSTIC_SEED!r}"
