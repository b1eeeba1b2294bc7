"""`assign` as plain functions: what a row carries, and which messages one of its sessions sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from fst_plugin import context
from fst_plugin.adapter import provider
from fst_plugin.config import ContextConfig

from . import batches
from .episodes import EPISODE_LOOP
from .episodes.playable import plain, playable

CONTEXT_LOOP, REFLECT_LOOP = "fst_context", "fst_reflect"
"""Our agent loops: the one that assigns a prompt and delegates, and the one in which the policy writes prompts."""


@dataclass(frozen=True)
class RowColumn:
    """The `fst` column of one row. It travels as plain data (`to_row`), so that any worker can read it, and it names
    nothing that could be imported: which provider assigns is the config's to say.

    inner: agent loop to delegate to.
    prompts: digest of the prompts' texts (see `prompt_store`), which the row does not carry; "": the messages stay as
        they are.
    split: "train", "anchor" (fast phase) or "val".
    step: the trainer's global step.
    problem: id of the row's problem; made once by the trainer.
    offset: added to the session index; see `FastWeights.deal`.
    sampling: "row": as verl gives it to the row; "training": at the training's temperature, also in verl's "val"
        partition.
    on_error: "raise": a session that fails, fails as verl has it; "record": it becomes an output that names its error.
    """

    inner: str
    prompts: str
    split: str
    step: int
    problem: str
    offset: int = 0
    sampling: Literal["row", "training"] = "row"
    on_error: Literal["raise", "record"] = "raise"

    def to_row(self) -> dict[str, Any]:
        """As the row carries it: without what stands at its default, since every trajectory carries it, too."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def assign(
        self, messages: Sequence[Any], session: int, spec: Mapping[str, Any], texts: Sequence[str]
    ) -> context.Assignment:
        """Messages and prompt digest of one session of the row.

        spec: `fst.context` as a dict.
        texts: those that `prompts` names, best first.
        """
        request = context.Request(
            problem_id=self.problem,
            session=session + self.offset,
            step=self.step,
            split=self.split,
            messages=messages,
        )
        return provider(ContextConfig.model_validate(spec), texts).assign(request)


def inner_loops(named: Sequence[str] | None, infos: Sequence[Any] | None, size: int, config: Any) -> list[str]:
    """The agent loop that does the rollout of each row: the one that it names, else the config's.

    named, infos: the rows' columns `agent_name` and `extra_info`; None: they have none.
    size: how many rows there are.
    Raises ValueError for a loop that is ours to give, and for an episode that the config does not ask for.
    """
    loops = [config.actor_rollout_ref.rollout.agent.default_agent_loop] * size if named is None else list(named)
    if ours := {CONTEXT_LOOP, REFLECT_LOOP} & set(loops):
        raise ValueError(f"rows of the data name agent loop {ours.pop()}: it is ours to give, take it out")
    find = playable(plain(config.data.get("env")))
    for loop, info in zip(loops, [None] * size if infos is None else infos, strict=True):
        if loop == EPISODE_LOOP:
            find(info)
    return loops


def loops_of_batch(batch: Any, config: Any) -> list[str]:
    """`inner_loops` of a batch's rows."""
    return inner_loops(batches.column(batch, "agent_name"), batches.column(batch, "extra_info"), len(batch), config)


def context_of(config: Any) -> dict[str, Any]:
    """`fst.context` of the run that a rollout worker belongs to, as plain data.

    Raises ValueError if the run has no fast weights: then no row may ask for our agent loops.
    """
    from omegaconf import OmegaConf

    fst = config.get("fst")
    if not fst or not (fst.get("enabled", True) or fst.get("drift")):
        raise ValueError(
            f"a row of the data names the agent loop {CONTEXT_LOOP} or {REFLECT_LOOP}, and this run has no fast"
            " weights: take agent_name out of the data, or add +fst=default"
        )
    return OmegaConf.to_container(fst.context, resolve=True)  # type: ignore[return-value]


def training_sampling(sampling_params: Mapping[str, Any], rollout: Any) -> dict[str, Any]:
    """Sampling parameters of training rollouts; verl gives rows of its "val" partition the validation's."""
    return {**sampling_params, "temperature": rollout.temperature, "top_p": rollout.top_p, "top_k": rollout.top_k}
