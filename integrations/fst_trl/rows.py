"""Rows of a TRL dataset, and what became of them, as the method's problems and rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fst_plugin.rollouts import Problem, Rollout, content_text, feedback_text, problem_id, scored

ANSWERS = ("ground_truth", "solution", "answer")
"""Columns that hold the reference answer, the first of them that a dataset has (ours)."""


@dataclass(frozen=True)
class RowProblem(Problem):
    """A problem that knows its row: `place` in train_dataset, None for one that is not rolled out by a fast phase."""

    place: int | None = field(default=None, compare=False)


def problem(row: Mapping[str, Any], place: int | None = None) -> RowProblem:
    """A row as a problem. Its answer is private if the row, or its `extra_info`, says `private_answer`; its task
    is the row's `data_source`, if there is one."""
    answer = next((row[name] for name in ANSWERS if name in row), None)
    messages = tuple(dict(message) for message in row["prompt"])
    private = row.get("private_answer") or (row.get("extra_info") or {}).get("private_answer")
    task = str(row.get("data_source") or "")
    return RowProblem(problem_id(messages, answer), messages, answer, bool(private), task, place)


def chats(data: Any) -> Iterable[Any]:
    """The prompt of every row of a dataset; the column where it has one, which reads nothing else."""
    if "prompt" in (getattr(data, "column_names", None) or ()):
        return data["prompt"]
    return (data[i]["prompt"] for i in range(len(data)))


def text(completion: Any) -> str:
    """A completion as text; of several messages, the contents in order."""
    return completion if isinstance(completion, str) else "\n".join(content_text(m.get("content")) for m in completion)


def rollouts(
    scores: Sequence[float],
    completions: Sequence[Any],
    said: Sequence[Any],
    tokens: Sequence[int | None],
    references: Sequence[Any],
) -> list[Rollout]:
    """Completions as Rollouts.

    scores: weighted sums of their rewards; NaN for one that no reward function could score.
    said: the feedback of one reward function after the other, each on all completions; none: it is made from the score.
    tokens: how many the model generated.
    references: answers that made feedback may quote; None: none.
    Raises ValueError if feedback was given on some completions only.
    """
    size = len(completions)
    if len(said) % size:
        raise ValueError(f"log_extra('feedback', ...): {len(said)} texts for {size} completions; give one for each")
    feedback = [" ".join(filter(None, map(feedback_text, said[i::size]))) for i in range(size)]
    episodes = [not isinstance(one, str) and len(one) > 1 for one in completions]
    each = zip(scores, map(text, completions), feedback, references, tokens, episodes, strict=True)
    return [
        scored(score, one, heard, reference=answer, tokens=count, episode=episode)
        for score, one, heard, answer, count, episode in each
    ]
