"""The contract of a reflection, and how a rollout is shown to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..prompts import Prompt
from ..rewards import RewardBar
from ..rollouts import Problem, Rollout, content_text
from .text import shorten

RECORD_CHARS = 4000
"""Most characters shown of one field of a record (ours): an episode can be long, a reflection's window is not."""


@dataclass(frozen=True)
class ReflectionRequest:
    """Asks for one new prompt.

    parent: the prompt to improve.
    records: how it went, failures first; never a rollout that has `error` set.
    slot: 0-based number of this request within its batch.
    seed: differs from batch to batch; with slot the only source of randomness.
    max_chars: longest prompt that is of use.
    bar: which of the rollouts are solved.
    """

    parent: Prompt
    records: tuple[tuple[Problem, Rollout], ...]
    slot: int
    seed: int
    max_chars: int
    bar: RewardBar = RewardBar()


class Reflection(Protocol):
    """Proposes prompts. A user's own:

    class AskMe:
        def propose(self, requests):
            return [input(f"better than {r.parent.text!r}? ") or None for r in requests]

        def describe(self):
            return "asks the person at the keyboard"
    """

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        """One new prompt text per request, in order; None if that one failed. Texts are data: the caller cleans
        them, and skips what is empty, too long or known already."""
        ...

    def describe(self) -> str:
        """One line that says what it is."""
        ...


def render_record(problem: Problem, rollout: Rollout) -> dict[str, str]:
    """A record as texts: Inputs (the problem's chat, without its system message), Generated Outputs, Feedback.

    The problem's reference answer is not in it: feedback carries it where it may be seen.
    """
    asked = [m for m in problem.messages if m.get("role") != "system"]
    chat = "\n".join(f"{m.get('role', '')}: {content_text(m.get('content'))}" for m in asked)
    return {
        "Inputs": shorten(chat, RECORD_CHARS),
        "Generated Outputs": shorten(rollout.response, RECORD_CHARS),
        "Feedback": shorten(f"score {rollout.score:g}. {rollout.feedback}".strip(), RECORD_CHARS),
    }


__all__ = ["RECORD_CHARS", "Reflection", "ReflectionRequest", "render_record"]
