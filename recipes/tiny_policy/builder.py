"""The tiny policy as a folder, made once: training, saving, measuring, caching by content.

A folder is up to date when its `tiny_policy.json` carries the digest of this recipe: sources of this package, settings,
seed, major library versions. Invariant: the folder appears under its name only when complete; the marker
`tiny_policy.json` is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fst_envs import star_graph
from fst_envs.house import language
from fst_envs.house import rules as house_rules

from . import chats, dialect, graphs, measure, model, train
from .dialect import Dialect
from .model import Shape
from .train import Lesson, Progress, Recipe

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

MARKER = "tiny_policy.json"


@dataclass(frozen=True)
class Kind:
    """A tiny policy of one language. sources: the modules that decide its weights. reliability: see `measure`."""

    dialect: Dialect
    lesson: Lesson
    recipe: Recipe
    reliability: Callable[[LlamaForCausalLM], dict[str, dict[str, dict[str, float]]]]
    sources: tuple[ModuleType, ...]


_SHARED = (dialect, language, chats, model, train, measure)
KINDS = {
    "rules": Kind(dialect.RULES, train.lesson, Recipe(), measure.reliability, (*_SHARED, house_rules)),
    "graphs": Kind(
        graphs.GRAPHS,
        graphs.lesson,
        Recipe(steps=500, bare=0.12, drills=0, doubt=0),
        measure.graph_reliability,
        (*_SHARED, graphs, star_graph),
    ),
}
"""What the policy reads -> how it is made (all ours)."""


@dataclass(frozen=True)
class Report:
    """What was built and how reliable it came out.

    digest: names recipe, settings and seed. cached: True where nothing had to be trained.
    seconds: of pre-training. parameters, vocabulary: sizes.
    accuracy: see `measure.reliability`.
    """

    digest: str
    seed: int
    steps: int
    seconds: float
    parameters: int
    vocabulary: int
    accuracy: dict[str, dict[str, dict[str, float]]]
    cached: bool = False

    @property
    def naive(self) -> float:
        """Accuracy at temperature 1 on codes under the seed prompt alone."""
        return self.accuracy["codes"]["0"]["sampled"]

    @property
    def informed(self) -> float:
        """Accuracy at temperature 1 on codes with all 12 rules listed."""
        return self.accuracy["codes"]["12"]["sampled"]

    def __str__(self) -> str:
        counts = list(next(iter(self.accuracy.values())))
        head = f"{'rules listed':<16}" + "".join(f"{n:>14}" for n in counts)
        rows = [
            f"{task:<16}" + "".join(f"{a['sampled']:>8.2f} /{a['greedy']:>4.2f}" for a in by_count.values())
            for task, by_count in self.accuracy.items()
        ]
        made = "cached" if self.cached else f"trained in {self.seconds:.0f} s"
        title = f"tiny policy {self.digest}: {self.parameters:,} parameters, {self.vocabulary} tokens, {made}"
        note = "Accuracy on what it has not seen, at temperature 1 / greedy; 0 rules: the seed prompt alone."
        return "\n".join([title, note, head, *rows])


def recipe_digest(kind: Kind, recipe: Recipe, shape: Shape, seed: int) -> str:
    """16 hex digits over everything that decides the weights."""
    body = hashlib.blake2b(digest_size=8)
    for module in kind.sources:
        body.update(Path(str(module.__file__)).read_bytes())
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")}
    body.update(json.dumps([asdict(recipe), asdict(shape), seed, versions], sort_keys=True).encode())
    return body.hexdigest()


def build(
    folder: str | Path,
    *,
    reads: str = "rules",
    seed: int = 0,
    steps: int | None = None,
    force: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Makes the tiny policy in `folder` unless it stands there already: float32, loadable by transformers and vLLM.

    reads: a name of `KINDS`. seed: of weights and data. steps: pre-training steps, default those of the kind. force:
    train even if up to date.
    threads: of torch while training, default 1 (ours): on a busy machine a second one costs far more than it brings.
    progress: see `train.Progress`.
    Raises ValueError for another kind; FileExistsError where `folder` holds something that is not a tiny policy.
    """
    folder = Path(folder)
    if reads not in KINDS:
        raise ValueError(f"reads={reads!r}: use one of {', '.join(KINDS)}")
    kind, shape = KINDS[reads], Shape()
    recipe = kind.recipe if steps is None else replace(kind.recipe, steps=steps)
    digest = recipe_digest(kind, recipe, shape, seed)
    known = _read_marker(folder)
    if known and known["digest"] == digest and not force:
        return Report(**{**known, "cached": True})
    if known is None and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty and holds no tiny policy: name another folder or empty it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with _torch_settings(threads, seed):
            report = _make(work, kind, recipe, shape, seed, digest, progress)
        (work / MARKER).write_text(json.dumps({**asdict(report), "cached": False}, indent=1) + "\n")
        work.chmod(0o755)
        _swap(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def main(folder: Path, seed: int = 0, force: bool = False, reads: str = "rules") -> None:
    """Builds into `folder` (or finds it up to date); progress goes to stderr, the report to stdout."""

    def progress(step: int, steps: int, figures: dict[str, float]) -> None:
        line = f"\rstep {step}/{steps}  loss {figures['loss']:.2f}  values {figures['values']:.2f}"
        print(line, end="\n" if step == steps else "", file=sys.stderr, flush=True)

    print(build(folder, reads=reads, seed=seed, force=force, progress=progress))


def _make(
    work: Path, kind: Kind, recipe: Recipe, shape: Shape, seed: int, digest: str, progress: Progress | None
) -> Report:
    policy, tokenizer = model.make_model(shape, seed, kind.dialect), model.make_tokenizer(kind.dialect)
    began = time.monotonic()
    train.pretrain(policy, recipe, seed, progress, kind.dialect, kind.lesson)
    seconds = time.monotonic() - began
    policy.save_pretrained(work)
    tokenizer.save_pretrained(work)
    return Report(
        digest=digest,
        seed=seed,
        steps=recipe.steps,
        seconds=round(seconds, 1),
        parameters=sum(p.numel() for p in policy.parameters()),
        vocabulary=len(tokenizer),
        accuracy=kind.reliability(policy),
    )


def _read_marker(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _swap(work: Path, folder: Path) -> None:
    """Puts `work` in the place of `folder`; what stood there goes."""
    old = work.with_name(work.name + ".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(work, folder)
    shutil.rmtree(old, ignore_errors=True)


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
