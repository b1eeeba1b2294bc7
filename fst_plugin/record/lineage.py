"""The prompts of a run, read from what its cycles left behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..prompts import Prompt
from .cycles import LEDGER_FILE, POPULATION_FILE, read_candidates
from .state import STATE_FILE, load


@dataclass(frozen=True)
class Entry:
    """One prompt in one cycle. rank: its place in the population, None where it was not carried. score: mean on that
    cycle's `anchors` problems."""

    cycle: int
    digest: str
    parent: str
    origin: str
    verdict: str
    rank: int | None
    score: float
    anchors: int
    text: str


def live_folder(run: Path) -> Path:
    """The folder `fst/` of a run: `run` may be the run's checkpoint folder, one of its global_step_N, or `fst/` itself.

    Raises FileNotFoundError, with the mend, where there is none.
    """
    for folder in (run / "fst", run / "checkpoints" / "fst", run):
        if (folder / STATE_FILE).exists() or any(folder.glob("cycle_*")):
            return folder
    raise FileNotFoundError(f"{run} has no fst/{STATE_FILE}: name the folder of trainer.default_local_dir")


def entries(run: Path) -> list[Entry]:
    """Every prompt of every finished cycle, oldest cycle first; in a cycle the population by rank, then the rest. Of a
    checkpoint (global_step_N) the population that it holds."""
    found = []
    live = live_folder(run)
    if not any(live.glob("cycle_*")):
        state = load(live)
        return [_entry(state.cycle, p.to_json(), "kept", rank) for rank, p in enumerate(state.population.prompts)]
    for folder in sorted(live.glob("cycle_*")):
        path = folder / POPULATION_FILE
        if not path.exists():
            continue
        cycle = int(folder.name.rpartition("_")[2])
        prompts = json.loads(path.read_text(encoding="utf-8"))["prompts"]
        candidates = {c["digest"]: c for c in read_candidates(folder)}
        for rank, data in enumerate(prompts):
            verdict = candidates.get(data["digest"], {}).get("verdict", "kept")
            found.append(_entry(cycle, data, verdict, rank))
        carried = {data["digest"] for data in prompts}
        rest = [c for c in candidates.values() if c["digest"] not in carried]
        found += [_entry(cycle, c, c["verdict"], None) for c in rest]
    return found


def _entry(cycle: int, data: dict[str, Any], verdict: str, rank: int | None) -> Entry:
    parent = data["parents"][0] if data["parents"] else ""
    return Entry(
        cycle,
        data["digest"],
        parent,
        data["origin"],
        verdict,
        rank,
        data["mean_score"],
        len(data["scores"]),
        data["text"],
    )


def best(run: Path) -> Prompt:
    """The prompt that leads. Raises FileNotFoundError where the run has no state yet."""
    return load(live_folder(run)).population.best


def text_of(run: Path, digest: str) -> str:
    """Text of the prompt whose digest begins with `digest`. Raises ValueError where not exactly one does."""
    texts = {entry.digest: entry.text for entry in entries(run)}
    for path in sorted(live_folder(run).glob(f"cycle_*/{LEDGER_FILE}")):
        old = json.loads(path.read_text(encoding="utf-8"))["old_population"]
        texts |= {prompt["digest"]: prompt["text"] for prompt in old}
    texts |= {p.digest: p.text for p in load(live_folder(run)).population.prompts}
    named = sorted(d for d in texts if d.startswith(digest))
    if len(named) != 1:
        raise ValueError(f"{digest!r} names {len(named)} prompts of {run}: see fst prompts {run}")
    return texts[named[0]]
