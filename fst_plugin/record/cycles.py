"""What every cycle leaves behind for people, written and read here.

cycle_0007/population.json    the prompts carried on, with parents and scores by problem
cycle_0007/candidates.jsonl   one new prompt a line: verdict, margin of its test, the records its reflection saw,
                              and a text diff against its parent
cycle_0007/ledger.json        verdicts counted, the evidence for the lead, the phase's figures

Next to them is the phase's journal (journal.py), whose `evolution.json` marks the cycle as finished. Reading changes
nothing; a file that cannot be used is a ValueError that names it.
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..optimizer import Candidate, Evidence, Evolution
from ..prompts import Population, Prompt
from ..rollouts import Rollout
from . import state as durable
from .atomic import write_json, write_text
from .journal import EVOLUTION_FILE, IDENTITY_FILE, read_calls, read_evolution

POPULATION_FILE, CANDIDATES_FILE, LEDGER_FILE = "population.json", "candidates.jsonl", "ledger.json"
MAX_DIFF = 500
"""Lines up to which two prompts are compared line by line: comparing takes their product (ours)."""


@dataclass(frozen=True)
class Cycle:
    """One fast phase.

    number: of the cycle, 0-based.
    finished: False while the phase runs, or if it was cut off or failed.
    population: the prompts it carried on, best first; empty if it has not finished.
    candidates: every new prompt and what became of it.
    old: digest -> text of the prompts that it began with.
    evidence: the comparison that decided the lead; None if there was none.
    metrics: figures of the phase, name -> number.
    warnings: lines a person should see.
    rollouts, reflections: what its journal paid for; None if the journal was not read, or there is none.
    """

    number: int
    finished: bool
    population: tuple[Prompt, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    old: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rollouts: int | None = None
    reflections: int | None = None


@dataclass(frozen=True)
class PromptRow:
    """One prompt in one cycle, as every table shows it.

    verdict: a word of `optimizer.Candidate`, or "seed" for the seed prompt.
    rank: its place in the population; None if it was not carried on.
    """

    cycle: int
    prompt: Prompt
    verdict: str
    rank: int | None = None

    @property
    def parent(self) -> str:
        """Digest of its first parent; empty for a seed."""
        return self.prompt.parents[0] if self.prompt.parents else ""


def prompt_rows(cycle: Cycle, seed_digest: str | None) -> list[PromptRow]:
    """The prompts of a cycle: its population by rank, then the candidates that it did not carry on."""
    verdicts = {c.prompt.digest: c.verdict for c in cycle.candidates}
    if seed_digest is not None:
        verdicts[seed_digest] = "seed"
    rows = []
    for rank, prompt in enumerate(cycle.population):
        verdict = verdicts.get(prompt.digest, "carried" if rank else "leads")
        rows.append(PromptRow(cycle.number, prompt, verdict, rank))
    carried = {prompt.digest for prompt in cycle.population}
    rest = [c.prompt for c in cycle.candidates if c.prompt.digest not in carried]
    return [*rows, *(PromptRow(cycle.number, prompt, verdicts[prompt.digest]) for prompt in rest)]


@dataclass(frozen=True)
class Record:
    """What the fast weights of a run have left in `folder`.

    state: where they stand; None before the first phase has finished.
    cycles: by number; empty for a checkpoint, which holds the state alone.
    """

    folder: Path
    state: durable.State | None
    cycles: tuple[Cycle, ...]

    @property
    def population(self) -> tuple[Prompt, ...]:
        """The prompts that they stand with, best first; empty without a state."""
        return self.state.population.prompts if self.state else ()

    def rows(self) -> list[PromptRow]:
        """The prompts of every finished cycle, oldest cycle first; of a checkpoint, its population."""
        seed = self.state.seed_digest if self.state else None
        cycles = [cycle for cycle in self.cycles if cycle.finished]
        if self.state and not cycles:
            cycles = [Cycle(self.state.cycle, True, self.population)]
        return [row for cycle in cycles for row in prompt_rows(cycle, seed)]

    def best(self) -> Prompt:
        """The prompt that leads. Raises ValueError if there is no state yet."""
        if not self.population:
            raise ValueError(f"{self.folder} has no {durable.STATE_FILE} yet: wait for the first fast phase to finish")
        return self.population[0]

    def text_of(self, digest: str) -> str:
        """Text of the prompt whose digest begins with `digest`. Raises ValueError unless exactly one does."""
        texts = {old: text for cycle in self.cycles for old, text in cycle.old.items()}
        texts |= {row.prompt.digest: row.prompt.text for row in self.rows()}
        texts |= {prompt.digest: prompt.text for prompt in self.population}
        named = sorted(known for known in texts if known.startswith(digest))
        if len(named) != 1:
            raise ValueError(f"{digest!r} names {len(named)} prompts of {self.folder}: fst prompts --all lists them")
        return texts[named[0]]


# ------------------------------------------------------------------------------------------------------------ writing


def write_cycle(folder: Path, old: Population, evolution: Evolution) -> None:
    """Writes the three files. old: the population that the phase began with."""
    texts = {prompt.digest: prompt.text for prompt in old.prompts}
    texts |= {c.prompt.digest: c.prompt.text for c in evolution.candidates}
    write_json(folder / POPULATION_FILE, evolution.population.to_json())
    lines = [json.dumps(_candidate_to_json(c, texts), ensure_ascii=True) for c in evolution.candidates]
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
    """A unified diff of two prompts. Of texts with more than `MAX_DIFF` lines, all between the first and the last
    difference is shown as replaced whole, and the diff says so."""
    a, b = old.splitlines(), new.splitlines()
    if max(len(a), len(b)) <= MAX_DIFF:
        return "\n".join(difflib.unified_diff(a, b, old_name, new_name, lineterm=""))
    head = _common(a, b)
    tail = _common(a[head:][::-1], b[head:][::-1])
    out, into = a[head : len(a) - tail], b[head : len(b) - tail]
    if not out and not into:
        return ""
    places = f"@@ -{head + bool(out)},{len(out)} +{head + bool(into)},{len(into)} @@"
    said = f"{places} more than {MAX_DIFF} lines: not compared one by one"
    return "\n".join([f"--- {old_name}", f"+++ {new_name}", said, *(f"-{x}" for x in out), *(f"+{x}" for x in into)])


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many lines both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _candidate_to_json(candidate: Candidate, texts: Mapping[str, str]) -> dict[str, Any]:
    prompt = candidate.prompt
    parent = prompt.parents[0] if prompt.parents else ""
    return {
        **prompt.to_json(),
        "verdict": candidate.verdict,
        "margin": candidate.margin,
        "records": [{"problem": problem, **asdict(rollout)} for problem, rollout in candidate.records],
        "diff": diff(texts.get(parent, ""), prompt.text, parent, prompt.digest),
    }


# ------------------------------------------------------------------------------------------------------------ reading


def live_folder(run: Path) -> Path | None:
    """The folder `fst/` of a run, None if there is none.

    run: that folder itself, the run's checkpoint folder, one of its global_step_N, or a folder around the former.
    """
    if not run.is_dir():
        return None
    inside = sorted(path / "fst" for path in run.iterdir() if not path.name.startswith("global_step_"))
    for folder in (run, run / "fst", *inside):
        if (folder / durable.STATE_FILE).exists() or any(folder.glob(f"cycle_*/{IDENTITY_FILE}")):
            return folder
    return None


def read_record(run: Path, journals: bool = False) -> Record:
    """Everything that the fast weights of a run left. run: as `live_folder` takes it. journals: as `read_cycle` does.

    Raises FileNotFoundError, with how to fix it, if `run` has no such folder.
    """
    live = live_folder(run)
    if live is None:
        raise FileNotFoundError(f"{run} has no fst/{durable.STATE_FILE}: name the folder of trainer.default_local_dir")
    state = None
    if (live / durable.STATE_FILE).exists():
        with _named(live / durable.STATE_FILE):
            state = durable.load(live)
    folders = sorted(folder for folder in live.glob("cycle_*") if folder.is_dir())
    return Record(live, state, tuple(read_cycle(folder, journals) for folder in folders))


def read_cycle(folder: Path, journal: bool = False) -> Cycle:
    """One cycle, as far as it has gone. journal: also count what its journal paid for, which reads all of it."""
    number = folder.name.removeprefix("cycle_")
    if not number.isdigit():
        raise ValueError(f"{folder} is not a cycle_NNNN: move it away")
    with _named(folder / EVOLUTION_FILE):
        evolution = read_evolution(folder)
    with _named(folder / LEDGER_FILE) as path:
        ledger = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        old = {prompt["digest"]: prompt["text"] for prompt in ledger.get("old_population", ())}
        evidence = _evidence(ledger.get("evidence"))
    with _named(folder / CANDIDATES_FILE) as path:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ()
        candidates = tuple(_candidate(json.loads(line)) for line in lines)
    calls = read_calls(folder) if journal else []
    asked = {kind: sum(len(c["answer"]) for c in calls if c["kind"] == kind) for kind in ("evaluate", "reflect")}
    return Cycle(
        number=int(number),
        finished=evolution is not None,
        population=evolution.population.prompts if evolution else (),
        candidates=candidates,
        old=old,
        evidence=evidence,
        metrics=evolution.metrics if evolution else {},
        warnings=evolution.warnings if evolution else (),
        rollouts=asked["evaluate"] if calls else None,
        reflections=asked["reflect"] if calls else None,
    )


def _candidate(data: Mapping[str, Any]) -> Candidate:
    records = [dict(record) for record in data["records"]]
    shown = tuple((record.pop("problem"), Rollout(**record)) for record in records)
    return Candidate(Prompt.from_json(data), data["verdict"], data["margin"], shown)


def _evidence(data: Mapping[str, Any] | None) -> Evidence | None:
    if data is None:
        return None
    return Evidence(**{**data, "error": math.inf if data["error"] is None else data["error"]})


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """Turns whatever is wrong with a file's content into a ValueError that names the file."""
    try:
        yield path
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or edited ({error}): restore it or move it away") from error


__all__ = [
    "Cycle",
    "PromptRow",
    "Record",
    "diff",
    "live_folder",
    "prompt_rows",
    "read_cycle",
    "read_record",
    "write_cycle",
]
