"""Fast weights as plain data: a prompt, and the population of prompts that one cycle carries.

A prompt's identity is the digest of its text, nothing else: two prompts with the same text are the same prompt,
whatever their history. Both types are immutable; evolution makes new ones.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any


@lru_cache(4096)  # a rollout names its prompt again and again
def text_digest(text: str) -> str:
    """16 hex digits that name a text: blake2b-64 of its UTF-8 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def shown(text: str) -> str:
    """`text` as a terminal or a log may show it: every character that does not print (control and escape characters,
    direction marks, invisible ones, lone surrogates) is written as an escape; line feeds, tabs and spaces stay."""
    return "".join(
        c if c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text
    )


@dataclass(frozen=True)
class Score:
    """What is known of one prompt on one problem.

    mean: mean reward, in the reward's own units.
    rollouts: how many rollouts the mean rests on (>= 1).
    """

    mean: float
    rollouts: int = 1


@dataclass(frozen=True)
class Prompt:
    """One fast-weight prompt φ: the text of a system message.

    text: sent byte for byte; examples at its end as turns of the chat, see `examples`.
    parents: digests of the prompts it was made from; empty for a seed.
    origin: how it came about: "seed", "data", "reflection", ...
    cycle: cycle in which it was made (0-based).
    scores: problem id -> Score, on the anchor set of the last fast phase that scored it.
    """

    text: str
    parents: tuple[str, ...] = ()
    origin: str = "seed"
    cycle: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict, compare=False)

    @property
    def digest(self) -> str:
        return text_digest(self.text)

    @property
    def mean_score(self) -> float:
        """Mean over the scored problems, each weighing the same; 0.0 if nothing was scored."""
        return sum(s.mean for s in self.scores.values()) / len(self.scores) if self.scores else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "text": self.text,
            "parents": list(self.parents),
            "origin": self.origin,
            "cycle": self.cycle,
            "mean_score": self.mean_score,
            "scores": {k: {"mean": s.mean, "rollouts": s.rollouts} for k, s in self.scores.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        """Inverse of `to_json`. Raises ValueError when the text does not have the digest it is stored under."""
        prompt = cls(
            text=data["text"],
            parents=tuple(data["parents"]),
            origin=data["origin"],
            cycle=data["cycle"],
            scores={k: Score(v["mean"], v["rollouts"]) for k, v in data["scores"].items()},
        )
        if prompt.digest != data["digest"]:
            raise ValueError(f"prompt text has digest {prompt.digest} but is stored as {data['digest']}: it was edited")
        return prompt


@dataclass(frozen=True)
class Population:
    """The K prompts Φ that a cycle's rollouts are spread over, best first (paper Algorithm 1).

    prompts: 1..K distinct prompts, ordered by rank; `prompts[0]` is the best one.
    """

    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("a population needs at least one prompt")
        digests = [p.digest for p in self.prompts]
        if len(set(digests)) != len(digests):
            raise ValueError("a population holds each prompt once")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def best(self) -> Prompt:
        return self.prompts[0]

    @property
    def digest(self) -> str:
        """Names the ordered set of prompt texts."""
        return text_digest("\n".join(p.digest for p in self.prompts))

    def to_json(self) -> dict[str, Any]:
        return {"digest": self.digest, "prompts": [p.to_json() for p in self.prompts]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Population:
        """Inverse of `to_json`. Raises ValueError when the digest does not fit the prompts."""
        population = cls(tuple(Prompt.from_json(p) for p in data["prompts"]))
        if population.digest != data["digest"]:
            raise ValueError(f"population has digest {population.digest} but is stored as {data['digest']}")
        return population
