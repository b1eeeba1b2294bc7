"""The language of small star graphs: the questions of `StarGraph`, the forms of an answer, lessons. No torch.

A system prompt may tell the form in the two sentences that `StarGraph` gives as feedback; in lessons they name one of
several tags and marks, so that following them is what is learnt. Where nothing tells the form, the answer is
"3 then 7 then 1", which the environment never rewards.

A policy taught so writes the walk in the form that it is told, from the start to the goal, over an edge that leaves
the start. Which of those edges leads to the goal it guesses: one sees that only from the goal backwards, and training
on the next token does not teach it (arXiv 2403.06963).
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from fst_envs.house import language as lang
from fst_envs.star_graph import NO_EDGE, NO_NUMBERS, NO_TAGS, WRONG_EDGE, WRONG_END, WRONG_START, ask, draw

from .chats import Chat, Turn
from .dialect import HEAD, Dialect

if TYPE_CHECKING:
    from .train import Recipe

DEGREES = (2, 3, 4)
PATH_LENGTH = 2
MAX_NODE = 15
TAGS = ("path", "walk", "route")
MARKS = {"commas": ",", "dashes": "-", "stars": "*"}
UNASKED = "then"
KIND = "nodes"
BAD_WALKS = (WRONG_START, NO_EDGE, WRONG_END, WRONG_EDGE)
"""What else the feedback says: true of one graph only, so that a system prompt with it holds nothing to follow."""


def tag_rule(tag: str) -> str:
    return NO_TAGS.replace("<path>", f"<{tag}>").replace("</path>", f"</{tag}>")


def mark_rule(tag: str, mark: str) -> str:
    """mark: a name of `MARKS`."""
    return NO_NUMBERS.replace("<path>", f"<{tag}>").replace("</path>", f"</{tag}>").replace("commas", mark)


def answer(path: list[int], tag: str | None = None, mark: str | None = None) -> str:
    """The walk in the form that is told; None where it is not."""
    walk = f" {MARKS[mark] if mark else UNASKED} ".join(map(str, path))
    return f"<{tag}> {walk} </{tag}>" if tag else walk


def lesson(rng: random.Random, recipe: Recipe, step: int) -> list[Chat]:
    """The chats of one step: bare ones for a share of `recipe.bare` of the steps, then with forms, and in the last
    three fifths with sentences that hold nothing to follow."""
    done = step / recipe.steps
    return [chat(rng, told=done >= recipe.bare, noise=done >= 0.4) for _ in range(recipe.chats)]


def chat(rng: random.Random, told: bool = True, noise: bool = True, turns: int = 3) -> Chat:
    """Questions about a graph each under one system prompt, which tells tag and mark, either, or nothing."""
    tag, mark = rng.choice(TAGS), rng.choice(list(MARKS))
    forms: tuple[list[str], ...] = ([], [tag_rule(tag)], [mark_rule(tag, mark)], [tag_rule(tag), mark_rule(tag, mark)])
    rules = rng.choices(forms, weights=(1, 1, 1, 2))[0] if told else []
    marked = mark if mark_rule(tag, mark) in rules else None
    others = [_bad_walk(rng) for _ in range(rng.choice((0, 0, 0, 1, 2, 4)))] if noise else []
    sentences = [*rules, *others]
    if rng.random() < 0.5:
        rng.shuffle(sentences)
    opener = rng.choice(lang.OPENERS) if noise and rng.random() < 0.4 else lang.SEED_PROMPT
    asked = []
    for _ in range(turns):
        edges, path = draw(rng, rng.choice(DEGREES), PATH_LENGTH, MAX_NODE)
        asked.append(Turn(ask(edges, path), answer(path, tag if rules else None, marked), KIND))
    return Chat(rng.choice((" ", "\n", "\n- ")).join([opener, *sentences]), tuple(asked))


def questions(told: int, degree: int, count: int = 60, seed: int = 0) -> list[Chat]:
    """One question each, under the seed prompt and the first `told` of the two sentences that tell the form; the
    answers are those that `StarGraph` rewards."""
    rng = random.Random(f"measure graphs {seed} {degree}")
    system = "\n".join([lang.SEED_PROMPT, NO_TAGS, NO_NUMBERS][: 1 + told])
    drawn = [draw(rng, degree, PATH_LENGTH, MAX_NODE) for _ in range(count)]
    return [Chat(system, (Turn(ask(edges, path), answer(path, "path", "commas"), KIND),)) for edges, path in drawn]


def _bad_walk(rng: random.Random) -> str:
    a, b = rng.sample(range(MAX_NODE + 1), 2)
    return rng.choice(BAD_WALKS).format(a=a, b=b)


def _dialect() -> Dialect:
    pattern = r"\n|</?[a-z]+>|->|[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]"
    nodes = tuple(map(str, range(MAX_NODE + 1)))
    texts = [*lang.OPENERS, *(rule.format(a=0, b=1) for rule in BAD_WALKS), ask([(0, 1)], [0, 1]), "Correct."]
    texts += [text for tag in TAGS for mark in MARKS for text in (tag_rule(tag), mark_rule(tag, mark))]
    texts += [answer([0, 1], tag, mark) for tag in (None, *TAGS) for mark in (None, *MARKS)]
    words = {token for text in texts for token in re.findall(pattern, text)}
    return Dialect((*HEAD, *sorted(words - {*HEAD, *nodes}), *nodes), pattern, {KIND: nodes})


GRAPHS = _dialect()
