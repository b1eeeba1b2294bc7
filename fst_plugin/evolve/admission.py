"""What of an optimizer's outcome is let in, whoever wrote the optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from ..optimizer import Evolution
from ..policy import Policy
from ..prompts import Population, Prompt, text_digest
from ..reflection.text import without_hidden

_SURROGATES = re.compile("[\ud800-\udfff]")


def without_surrogates(prompt: Prompt) -> tuple[Prompt, int]:
    """The prompt with U+FFFD for every lone surrogate, which UTF-8 has no bytes for, and how many there were. All else
    of a user's own prompt stays byte for byte."""
    text, count = _SURROGATES.subn("\ufffd", prompt.text)
    return (replace(prompt, text=text) if count else prompt), count


def readable(evolution: Evolution, old: Population) -> Evolution:
    """The outcome with no hidden characters in its new prompts (`without_hidden`), counted in its metric
    `hidden_characters` and told in a warning. Prompts of the old population stay as they are."""
    known = {prompt.text for prompt in old.prompts}
    texts: dict[str, str] = {}
    dropped = 0
    for prompt in (*evolution.population.prompts, *(c.prompt for c in evolution.candidates)):
        if prompt.text not in texts and prompt.text not in known:
            texts[prompt.text], count = without_hidden(prompt.text)
            dropped += count
    if not dropped:
        return evolution
    digests = {text_digest(before): text_digest(after) for before, after in texts.items()}

    def cleaned(prompt: Prompt) -> Prompt:
        parents = tuple(digests.get(parent, parent) for parent in prompt.parents)
        return replace(prompt, text=texts.get(prompt.text, prompt.text), parents=parents)

    distinct = {p.text: p for p in reversed([cleaned(p) for p in evolution.population.prompts])}
    metrics = {**evolution.metrics, "hidden_characters": evolution.metrics.get("hidden_characters", 0) + dropped}
    return replace(
        evolution,
        population=Population(tuple(reversed(distinct.values()))),
        metrics=metrics,
        warnings=(*evolution.warnings, f"{dropped} hidden characters were taken out of the optimizer's prompts"),
        candidates=tuple(replace(c, prompt=cleaned(c.prompt)) for c in evolution.candidates),
    )


def admit(population: Population, old: Population, policy: Policy, most: int, log: Callable[[str], None]) -> Population:
    """The first `most` prompts, without those that must not be sent, each named to `log`; the old population if none
    remain."""
    kept = []
    for prompt in population.prompts[:most]:
        reason = policy.refuse(prompt.text)
        if reason is None or prompt.text in {p.text for p in old.prompts}:
            kept.append(prompt)
        else:
            log(f"fst: prompt {prompt.digest} refused: {reason}")
    return Population(tuple(kept)) if kept else old


__all__ = ["admit", "readable", "without_surrogates"]
