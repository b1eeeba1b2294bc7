"""`assign`, inside verl's rollouts: an agent loop that picks the prompt, rewrites the messages and delegates.

The trainer gives every row a column `fst` (see `assignment.RowColumn`); the loop that the row or the config names
does the rollout itself. Rows of a run without fast weights have no such column and never come here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import hydra

from fst_plugin.secrets import described

from . import prompt_store
from .assignment import CONTEXT_LOOP, REFLECT_LOOP, RowColumn, context_of, training_sampling
from .batches import COLUMN
from .compat import LOOP_METHODS, names

_Base: Any = names.AgentLoopBase
_Output: Any = names.AgentLoopOutput
ONE_ANSWER = 2
"""verl's `num_turns` of a question with one answer."""


@names.register_agent_loop(CONTEXT_LOOP)
class ContextLoop(_Base):
    """Runs one session under its prompt and records whose it was in `extra_fields["fst"]`."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._arguments = kwargs  # for the loop that does the rollout; the base's own set-up would be paid for twice

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        spec = context_of(self._arguments["trainer_config"].config)
        column = RowColumn(**row.pop(COLUMN))
        if column.on_error == "raise":
            return await self._roll(column, spec, sampling_params, row)
        try:
            return await self._roll(column, spec, sampling_params, row)
        except Exception as error:  # the fast phase tells it apart from a reward of 0, and names it
            return self._failed(described(error))

    async def _roll(self, column: RowColumn, spec: dict[str, Any], sampling_params: dict[str, Any], row: Any) -> Any:
        texts = await prompt_store.texts_of(column.prompts)
        assignment = column.assign(list(row["raw_prompt"]), int(row.get("session_id", 0)), spec, texts)
        inner = make_loop(column.inner, self._arguments)
        refuse_to_cut(inner)
        if column.sampling == "training":
            sampling_params = training_sampling(sampling_params, inner.rollout_config)
        output = await inner.run(sampling_params, **{**row, "raw_prompt": assignment.messages})
        mark = {"digest": assignment.digest, "rank": assignment.rank, "problem": column.problem}
        if isinstance(output, list):
            return [marked(part, mark) for part in output]
        return marked(output, mark)

    def _failed(self, error: str) -> Any:
        """An output that says what failed, in place of an answer; it has the fields that its batch's others have."""
        pad = self._arguments["tokenizer"].pad_token_id or 0
        log_probs = self._arguments["trainer_config"].config.actor_rollout_ref.rollout.get("calculate_log_probs")
        output = names.AgentLoopOutput(
            prompt_ids=[pad],
            response_ids=[pad],
            response_mask=[0],
            response_logprobs=[0.0] if log_probs else None,
            reward_score=0.0,
            num_turns=0,
            metrics={},
        )
        output.extra_fields = {"fst": {"error": error}, "reward_extra_info": {}}
        return output


class Marked(_Output):
    """An output whose mark also has its reward, once verl has scored it: the trainer need not read one value a token
    for it."""

    def as_dict(self) -> dict[str, Any]:
        """As verl puts it into the queue."""
        found = super().as_dict()
        if "rm_scores" in found:
            found["extra_fields"]["fst"]["score"] = float(found["rm_scores"].sum())
        return found


def marked(output: Any, mark: dict[str, Any]) -> Any:
    """The output with its mark. One of a class of its own stays as it is but for that, and its mark has no reward."""
    output.extra_fields["fst"] = dict(mark)
    if (output.num_turns or 0) > ONE_ANSWER:
        output.extra_fields["fst"]["episode"] = True
    if type(output) is not _Output:
        return output
    return Marked.model_construct(output.model_fields_set | {"extra_fields"}, **dict(output))


def make_loop(name: str, arguments: dict[str, Any]) -> Any:
    """A registered agent loop, as verl makes it. hydra's `instantiate` takes milliseconds of the rollout worker's time
    per rollout; a loop registered by its class and plain values is made without it."""
    spec = dict(names.agent_loop_registry[name])
    target = spec.pop("_target_")
    if all(not key.startswith("_") and isinstance(value, _PLAIN) for key, value in spec.items()):
        return _target(target)(**{**spec, **arguments})
    return hydra.utils.instantiate(names.agent_loop_registry[name], **arguments)


_PLAIN = (str, int, float, bool, type(None))
_target = lru_cache(hydra.utils.get_object)


def refuse_to_cut(loop: Any) -> None:
    """verl cuts an overlong prompt from the left, system message first, with only a warning. With this the loop raises
    ValueError there, whatever it renders the chat with."""
    limit = int(loop.rollout_config.prompt_length)

    def refuse(prompt_ids: list[int]) -> list[int]:
        if len(prompt_ids) > limit:
            raise ValueError(
                f"a problem of {len(prompt_ids)} tokens with its evolved prompt does not fit rollout.prompt_length="
                f"{limit}: lower fst.max_prompt_tokens, raise data.max_prompt_length or set"
                " data.filter_overlong_prompts=true"
            )
        return prompt_ids

    setattr(loop, LOOP_METHODS["cap_prompt"][0], refuse)


@names.register_agent_loop(REFLECT_LOOP)
class ReflectLoop(_Base):
    """Lets the policy write new prompts: one plain chat turn, no reward."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._arguments = kwargs

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        context_of(self._arguments["trainer_config"].config)
        row.pop(COLUMN, None)
        inner = make_loop("single_turn_agent", self._arguments)
        output = await inner.run(training_sampling(sampling_params, inner.rollout_config), **row)
        output.reward_score = 0.0  # set, so that verl does not score it
        output.extra_fields["reward_extra_info"] = {}
        return output
