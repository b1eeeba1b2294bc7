"""A reflection without a language model: prompts composed from the feedback of failures, sentence by sentence.

For demos, tests and machines that reach no model. It adds the distinct feedback sentences of the failures under the
parent's text, one a line; a newer sentence takes the place of the one it contradicts; when the room is used up, lines
that the present feedback does not repeat make way, oldest first. It invents nothing: what the environment does not say,
it cannot propose, and what was made from the reward is not taken for said. Deterministic in (request.seed,
request.slot).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..rollouts import Problem, content_text
from .base import ReflectionRequest
from .text import split_sentences

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")  # scripts without spaces: a word per character


@dataclass(frozen=True)
class _Said:
    """One feedback sentence, and the text of the problem that it was said of."""

    sentence: str
    about: str


class OfflineReflection:
    """Composes prompts from feedback sentences.

    max_new: most sentences added to one prompt at a time (8, ours).
    min_words: shorter sentences, such as "Wrong.", are not rules (3, ours).
    max_sentence: longer ones, in characters, are left out (300, ours).
    """

    def __init__(
        self,
        max_new: int = 8,
        min_words: int = 3,
        max_sentence: int = 300,
    ):
        self.max_new = max_new
        self.min_words = min_words
        self.max_sentence = max_sentence

    def propose(self, requests: Sequence[ReflectionRequest]) -> list[str | None]:
        """The parent's own text if the feedback says nothing that it does not, or nothing fits."""
        return [self._compose(request) for request in requests]

    def describe(self) -> str:
        return "offline: composes prompts from feedback sentences, no LM"

    def _compose(self, request: ReflectionRequest) -> str:
        rng = random.Random(f"{request.seed}-{request.slot}")
        said = self._said(request)
        lines = request.parent.text.splitlines()
        lines += [line for line in (request.mate.text.splitlines() if request.mate else ()) if line not in lines]
        known = {s for line in lines for s in split_sentences(line)}
        new = _slice([s for s in said if s.sentence not in known], self.max_new, rng)
        for one in new:
            _take_in(lines, one)
        confirmed = {s.sentence for s in said}
        _make_room(lines, confirmed, request.max_chars, rng if request.slot % 2 else None)
        text = "\n".join(lines).strip()
        return text if text and len(text) <= request.max_chars else request.parent.text

    def _said(self, request: ReflectionRequest) -> list[_Said]:
        """Distinct sentences of the failures' own feedback, in the order of the records."""
        said: dict[str, _Said] = {}
        for problem, rollout in request.records:
            if rollout.error is not None or rollout.feedback_made or request.bar.solved(rollout.score):
                continue
            for sentence in split_sentences(rollout.feedback):
                if len(_WORD.findall(sentence)) >= self.min_words and len(sentence) <= self.max_sentence:
                    said.setdefault(sentence, _Said(sentence, _chat(problem)))
        return list(said.values())


def contradicts(new: str, old: str, about: str) -> bool:
    """Does sentence `new`, said of a problem whose text is `about`, contradict sentence `old`?

    Generic rule (ours): the two are of equal length, at least three words, and differ in exactly one. Of two such rules
    about different subjects ("Send goat north.", "Send duck north.") the differing word is what the problem speaks of;
    of two rules about one subject ("Send goat north.", "Send goat south.") it is not. Without a problem text, the
    differing word must stand in the second half.
    """
    words, olds = _WORD.findall(new), _WORD.findall(old)
    if len(words) != len(olds) or len(words) < 3:
        return False
    at = [i for i, (a, b) in enumerate(zip(words, olds, strict=True)) if a != b]
    if len(at) != 1:
        return False
    word = words[at[0]].casefold()
    mentioned = {w.casefold() for w in _WORD.findall(about)}
    if mentioned:
        return not any(word == m or (len(word) > 3 and m.startswith(word)) for m in mentioned)
    return at[0] >= len(words) / 2


def _chat(problem: Problem) -> str:
    return " ".join(content_text(m.get("content")) for m in problem.messages if m.get("role") != "system")


def _slice(new: list[_Said], most: int, rng: random.Random) -> list[_Said]:
    """At most `most`: always the first (what the prompt will be tested on), and a random part of the others."""
    if len(new) <= most:
        return new
    kept = {0, *rng.sample(range(1, len(new)), most - 1)} if most > 0 else set()
    return [new[i] for i in sorted(kept)]


def _take_in(lines: list[str], one: _Said) -> None:
    for line in [old for old in lines if contradicts(one.sentence, old, one.about)]:
        lines.remove(line)
    lines.append(one.sentence)


def _make_room(lines: list[str], confirmed: set[str], max_chars: int, rng: random.Random | None) -> None:
    """Drops lines until the text fits: first those that the present feedback does not repeat (the oldest, or with
    `rng` any of them, so that two prompts keep different ones), then the newest. The first line, the prompt's opening,
    stays."""
    while len("\n".join(lines)) > max_chars and len(lines) > 1:
        stale = [i for i in range(1, len(lines)) if lines[i] not in confirmed]
        if not stale:
            lines.pop()
        else:
            del lines[rng.choice(stale) if rng else stale[0]]


__all__ = ["OfflineReflection", "contradicts"]
