"""Synthetic chats for pre-training: a system prompt with fresh rules, and independent requests under it.

Invariant: nothing made here ever joins a held-out (word, value) pair, neither in a rule nor in an answer. Where the
policy has to guess, the trainer's target is the uniform distribution over all values, not the value that stands here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fst_envs.house import language as lang

FIRST_WORDS = 12  # ours: drills begin with this many words, on which copying is learnt several times sooner


@dataclass(frozen=True)
class Turn:
    """One request and its answer.

    kind: the lookup kind. known: whether a rule of the system prompt gives the value. drill: the answer goes through
    many words of the prompt, only its values are to be learnt.
    """

    user: str
    answer: str
    kind: str
    known: bool = True
    drill: bool = False


@dataclass(frozen=True)
class Chat:
    """A system prompt and requests that do not see each other."""

    system: str
    turns: tuple[Turn, ...]


def drill(rng: random.Random, words: Sequence[str] = lang.WORDS) -> Chat:
    """A chat whose one answer goes through the rules again and again: the densest lesson in copying.

    words: at least 8, of which 3 to 8 get a rule.
    """
    kind = rng.choice(lang.LOOKUP_KINDS)
    pairs = {word: _value(rng, kind, word) for word in rng.sample(words, rng.randint(3, 8))}
    listed = [lang.rule(kind, value, word) for word, value in pairs.items()]
    recital = [lang.answer(word, pairs[word]) for word in rng.choices(list(pairs), k=32)]
    system = rng.choice((" ", "\n")).join([lang.SEED_PROMPT, *listed])
    return Chat(system, (Turn(lang.RECITAL, " ".join(recital), kind, drill=True),))


def bare(rng: random.Random, turns: int = 8, rules: int = 8) -> Chat:
    """A chat of bare requests, all of them with a rule: from drills to conversation."""
    pairs = _pairs(rng, rng.randint(2, rules))
    picked = [rng.choice(list(pairs)) for _ in range(turns)]
    system = rng.choice((" ", "\n")).join([rng.choice(lang.OPENERS), *_sentences(pairs)])
    requests = [rng.choice(lang.REQUESTS[pairs[word][0]]["train"][:2]).format(w=word) for word in picked]
    return Chat(
        system,
        tuple(Turn(r, lang.answer(w, pairs[w][1]), pairs[w][0]) for r, w in zip(requests, picked, strict=True)),
    )


def full(rng: random.Random, turns: int = 8, rules: int = 14, most: int = 28) -> Chat:
    """A chat of the whole language: per-word rules (0 to `rules`, in one of five chats up to `most`), formats,
    closings, other sentences, unlisted words."""
    count = rng.randint(0, most if rng.random() < 0.2 else rules)
    pairs = _pairs(rng, count + 3)
    listed, unlisted = list(pairs)[:count], list(pairs)[count:]
    form = rng.choice(list(lang.FORMATS)) if rng.random() < 0.3 else None
    closing = rng.choice(lang.CLOSINGS) if rng.random() < 0.25 else None
    made = []
    for _ in range(turns):
        known = bool(listed) and rng.random() < 0.85
        word = rng.choice(listed if known else unlisted)
        kind, value = pairs[word]
        parts = (rng.choice(lang.PREFIXES), rng.choice(lang.REQUESTS[kind]["train"]), rng.choice(lang.SUFFIXES))
        user = " ".join(part for part in parts if part).format(w=word)
        made.append(Turn(user, lang.answer(word, value, form, closing), kind, known))

    sentences = _sentences({word: pairs[word] for word in listed})
    others = rng.sample(lang.FILLERS, rng.choice((0, 0, 0, 1, 2)))
    others += [lang.rule("format", form)] if form else []
    others += [lang.rule("closing", closing)] if closing else []
    others += [f"The {lang.UNKNOWN} {lang.UNKNOWN}."] if rng.random() < 0.1 else []
    for sentence in others:
        sentences.insert(rng.randint(0, len(sentences)), sentence)
    opener = lang.SEED_PROMPT if rng.random() < 0.5 else rng.choice(lang.OPENERS)
    opening = [opener] if rng.random() < 0.9 else []
    return Chat(rng.choice((" ", " ", "\n", "\n", "\n- ")).join(opening + sentences), tuple(made))


def _value(rng: random.Random, kind: str, word: str) -> str:
    return rng.choice([value for value in lang.VALUES[kind] if not lang.held_out(word, value)])


def _pairs(rng: random.Random, count: int) -> dict[str, tuple[str, str]]:
    """word -> (kind, value) for `count` words; half of the time all of one kind."""
    kinds = [rng.choice(lang.LOOKUP_KINDS)] if rng.random() < 0.5 else list(lang.LOOKUP_KINDS)
    chosen = {word: rng.choice(kinds) for word in rng.sample(lang.WORDS, count)}
    return {word: (kind, _value(rng, kind, word)) for word, kind in chosen.items()}


def _sentences(pairs: dict[str, tuple[str, str]]) -> list[str]:
    return [lang.rule(kind, value, word) for word, (kind, value) in pairs.items()]
