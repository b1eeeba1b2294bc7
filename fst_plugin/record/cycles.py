"""What every cycle leaves behind for people: the population, every candidate with what led to it, and the ledger.

cycle_0007/population.json    the prompts carried on, with parents and scores by problem
cycle_0007/candidates.jsonl   one new prompt a line: verdict, margin of its test, the records its reflection saw,
                              and a text diff against its parent
cycle_0007/ledger.json        verdicts counted, the evidence for the lead, the phase's figures
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..optimizer import Candidate, Evolution
from ..prompts import Population
from .atomic import write_json, write_text

POPULATION_FILE, CANDIDATES_FILE, LEDGER_FILE = "population.json", "candidates.jsonl", "ledger.json"


def write_cycle(folder: Path, old: Population, evolution: Evolution) -> None:
    """Writes the three files. old: the population that the phase began with."""
    texts = {prompt.digest: prompt.text for prompt in old.prompts}
    texts |= {c.prompt.digest: c.prompt.text for c in evolution.candidates}
    write_json(folder / POPULATION_FILE, evolution.population.to_json())
    lines = [json.dumps(_candidate(c, texts), ensure_ascii=True) for c in evolution.candidates]
    write_text(folder / CANDIDATES_FILE, "".join(f"{line}\n" for line in lines))
    evidence = None if evolution.evidence is None else asdict(evolution.evidence)
    if evidence is not None and not math.isfinite(evidence["error"]):
        evidence["error"] = None  # a single pair has no spread
    ledger = {
        "old_population": [{"digest": p.digest, "text": p.text} for p in old.prompts],
        "new_population": [p.digest for p in evolution.population.prompts],
        "verdicts": dict(Counter(c.verdict for c in evolution.candidates)),
        "evidence": evidence,
        "metrics": dict(evolution.metrics),
        "warnings": list(evolution.warnings),
    }
    write_json(folder / LEDGER_FILE, ledger)


def diff(old: str, new: str, old_name: str, new_name: str) -> str:
    """A unified diff of two prompts."""
    return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm=""))


def _candidate(candidate: Candidate, texts: Mapping[str, str]) -> dict[str, Any]:
    prompt = candidate.prompt
    parent = prompt.parents[0] if prompt.parents else ""
    return {
        **prompt.to_json(),
        "verdict": candidate.verdict,
        "margin": candidate.margin,
        "records": [{"problem": problem, **asdict(rollout)} for problem, rollout in candidate.records],
        "diff": diff(texts.get(parent, ""), prompt.text, parent, prompt.digest),
    }


def read_candidates(folder: Path) -> list[dict[str, Any]]:
    """The candidates of one cycle as written; none where the cycle left no record of them."""
    path = folder / CANDIDATES_FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


__all__ = ["diff", "read_candidates", "write_cycle"]
