"""The little language of the house rules: words, rule sentences, requests, answers. Pure Python, no torch.

A request names one word; a rule says what to answer. A rule, the environment's feedback and a line of an evolved system
prompt are the same sentence ("Write invoice B4."). The answer restates the word before the value ("invoice B4"), so to
follow a rule is to copy what came after that word.

There are four kinds of rule: "codes" and "places" are per word; "format" and "closing" hold for every answer of a book.

| kind      | sentence              | answer under it   |
|-----------|-----------------------|-------------------|
| codes     | Write invoice B4.     | invoice B4        |
| places    | Send goat north.      | goat north        |
| format    | Put it in brackets.   | invoice [B4]      |
| closing   | End with cheers.      | invoice B4 cheers |

Invariants: pre-training states no (word, value) pair that is `held_out` as a rule, and books draw only from those;
requests of the three splits share their vocabulary but no sentence.
"""

from __future__ import annotations

import itertools
import re

SEED_PROMPT = "You are a helpful assistant."

FAMILIES: dict[str, tuple[str, ...]] = {
    "office": tuple(
        "invoice parcel ticket refund letter folder report budget contract receipt memo calendar printer stapler "
        "envelope badge".split()
    ),
    "kitchen": tuple(
        "bread apple rice cheese honey coffee sugar flour butter pepper onion carrot lemon soup cake tea".split()
    ),
    "workshop": tuple(
        "hammer drill saw ladder bucket rope nail screw pump valve cable motor paint brick wrench pipe".split()
    ),
    "farm": tuple("horse sheep goat duck cow hen dog cat pig mule goose rabbit donkey lamb calf pony".split()),
}
WORDS: tuple[str, ...] = tuple(itertools.chain.from_iterable(FAMILIES.values()))

VALUES: dict[str, tuple[str, ...]] = {
    "codes": tuple(letter + digit for letter in "ABCDE" for digit in "12345"),
    "places": tuple(
        "north south east west upstairs downstairs inside outside left right home back forward away aboard ashore "
        "uphill downhill abroad overseas".split()
    ),
}
FORMATS: dict[str, tuple[str, str]] = {"brackets": ("[", "]"), "stars": ("*", "*"), "quotes": ('"', '"')}
CLOSINGS: tuple[str, ...] = ("cheers", "regards", "thanks", "bye", "done", "over")

LOOKUP_KINDS = tuple(VALUES)
GLOBAL_KINDS = ("format", "closing")
KINDS = LOOKUP_KINDS + GLOBAL_KINDS

REQUESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "codes": {
        "train": (
            "{w}",
            "code for {w}",
            "what is the code for {w}",
            "which code does the {w} need",
            "i need a code for the {w}",
            "file the {w}",
            "file this new {w}",
            "label the {w} for me",
            "what label is on this {w}",
            "register a new {w}",
            "write the label for the {w}",
            "mark this {w} with its code",
        ),
        "val": (
            "file this {w} for me",
            "what code is on the {w}",
            "which label does this new {w} need",
            "register the {w} with its label",
        ),
        "test": ("mark the {w} for me", "i need the label for this {w}", "write a code on the {w}"),
    },
    "places": {
        "train": (
            "where does the {w} go",
            "where is the {w}",
            "where do i take this {w}",
            "which way does the {w} go",
            "send the {w} on its way",
            "send the new {w} where it should be",
            "bring this {w} to its place",
            "move the {w} for me",
            "what is the place for a {w}",
            "i need to move this {w}",
            "take the {w} where it should go",
        ),
        "val": (
            "where should i take the {w}",
            "which way do i move this {w}",
            "send this {w} to its place",
            "where does a new {w} go",
        ),
        "test": ("bring the {w} where it should be", "where should this {w} go", "take a {w} to its place"),
    },
}
PREFIXES: tuple[str, ...] = ("", "please", "hello", "good morning", "quick question")
SUFFIXES: tuple[str, ...] = ("", "please", "now", "today", "if you can")
RECITAL = "go through all of these"  # the request of a drill

OPENERS: tuple[str, ...] = (
    SEED_PROMPT,
    "You are a clerk.",
    "You are a helpful clerk of the house.",
    "You are an assistant. Be brief.",
    "Be brief.",
    "Answer the user.",
    "Follow the house rules.",
    "You are a helpful assistant. Follow these rules:",
)
FILLERS: tuple[str, ...] = (
    "Be polite.",
    "Be brief.",
    "Follow the rules.",
    "Read the request with care.",
    "Answer with the word first.",
    "Never guess.",
    "Always follow the house rules.",
    "The user is in a hurry.",
)

UNKNOWN = "zzz"  # a word outside the vocabulary
TOKEN_PATTERN = r"\n|[A-Z][0-9]|[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]"
_TOKEN = re.compile(TOKEN_PATTERN)


def tokenize(text: str) -> list[str]:
    """The tokens of a text: newlines, codes, words, numbers, single marks. Other white space only separates them."""
    return _TOKEN.findall(text)


def held_out(word: str, value: str) -> bool:
    """True for the fifth of all (word, value) pairs that only books may use: five codes and four places per word."""
    for values in VALUES.values():
        if value in values:
            row, column = divmod(values.index(value), 5)
            return (WORDS.index(word) + row + 2 * column) % 5 == 0
    raise ValueError(f"{value!r} is not a value of a lookup kind: use one from VALUES")


def rule(kind: str, value: str, word: str = "") -> str:
    """The sentence that states a rule. Raises ValueError for an unknown kind."""
    if kind == "codes":
        return f"Write {word} {value}."
    if kind == "places":
        return f"Send {word} {value}."
    if kind == "format":
        return f"Put it in {value}."
    if kind == "closing":
        return f"End with {value}."
    raise ValueError(f"kind {kind!r} is unknown: use one of {', '.join(KINDS)}")


def answer(word: str, value: str, form: str | None = None, closing: str | None = None) -> str:
    """The answer to a request for `word`: the word, then its value.

    form: what wraps the value, a key of `FORMATS`; None: nothing.
    closing: the last word; None: none.
    """
    left, right = FORMATS[form] if form else ("", "")
    return f"{word} {left}{value}{right}" + (f" {closing}" if closing else "")


def requests(kind: str, split: str) -> list[str]:
    """All phrasings of a request, with `{w}` for the word, in a fixed order; splits share none."""
    return [
        " ".join(part for part in (prefix, body, suffix) if part)
        for body in REQUESTS[kind][split]
        for prefix in PREFIXES
        for suffix in SUFFIXES
    ]
