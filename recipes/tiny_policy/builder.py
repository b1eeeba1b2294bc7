"""A tiny policy as a folder: training, saving, measuring, and the card that says what came of it.

The card (`fst_envs.house.policy.card`) is written last: a folder without one is not finished.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fst_envs.house import policy as house_policy

from . import dialect, graphs, measure, model, train
from .dialect import Dialect
from .model import Shape
from .train import Lesson, Progress, Recipe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Kind:
    """A tiny policy of one language. reliability: see `measure`."""

    dialect: Dialect
    lesson: Lesson
    recipe: Recipe
    reliability: Callable[[LlamaForCausalLM], dict[str, dict[str, dict[str, float]]]]


KINDS = {
    "rules": Kind(dialect.RULES, train.lesson, Recipe(), measure.reliability),
    "graphs": Kind(
        graphs.GRAPHS, graphs.lesson, Recipe(steps=500, bare=0.12, drills=0, doubt=0), measure.graph_reliability
    ),
}
"""What the policy reads -> how it is made (all ours)."""


def build(
    folder: str | Path,
    *,
    reads: str = "rules",
    seed: int = 0,
    steps: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains a tiny policy into `folder`: float32, loadable by transformers and vLLM. Returns its card.

    reads: a name of `KINDS`. seed: of weights and data. steps: of pre-training; default: those of the kind.
    threads: of torch while training, default 1 (ours): on a busy machine a second one costs far more than it brings.
    progress: see `train.Progress`.
    Raises ValueError for another kind, FileExistsError if `folder` holds anything: no folder is overwritten.
    """
    folder = Path(folder)
    if reads not in KINDS:
        raise ValueError(f"reads={reads!r}: use one of {', '.join(KINDS)}")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name another folder")
    kind, shape = KINDS[reads], Shape()
    recipe = kind.recipe if steps is None else replace(kind.recipe, steps=steps)
    with _torch_settings(threads, seed):
        policy, tokenizer = model.make_model(shape, seed, kind.dialect), model.make_tokenizer(kind.dialect)
        began = time.monotonic()
        train.pretrain(policy, recipe, seed, progress, kind.dialect, kind.lesson)
        seconds = time.monotonic() - began
        accuracy = kind.reliability(policy)
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {
        "reads": reads,
        "parameters": sum(p.numel() for p in policy.parameters()),
        "vocabulary": len(tokenizer),
        "made": {
            "by": "recipes/tiny_policy",
            "seed": seed,
            "steps": recipe.steps,
            "seconds": round(seconds, 1),
            "versions": {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
        },
        "accuracy": accuracy,
        "sha256": {file.name: house_policy.digest(file) for file in sorted(folder.iterdir())},
    }
    (folder / house_policy.CARD_FILE).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


@contextmanager
def _torch_settings(threads: int, seed: int) -> Iterator[None]:
    """Our thread count and random state inside, the caller's again after."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
