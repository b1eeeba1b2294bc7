"""`assign`, inside verl's rollouts: an agent loop that picks the prompt, rewrites the messages and delegates.

The trainer gives every row a column `fst` (see `assignment.row_column`); the loop that the row or the config names
does the rollout itself. Rows of a run without fast weights have no such column and never come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hydra

from fst_plugin.context import Assignment

from .assignment import COLUMN, assign, problem_of, training_sampling
from .compat import names

CONTEXT_LOOP = "fst_context"
REFLECT_LOOP = "fst_reflect"

_Base: Any = names.AgentLoopBase


class ContextLoop(_Base):
    """Runs one session under its prompt and records whose it was in `extra_fields["fst"]`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._arguments = kwargs

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        column = row.pop(COLUMN)
        assignment = assign(column, row)
        if column["split"] == "anchor":
            sampling_params = training_sampling(sampling_params, self.rollout_config)
            try:
                return await self._roll(column, assignment, sampling_params, row)
            except Exception as error:  # the fast phase tells it apart from a reward of 0, and names it
                return self._failed(f"{type(error).__name__}: {error}")
        return await self._roll(column, assignment, sampling_params, row)

    async def _roll(self, column: Any, assignment: Assignment, sampling_params: dict[str, Any], row: Any) -> Any:
        inner = hydra.utils.instantiate(names.agent_loop_registry[column["inner"]], **self._arguments)
        output = await inner.run(sampling_params, **{**row, "raw_prompt": assignment.messages})
        for part in output if isinstance(output, list) else [output]:
            self._refuse_truncated(part, assignment.messages)
            part.extra_fields["fst"] = {
                "digest": assignment.digest,
                "rank": assignment.rank,
                "problem": problem_of(row),
            }
        return output

    def _failed(self, error: str) -> Any:
        """An output that says what failed, in place of an answer."""
        pad = self.tokenizer.pad_token_id or 0
        output = names.AgentLoopOutput(
            prompt_ids=[pad], response_ids=[pad], response_mask=[0], reward_score=0.0, num_turns=0, metrics={}
        )
        output.extra_fields = {"fst": {"error": error}, "reward_extra_info": {}}
        return output

    def _refuse_truncated(self, output: Any, messages: Sequence[Any]) -> None:
        """verl cuts an overlong prompt from the left, system message first, with only a warning."""
        limit = self.rollout_config.prompt_length
        if len(output.prompt_ids) < limit or self.processor is not None:
            return
        rendered = self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=True, **self.apply_chat_template_kwargs
        )
        length = len(names.normalize_token_ids(rendered))
        if length > limit:
            raise ValueError(
                f"a problem of {length} tokens with its evolved prompt does not fit data.max_prompt_length={limit}:"
                " lower fst.max_prompt_tokens, raise data.max_prompt_length or set data.filter_overlong_prompts=true"
            )


class ReflectLoop(_Base):
    """Lets the policy write new prompts: one plain chat turn, no reward."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._arguments = kwargs

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        row.pop(COLUMN, None)
        inner = hydra.utils.instantiate(names.agent_loop_registry["single_turn_agent"], **self._arguments)
        output = await inner.run(training_sampling(sampling_params, self.rollout_config), **row)
        output.reward_score = 0.0  # set, so that verl does not score it
        output.extra_fields["reward_extra_info"] = {}
        return output


def register() -> None:
    """Makes both loops known to verl in this process."""
    names.register_agent_loop(CONTEXT_LOOP)(ContextLoop)
    names.register_agent_loop(REFLECT_LOOP)(ReflectLoop)
