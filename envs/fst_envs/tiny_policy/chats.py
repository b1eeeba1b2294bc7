"""Synthetic chats for pre-training: a system prompt with fresh rules, and independent requests under it.

Invariant: no rule sentence, request or answer made here ever joins a held-out (word, value) pair; where the policy has
to guess, the target is the uniform distribution over all values, not a sample.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import language as lang


@dataclass(frozen=True)
class Turn:
    """One request and its answer. guess: values the value token is to be drawn from evenly, "" where a rule says it."""

    user: str
    answer: str
    kind: str
    known: bool


@dataclass(frozen=True)
class Chat:
    """A system prompt ("" for none) and requests that do not see each other."""

    system: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Stage:
    """What chats of one stretch of pre-training look like.

    rules: most per-word rules in a system prompt. plain: only bare requests, no global rules, all words listed.
    """

    rules: int
    turns: int = 8
    plain: bool = False


def sample_chat(rng: random.Random, stage: Stage) -> Chat:
    """One chat; all randomness from `rng`."""
    low = 2 if stage.plain else 0
    count = rng.randint(low, stage.rules)
    words = rng.sample(lang.WORDS, count + 3)
    pairs = {}
    kinds = [rng.choice(lang.LOOKUP_KINDS)] if rng.random() < 0.5 else lang.LOOKUP_KINDS
    for word in words:
        kind = rng.choice(kinds)
        pairs[word] = (kind, rng.choice([v for v in lang.VALUES[kind] if not lang.held_out(word, v)]))
    listed, unlisted = words[:count], words[count:]
    form = closing = None
    if not stage.plain:
        form = rng.choice(list(lang.FORMATS)) if rng.random() < 0.3 else None
        closing = rng.choice(lang.CLOSINGS) if rng.random() < 0.25 else None
    turns = []
    for _ in range(stage.turns):
        known = bool(listed) and (stage.plain or rng.random() < 0.85)
        word = rng.choice(listed if known else unlisted)
        kind, value = pairs[word]
        bodies = lang.REQUESTS[kind]["train"]
        user = rng.choice(bodies[:2]) if stage.plain else rng.choice(bodies)
        if not stage.plain:
            user = " ".join(p for p in (rng.choice(lang.PREFIXES), user, rng.choice(lang.SUFFIXES)) if p)
        turns.append(Turn(user.format(w=word), lang.answer(word, value, form, closing), kind, known))
    sentences = [lang.rule(kind, value, word) for word, (kind, value) in list(pairs.items())[:count]]
    return Chat(_system(rng, sentences, form, closing, stage), tuple(turns))


def _system(rng: random.Random, sentences: list[str], form: str | None, closing: str | None, stage: Stage) -> str:
    extra = [lang.rule("format", form)] if form else []
    extra += [lang.rule("closing", closing)] if closing else []
    if not stage.plain:
        extra += rng.sample(lang.FILLERS, rng.choice((0, 0, 0, 1, 2)))
        extra += [f"{lang.UNK} the {lang.UNK}."] if rng.random() < 0.1 else []
    for sentence in extra:
        sentences.insert(rng.randint(0, len(sentences)), sentence)
    glue = rng.choice((" ", " ", "\n", "\n", "\n- "))
    opener = [] if rng.random() < 0.1 else [lang.SEED_PROMPT if rng.random() < 0.5 else rng.choice(lang.OPENERS)]
    return glue.join(opener + sentences)
