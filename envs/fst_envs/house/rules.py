"""House rules: hidden conventions of a house that only feedback reveals, one sentence at a time.

A question is a plain request that names one word ("please file this invoice now"). The answer that the house wants
("invoice B4") follows from its rule book, which the question does not show. The feedback on a wrong answer is exactly
one rule sentence, the one that corrects the first mistake; nothing else reveals the rules.

`book` is the seed of the rule book. All its (word, value) pairs are `held_out`: the tiny policy never met them in
pre-training. Formats and closings come from small sets that it knows.

Invariants: the splits share no question; every block of `words` successive indices asks for every word once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..base import SPLITS, ReasoningEnv
from . import language as lang

_PHRASED_AS = {"anchor": "train"}  # anchors are drawn from the training problems


@dataclass(frozen=True)
class Book:
    """A rule book.

    values: word -> (kind, value), in the order in which the words were drawn.
    form, closing: of every answer; None if the book has no such rule.
    """

    values: dict[str, tuple[str, str]]
    form: str | None = None
    closing: str | None = None

    def rules(self) -> list[str]:
        """Every rule sentence of the book; those for all answers come first."""
        general = [lang.rule("format", self.form)] if self.form else []
        general += [lang.rule("closing", self.closing)] if self.closing else []
        return general + [lang.rule(kind, value, word) for word, (kind, value) in self.values.items()]

    def answer(self, word: str) -> str:
        """The answer that the house wants to a request for `word`."""
        return lang.answer(word, self.values[word][1], self.form, self.closing)

    def mistake(self, word: str, text: str) -> str:
        """The rule sentence for the first mistake in an answer about `word`; "" if it is right.

        Order: format, then the word's own rule, then the closing. White space, case and a full stop at the end do not
        count.
        """
        said, wanted = _normal(text), _normal(self.answer(word))
        if said == wanted:
            return ""
        if self.form:
            left, right = lang.FORMATS[self.form]
            opened = said.index(left) + 1 if left in said else len(said)
            if right not in said[opened:]:
                return lang.rule("format", self.form)
        kind, value = self.values[word]
        core = _normal(lang.answer(word, value, self.form))
        if self.closing and said[: len(core)] == core:
            return lang.rule("closing", self.closing)
        return lang.rule(kind, value, word)


def draw_book(book: int, kinds: Sequence[str] = ("codes",), words: int = 12, family: str | None = None) -> Book:
    """The rule book of seed `book`; arguments as in `HouseRules`. Words of a kind share a value only if they must.

    Raises ValueError for unknown kinds or families, no lookup kind, too many words.
    """
    unknown = sorted(set(kinds) - set(lang.KINDS))
    if unknown:
        raise ValueError(f"kinds: unknown {', '.join(unknown)}: use some of {', '.join(lang.KINDS)}")
    lookups = [kind for kind in lang.LOOKUP_KINDS if kind in kinds]
    if not lookups:
        raise ValueError(f"kinds={tuple(kinds)}: add one of {', '.join(lang.LOOKUP_KINDS)}, which say what to answer")
    if family is not None and family not in lang.FAMILIES:
        raise ValueError(f"family {family!r} is unknown: use one of {', '.join(lang.FAMILIES)}")
    pool = lang.FAMILIES[family] if family else lang.WORDS
    if not len(lookups) <= words <= len(pool):
        raise ValueError(f"words={words}: use {len(lookups)} to {len(pool)} with these kinds and words")
    rng = random.Random(f"house rules {book}")
    values: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for i, word in enumerate(rng.sample(pool, words)):
        kind = lookups[i % len(lookups)]
        free = [value for value in lang.VALUES[kind] if lang.held_out(word, value)]
        value = rng.choice([v for v in free if v not in taken] or free)
        taken.add(value)
        values[word] = (kind, value)
    form, closing = rng.choice(list(lang.FORMATS)), rng.choice(lang.CLOSINGS)
    return Book(values, form if "format" in kinds else None, closing if "closing" in kinds else None)


def _normal(text: str) -> list[str]:
    tokens = [token.lower() for token in lang.tokenize(text) if not token.isspace()]
    return tokens[:-1] if tokens[-1:] == ["."] else tokens


class HouseRules(ReasoningEnv):
    """Single turn; reward 1.0 for the answer that the rule book wants, else 0.0.

    book: seed of the rule book; default 0 (ours).
    kinds: kinds of rule in it: "codes" and "places" (per word; words are divided evenly between them), "format" and
        "closing" (for all answers; reward 0 without them). At least one of the first two; default codes alone (ours).
    words: number of words with a rule; default 12 (ours).
    family: family to draw the words from, "office", "kitchen", "workshop" or "farm"; default None: all (ours).
    split: as in `ReasoningEnv`.
    size: instances per split; default, and maximum: the number of questions in a split.
    """

    def __init__(
        self,
        book: int = 0,
        kinds: Sequence[str] = ("codes",),
        words: int = 12,
        family: str | None = None,
        split: str = "train",
        size: int | None = None,
    ):
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        self.book = draw_book(book, kinds, words, family)
        self._phrasings = {(name, kind): _phrasings(book, name, kind) for name in SPLITS for kind in lang.LOOKUP_KINDS}
        self._words = {name: _shuffled(self.book.values, f"{book} {name}") for name in SPLITS}
        fewest = min(len(phrasings) for phrasings in self._phrasings.values())
        super().__init__(split=split, size=min(size or words * fewest, words * fewest))
        self._word = ""

    def rules(self) -> list[str]:
        """Every rule sentence of the book. It is the secret: for tests and oracles only."""
        return self.book.rules()

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        words = self._words[split]
        turn, place = divmod(index, len(words))
        self._word = words[place]
        kind = self.book.values[self._word][0]
        phrasings = self._phrasings[split, kind]
        phrasing = phrasings[(turn + 7 * place) % len(phrasings)]
        return phrasing.format(w=self._word), {"answer": self.book.answer(self._word), "kind": kind}

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        mistake = self.book.mistake(self._word, text)
        return ("", 0.0, True, mistake) if mistake else ("", 1.0, True, "Correct.")


@lru_cache(maxsize=256)  # every rollout is scored by an environment of its own
def _phrasings(book: int, split: str, kind: str) -> list[str]:
    return _shuffled(lang.requests(kind, _PHRASED_AS.get(split, split)), f"{book} {split} {kind}")


def _shuffled(items: Sequence[str] | dict[str, Any], seed: str) -> list[str]:
    return random.Random(f"house rules {seed}").sample(list(items), len(items))
