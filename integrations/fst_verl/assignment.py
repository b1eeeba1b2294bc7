"""`assign` as plain functions: what a row carries, and which messages one of its sessions sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fst_plugin import context
from fst_plugin.imports import load

COLUMN = "fst"
"""Name of the column that the trainer adds to every row; rows of a run without fast weights have none."""
CONTEXT_LOOP, REFLECT_LOOP = "fst_context", "fst_reflect"
"""Our agent loops: the one that assigns a prompt and delegates, and the one in which the policy writes prompts."""


@dataclass(frozen=True)
class RowColumn:
    """The `fst` column of one row. It travels as plain data (`to_row`), so that any worker can read it.

    inner: agent loop to delegate to.
    prompts: texts, best first.
    provider: `fst.context` as a dict.
    split: "train", "anchor" (fast phase) or "val".
    step: the trainer's global step.
    problem: id of the row's problem; made once by the trainer.
    offset: added to the session index; see `FastWeights.deal`.
    sampling: "row": as verl gives it to the row; "training": at the training's temperature, also in verl's "val"
        partition.
    on_error: "raise": a session that fails, fails as verl has it; "record": it becomes an output that names its error.
    """

    inner: str
    prompts: Sequence[str]
    provider: Mapping[str, Any]
    split: str
    step: int
    problem: str
    offset: int = 0
    sampling: Literal["row", "training"] = "row"
    on_error: Literal["raise", "record"] = "raise"

    def to_row(self) -> dict[str, Any]:
        return {**asdict(self), "prompts": list(self.prompts), "provider": dict(self.provider)}

    def assign(self, messages: Sequence[Any], session: int) -> context.Assignment:
        """Messages and prompt digest of one session of the row."""
        request = context.Request(
            problem_id=self.problem,
            session=session + self.offset,
            step=self.step,
            split=self.split,
            messages=messages,
        )
        return self._provider().assign(request)

    def _provider(self) -> context.ContextProvider:
        spec = self.provider
        cls = load(spec["path"], "fst.context.path") if spec["path"] else context.SHIPPED[spec["name"]]
        return cls(self.prompts, spec["placement"], **spec["kwargs"])


def training_sampling(sampling_params: Mapping[str, Any], rollout: Any) -> dict[str, Any]:
    """Sampling parameters of training rollouts; verl gives rows of its "val" partition the validation's."""
    return {**sampling_params, "temperature": rollout.temperature, "top_p": rollout.top_p, "top_k": rollout.top_k}
