"""Star graph path finding: many arms leave one centre; walk from the centre to a named end.

At the centre all arms look alike, so the walk must be found backwards from its end. The question says what to find but
not how to write it: the reward is 0 until the format is known. Only feedback reveals the format, one mistake at a time:
first the format, then the first wrong edge, which the graph lacks or which leads to another end.

The task follows arXiv 2510.03971 (star graph); sizes and the answer's format are ours.

Invariants: the edges are directed and form a tree, so exactly one path answers a question; feedback never quotes the
path.
"""

from __future__ import annotations

import random
import re
from typing import Any

from .base import WINDOW, ReasoningEnv, split_seed

NO_TAGS = "The path must stand between <path> and </path>."
NO_NUMBERS = (
    "Between <path> and </path> there must be nothing but the numbers of the nodes, separated by commas, from the start"
    " to the goal, both included."
)
"""The two sentences that reveal the format."""
WRONG_START = "The path must begin at the start {a}, but it begins at {b}."
NO_EDGE = "The path goes from {a} to {b}, but the graph has no edge {a} -> {b}."
WRONG_END = "The path must end at the goal {a}, but it ends at {b}: work backwards from {a}."
WRONG_EDGE = "The first wrong edge is {a} -> {b}."
"""What is said about a wrong walk."""
_PATH = re.compile(r"<path>(.*?)</path>", re.DOTALL)
_NODE = re.compile(r"[0-9]{1,9}")


def draw(rng: random.Random, degree: int, path_length: int, max_node: int) -> tuple[list[tuple[int, int]], list[int]]:
    """The shuffled edges of a star graph, and the path to ask for."""
    centre, *rest = rng.sample(range(max_node + 1), degree * path_length + 1)
    arms = [[centre, *rest[i * path_length : (i + 1) * path_length]] for i in range(degree)]
    path = rng.choice(arms)
    edges = [edge for arm in arms for edge in zip(arm, arm[1:], strict=False)]
    rng.shuffle(edges)
    return edges, path


def ask(edges: list[tuple[int, int]], path: list[int]) -> str:
    """The question about a graph and a path in it."""
    listed = "\n".join(f"{a} -> {b}" for a, b in edges)
    return f"Directed edges of a graph:\n{listed}\n\nFind the path from {path[0]} to {path[-1]}."


class StarGraph(ReasoningEnv):
    """Single turn; reward 1.0 for the path in the right format, else 0.0.

    degree: arms at the centre, >= 1; default 5 (ours).
    path_length: edges of every arm, >= 1; default 5 (ours).
    max_node: highest label; labels are drawn from 0 up to it, each once; default 49 (ours).
    split, size: as in `ReasoningEnv`.
    """

    private_answers = True

    def __init__(
        self, degree: int = 5, path_length: int = 5, max_node: int = 49, split: str = "train", size: int = WINDOW
    ):
        super().__init__(split=split, size=size)
        if degree < 1 or path_length < 1:
            raise ValueError(f"degree={degree}, path_length={path_length}: use 1 or more for both")
        nodes = degree * path_length + 1
        if max_node + 1 < nodes:
            raise ValueError(f"max_node={max_node}: the graph needs {nodes} labels, so use at least {nodes - 1}")
        if max_node > 10**9 - 1:
            raise ValueError(f"max_node={max_node}: use at most 9 digits")
        self.degree, self.path_length, self.max_node = degree, path_length, max_node
        self.edges: list[tuple[int, int]] = []
        self.path: list[int] = []

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        rng = random.Random(split_seed(split, index))
        self.edges, self.path = draw(rng, self.degree, self.path_length, self.max_node)
        return ask(self.edges, self.path), {"answer": self.write(self.path)}

    @staticmethod
    def write(path: list[int]) -> str:
        """A path in the format that earns the reward."""
        return f"<path>{','.join(map(str, path))}</path>"

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        feedback = self._format_mistake(text) or self._wrong_edge(self._read(text))
        return ("", 0.0, True, feedback) if feedback else ("", 1.0, True, "Correct.")

    @staticmethod
    def _read(text: str) -> list[int]:
        return [int(part) for part in _PATH.findall(text)[-1].split(",")]

    @staticmethod
    def _format_mistake(text: str) -> str:
        found = _PATH.findall(text)
        if not found:
            return NO_TAGS
        parts = [part.strip() for part in found[-1].split(",")]
        if not all(_NODE.fullmatch(part) for part in parts):
            return NO_NUMBERS
        return ""

    def _wrong_edge(self, walk: list[int]) -> str:
        edges, start, goal = set(self.edges), self.path[0], self.path[-1]
        if walk[0] != start:
            return WRONG_START.format(a=start, b=walk[0])
        for a, b in zip(walk, walk[1:], strict=False):
            if (a, b) not in edges:
                return NO_EDGE.format(a=a, b=b)
        if walk[-1] != goal:
            wrong = next(((a, b) for a, b in zip(walk, walk[1:], strict=False) if b not in self.path), None)
            said = [WRONG_END.format(a=goal, b=walk[-1])]
            return " ".join(said + ([WRONG_EDGE.format(a=wrong[0], b=wrong[1])] if wrong else []))
        return ""
