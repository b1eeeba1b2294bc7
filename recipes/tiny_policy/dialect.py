"""What a tiny policy speaks, as plain data: its tokens, and among which of them its answers choose. Pure Python."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fst_envs.house import language as lang

PAD, UNK, IM_START, IM_END = "<|pad|>", "<|unk|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (PAD, UNK, IM_START, IM_END)
ROLES = ("system", "user", "assistant")
HEAD = (*SPECIALS, *ROLES, "\n")
"""The first tokens of every vocabulary."""


@dataclass(frozen=True)
class Dialect:
    """vocabulary: all tokens, `HEAD` first; a token's place is its id. pattern: regular expression of one token.
    values: kind of request -> the tokens among which an answer to it chooses."""

    vocabulary: tuple[str, ...]
    pattern: str
    values: Mapping[str, tuple[str, ...]]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.vocabulary)}

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.values)

    @cached_property
    def value_ids(self) -> dict[str, list[int]]:
        return {kind: [self.ids[value] for value in values] for kind, values in self.values.items()}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, as the tokenizer gives them."""
        return [self.ids.get(token, self.ids[UNK]) for token in re.findall(self.pattern, text)]


def vocabulary() -> list[str]:
    """All tokens of the house rules, specials first; a token's place is its id. Covers every text that `language` can
    make."""
    texts = [lang.SEED_PROMPT, *lang.OPENERS, *lang.FILLERS, *lang.PREFIXES, *lang.SUFFIXES, lang.RECITAL]
    texts += ["House rules: Rules: Correct. - , ! ?", *(lang.rule(kind, "") for kind in lang.KINDS)]
    texts += [*lang.FORMATS, *lang.CLOSINGS, *itertools.chain(*lang.FORMATS.values())]
    bodies = itertools.chain(*(split for by_split in lang.REQUESTS.values() for split in by_split.values()))
    texts += [body.format(w="") for body in bodies]
    words = {token for text in texts for token in lang.tokenize(text)}
    values = list(itertools.chain(*lang.VALUES.values()))
    return [*HEAD, *sorted(words - {*HEAD, *lang.WORDS, *values}), *lang.WORDS, *values]


RULES = Dialect(tuple(vocabulary()), lang.TOKEN_PATTERN, lang.VALUES)
