"""Rows of verl's batches as the method's problems.

A row's problem id is made once, when the row is fetched, and carried in the column `PROBLEM`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fst_plugin.rollouts import Problem, Rollout, feedback_text, problem_id, scored

from .compat import names

COLUMN = "fst"
"""Name of the column that the trainer adds to every row; rows of a run without fast weights have none."""
PROBLEM = "fst_problem"
"""Column of problem ids in fetched batches."""


def column(batch: Any, name: str) -> list[Any] | None:
    """A column of a TensorDict as a list of plain objects, one a row; None if the batch has none."""
    if name not in batch.keys():
        return None
    stack = batch.get(name)
    if shared(stack):
        return [stack.data] * len(batch)
    if hasattr(stack, "stack_dim"):  # one wrapped object a row
        return [item.data for item in stack]
    return list(stack)  # a plain tensor


def shared(stack: Any) -> bool:
    """Is this column of a TensorDict one object for all rows? To iterate over such a column never ends."""
    return hasattr(stack, "batch_size") and not hasattr(stack, "stack_dim")


ROW = ("raw_prompt", "reward_model", "data_source", "extra_info", "tools_kwargs", "interaction_kwargs")
"""Columns of verl's rows that make a problem what it is."""


def row_id(row: Mapping[str, Any]) -> str:
    """Problem id of one row; rows with the same content have the same id, wherever in the data they stand."""
    info = row.get("extra_info")
    if isinstance(info, Mapping):
        info = {key: value for key, value in info.items() if key not in ("index", "split")} or None
    source, tools, talk = (row.get(name) or None for name in ("data_source", "tools_kwargs", "interaction_kwargs"))
    answer = _answer(row.get("reward_model"))
    return problem_id(list(row["raw_prompt"]), answer, source=source, info=info, tools=tools, talk=talk)


def identified(batch: Any) -> Any:
    """The same batch, with the problem id of every row in the column `PROBLEM`."""
    names.tensordict_utils.assign_non_tensor_stack(batch, PROBLEM, problem_ids(batch))
    return batch


def problem_ids(batch: Any) -> list[str]:
    """One id a row, in order: those that it carries, else made."""
    carried = column(batch, PROBLEM)
    if carried is not None:
        return [str(one) for one in carried]
    columns = {name: values for name in ROW if (values := column(batch, name)) is not None}
    return [row_id(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def problems(batch: Any) -> list[Problem]:
    """One Problem a row, in order. An answer is private if the row's extra_info says `private_answer`; its task is the
    row's data source."""
    size = len(batch)
    chats, ids = column(batch, "raw_prompt") or [], problem_ids(batch)
    models, infos, sources = (
        column(batch, name) or [None] * size for name in ("reward_model", "extra_info", "data_source")
    )
    return [
        Problem(
            one,
            tuple(copy.deepcopy([dict(m) for m in chat])),
            _answer(model),
            bool(info.get("private_answer")) if isinstance(info, dict) else False,
            str(source or ""),
        )
        for one, chat, model, info, source in zip(ids, chats, models, infos, sources, strict=True)
    ]


def _answer(reward_model: Any) -> Any:
    return reward_model.get("ground_truth") if isinstance(reward_model, Mapping) else None


def rollout(
    score: float, text: str | None, extra: Mapping[str, Any], reference: Any = None, tokens: int | None = None
) -> Rollout:
    """One finished trajectory as a Rollout.

    text: the response; None if it was not read.
    extra: its `extra_fields`.
    reference: answer that made feedback may quote, if neither reward function nor environment gave any.
    tokens: how many the model generated.
    """
    mark = extra.get("fst") or {}
    if error := mark.get("error"):
        return Rollout(0.0, error=error)
    told = extra.get("reward_extra_info") or {}
    feedback, made = feedback_text(told.get("feedback")), bool(told.get("feedback_made"))
    episode = bool(mark.get("episode"))
    return scored(score, text, feedback, made=made, reference=reference, tokens=tokens, episode=episode)


def chats(dataset: Any) -> Iterator[Sequence[Any]]:
    """The chat of every row of a verl dataset: of verl's own the column, of another one the rows as it serves them."""
    table, key = getattr(dataset, "dataframe", None), getattr(dataset, "prompt_key", None)
    if table is not None and key in getattr(table, "column_names", ()):
        for row in table.select_columns([key]):
            yield row[key]
    else:
        for place in range(len(dataset)):
            yield dataset[place]["raw_prompt"]
