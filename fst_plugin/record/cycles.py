"""What every cycle leaves behind for people, written and read here.

cycle_0007/population.json    the prompts carried on, with parents and scores by problem
cycle_0007/candidates.jsonl   one new prompt a line: verdict, margin of its test, the records its reflection saw,
                              and a text diff against its parent
cycle_0007/ledger.json        verdicts counted, the evidence for the lead, the phase's figures

Next to them is the phase's journal (journal.py), whose `evolution.json` marks the cycle as finished and has the digests
of the three. Before that they are not read. Reading changes nothing; a file that cannot be used is a ValueError that
names it.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from ..optimizer import Candidate, Evidence, Evolution
from ..prompts import Population, Prompt
from ..rollouts import Rollout
from . import sealed
from . import state as durable
from .atomic import write_json
from .calls import read_calls
from .journal import IDENTITY_FILE, read_outcome

POPULATION_FILE, CANDIDATES_FILE, LEDGER_FILE = "population.json", "candidates.jsonl", "ledger.json"

PARTS = (POPULATION_FILE, CANDIDATES_FILE, LEDGER_FILE)


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
    rollouts, reflections: what it asked for; None while it is not known.
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


def write_cycle(folder: Path, old: Population, evolution: Evolution) -> dict[str, str]:
    """Writes the three files and returns their digests, by name. old: the population that the phase began with."""
    texts = {prompt.digest: prompt.text for prompt in old.prompts}
    texts |= {c.prompt.digest: c.prompt.text for c in evolution.candidates}
    write_json(folder / POPULATION_FILE, evolution.population.to_json())
    sealed.write_lines(folder / CANDIDATES_FILE, (_candidate_to_json(c, texts) for c in evolution.candidates))
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
    return sealed.digests(folder, PARTS)


def diff(old: str, new: str, old_name: str, new_name: str) -> str:
    """A unified diff of two prompts."""
    return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm=""))


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
        state = durable.load(live)
    folders = sorted(folder for folder in live.glob("cycle_*") if folder.is_dir())
    return Record(live, state, tuple(read_cycle(folder, journals) for folder in folders))


def read_cycle(folder: Path, journal: bool = False) -> Cycle:
    """One cycle, as far as it has gone. journal: of one that is running, also count what it asked for so far, which
    reads all of its journal."""
    number = folder.name.removeprefix("cycle_")
    if not number.isdigit():
        raise ValueError(f"{folder} is not a cycle_NNNN: move it away")
    outcome = read_outcome(folder)
    if outcome is None:
        asked: Counter[str] = Counter()
        for call in read_calls(folder) if journal else ():
            asked[call.kind] += len(call.answer)
        rollouts, reflections = (asked["evaluate"], asked["reflect"]) if asked else (None, None)
        return Cycle(int(number), finished=False, rollouts=rollouts, reflections=reflections)
    sealed.check_parts(folder, outcome.parts, PARTS)
    ledger = sealed.read_json(folder / LEDGER_FILE, _Ledger)
    return Cycle(
        number=int(number),
        finished=True,
        population=outcome.population.prompts,
        candidates=tuple(line.candidate() for line in sealed.read_lines(folder / CANDIDATES_FILE, _CandidateLine)),
        old={prompt.digest: prompt.text for prompt in ledger.old_population},
        evidence=ledger.evidence,
        metrics=outcome.metrics,
        warnings=outcome.warnings,
        rollouts=outcome.rollouts,
        reflections=outcome.reflections,
    )


@dataclass(frozen=True)
class _Shown(Rollout):
    problem: str = ""


@dataclass(frozen=True)
class _CandidateLine(Prompt):
    verdict: str = ""
    margin: float | None = None
    records: tuple[_Shown, ...] = ()

    def candidate(self) -> Candidate:
        return Candidate(
            _as(Prompt, self), self.verdict, self.margin, tuple((r.problem, _as(Rollout, r)) for r in self.records)
        )


@dataclass(frozen=True)
class _Old:
    digest: str
    text: str


def _with_error(evidence: Any) -> Any:
    return {**evidence, "error": math.inf} if isinstance(evidence, dict) and evidence.get("error") is None else evidence


@dataclass(frozen=True)
class _Ledger:
    old_population: tuple[_Old, ...]
    evidence: Annotated[Evidence | None, BeforeValidator(_with_error)] = None


def _as(kind: Any, wider: Any) -> Any:
    """The part of a dataclass that a base of it holds."""
    return kind(**{f.name: getattr(wider, f.name) for f in fields(kind)})


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
