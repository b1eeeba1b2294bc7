"""The contract of a reflection, and how a rollout is shown to one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..prompts import Prompt
from ..rewards import RewardBar
from ..rollouts import Message, Problem, Rollout, content_text
from ..secrets import described
from .text import shorten

RECORD_CHARS = 4000
"""Most characters shown of one field of a record (ours): an episode can be long, a reflection's window is not."""


_ASK = """An assistant works under these instructions:
<prompt>
{parent}
</prompt>
{mate}
This is how it went on some tasks:
{records}

Write better instructions for the assistant. Keep what works. State every rule and fact that the feedback gives away: \
the assistant will not see the feedback. Do not solve the tasks themselves. At most {max_chars} characters. Answer \
with the new instructions only, between <prompt> and </prompt>."""
_MATE = """
On some of the tasks it worked under these instead:
<prompt>
{mate}
</prompt>

Make one of the two.
"""


@dataclass(frozen=True)
class ReflectionRequest:
    """Asks for one new prompt.

    parent: the prompt to improve.
    records: how it went, failures first; never a rollout that has `error` set.
    slot: 0-based number of this request within its batch.
    seed: differs from batch to batch; with slot the only source of randomness.
    max_chars: longest prompt that is of use.
    bar: which of the rollouts are solved.
    cycle: 0-based number of the fast phase.
    mate: a second prompt, to make one of both (`fst.fast.crossover`); half of the records are then how it went under
        that one.
    """

    parent: Prompt
    records: tuple[tuple[Problem, Rollout], ...]
    slot: int
    seed: int
    max_chars: int
    bar: RewardBar = RewardBar()
    cycle: int = 0
    mate: Prompt | None = None


class ReflectionFailed(RuntimeError):
    """The reflection does not answer; carries its own last words."""


@dataclass
class Trouble:
    """What went wrong in a batch of reflections.

    count: by kind: "failures" (no answer), "unusable" (an answer without a prompt), "cut" (one that breaks off),
        "large" (one too long to be read), "timeouts" (attempts without an answer in time).
    last: the last words on each kind, safe to log.
    """

    count: Counter[str] = field(default_factory=Counter)
    last: dict[str, str] = field(default_factory=dict)

    def note(self, kind: str, why: BaseException | str, times: int = 1) -> None:
        self.count[kind] += times
        self.last[kind] = described(why)

    def add(self, other: Trouble) -> None:
        self.count += other.count
        self.last |= other.last

    def to_json(self) -> dict[str, tuple[int, str]]:
        return {kind: (count, self.last.get(kind, "")) for kind, count in self.count.items() if count}

    @classmethod
    def from_json(cls, data: Mapping[str, tuple[int, str]]) -> Trouble:
        """Inverse of `to_json`."""
        return cls(Counter({k: n for k, (n, _) in data.items()}), {k: said for k, (_, said) in data.items() if said})


class Reflection(Protocol):
    """Proposes prompts. A user's own:

    class AskMe:
        def propose(self, requests):
            return [input(f"better than {r.parent.text!r}? ") for r in requests]

        def describe(self):
            return "asks the person at the keyboard"

    Two more attributes are used if they are there: `trouble` (a `Trouble`) says what went wrong in the last batch, and
    `ping()` is called before a run spends anything, to raise if the reflection cannot work.
    """

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        """One new prompt text per request, in order; None if that one failed, "" if its answer held no prompt. Texts
        are data: the caller cleans them, and skips what is empty, too long or known already."""
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


def ask(request: ReflectionRequest) -> list[Message]:
    """The chat that asks for one new prompt: one user message, so that every chat template can render it."""
    shown = "\n\n".join(
        f"Task {i}:\n{r['Inputs']}\nAnswer:\n{r['Generated Outputs']}\nFeedback:\n{r['Feedback']}"
        for i, r in enumerate((render_record(*record) for record in request.records), 1)
    )
    mate = _MATE.format(mate=request.mate.text) if request.mate else ""
    text = _ASK.format(parent=request.parent.text, mate=mate, records=shown, max_chars=request.max_chars)
    return [{"role": "user", "content": text}]


__all__ = ["RECORD_CHARS", "Reflection", "ReflectionFailed", "ReflectionRequest", "Trouble", "ask", "render_record"]
