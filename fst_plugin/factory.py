"""From config to parts: the optimizer of a fast phase, and what the method must know of the policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .config import FSTConfig
from .imports import load
from .optimizer import PromptOptimizer
from .progress import LiveLine
from .rollouts import Message

Generate = Callable[[list[list[Message]]], list[str]]


@dataclass(frozen=True)
class Policy:
    """What the method knows of the policy whose prompts it evolves.

    seed_prompt: text of the first prompt. max_tokens: cap of a prompt, in the policy's tokens. count_tokens: length of
    a text in them. special_tokens: control tokens of the chat template. generate: the policy's answers to plain chats.
    fits: does a chat fit the prompt length of its rollouts? width: rollouts that its engine runs at a time.
    """

    seed_prompt: str
    max_tokens: int
    count_tokens: Callable[[str], int]
    special_tokens: tuple[str, ...] = ()
    generate: Generate | None = None
    fits: Callable[[Sequence[Message]], bool] = lambda chat: True
    width: int = 256

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, seed_prompt: str, max_tokens: int, **more: Any) -> Policy:
        """From a Hugging Face tokenizer; `more`: generate, fits, width."""

        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        added = [str(token) for token in tokenizer.get_added_vocab()]
        special = tuple(sorted({*map(str, tokenizer.all_special_tokens), *added}))
        return cls(seed_prompt, max_tokens, count, special, **more)

    def refuse(self, text: str) -> str | None:
        """Why this text must never be sent as an evolved prompt; None where it may be."""
        if not text.strip():
            return "it is empty"
        length = self.count_tokens(text)
        if length > self.max_tokens:
            return f"it has {length} tokens, the cap is {self.max_tokens}"
        acting = [token for token in self.special_tokens if token.strip() and token in text]
        if acting:
            return f"it holds control tokens: {', '.join(acting)}"
        return None


def build_reflection(config: FSTConfig, policy: Policy) -> Any:
    """The reflection that `fst.reflection` names."""
    from . import reflection

    spec = config.reflection
    if spec.kind == "offline":
        return reflection.OfflineReflection(perfect_score=config.fast.perfect_score)
    if spec.kind == "policy":
        if policy.generate is None:
            raise ValueError("fst.reflection.kind=policy needs a policy that can generate: use lm or offline here")
        return reflection.PolicyReflection(policy.generate, policy.fits)
    return reflection.DSPyReflection(
        model=spec.model or "",
        api_base=spec.api_base,
        temperature=spec.temperature,
        max_tokens=spec.max_tokens,
        timeout_s=spec.timeout_s,
        retries=spec.retries,
        concurrency=spec.concurrency,
    )


def build_optimizer(
    config: FSTConfig, policy: Policy, problems: int, reflection: Any, log: Callable[[str], None]
) -> PromptOptimizer:
    """The optimizer of one fast phase. problems: how many the cycle has."""
    if config.fast.path:
        return load(config.fast.path, "fst.fast.path")(**config.fast.kwargs)
    from .gepa_optimizer import GEPAOptimizer

    return GEPAOptimizer(
        reflection,
        k=config.population,
        budget=config.fast.budget or math.ceil(config.fast.passes * problems),
        minibatch=config.fast.minibatch,
        records=config.fast.records,
        new_candidates=config.fast.new_candidates,
        proposals=config.fast.proposals,
        width=config.fast.width or policy.width,
        rounds=config.fast.rounds,
        confidence=config.fast.confidence,
        patience=config.fast.patience,
        perfect_score=config.fast.perfect_score,
        max_tokens=policy.max_tokens,
        count_tokens=policy.count_tokens,
        special_tokens=policy.special_tokens,
        max_reflection_failures=config.reflection.max_failures,
        log=log,
        status=LiveLine(log),
    )
