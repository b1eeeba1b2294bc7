"""What every cycle leaves behind for people, written and read here.

cycle_0007/population.json    the prompts carried on, with parents and scores by problem
cycle_0007/candidates.jsonl   one new prompt a line: verdict, margin of its test, the records its reflection saw,
                              and a text diff against its parent
cycle_0007/problems.jsonl     texts of the problems that they are scored on, in the phase and after (problems.py)
cycle_0007/ledger.json        verdicts counted, the evidence for the lead, the phase's figures

Next to them is the phase's journal (journal.py), whose `evolution.json` marks the cycle as finished and has the digests
of all. Before that they are not read. Reading changes nothing; a file that cannot be used is a ValueError that
names it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
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
from .slow_scores import TRACES_FILE, SlowScores

CHECKPOINT = re.compile(r"(?:global_step_|checkpoint-)(\d+)")
"""Name of a checkpoint's folder: verl's, TRL's."""
POPULATION_FILE, CANDIDATES_FILE, LEDGER_FILE = "population.json", "candidates.jsonl", "ledger.json"
MAX_DIFF = 500
"""Lines up to which two prompts are compared line by line: comparing takes their product (ours)."""

PARTS = (POPULATION_FILE, CANDIDATES_FILE, LEDGER_FILE)


@dataclass(frozen=True)
class Cycle:
    """One fast phase.

    number: of the cycle, 0-based.
    finished: False while the phase runs, or if it was cut off or failed.
    population: the prompts it carried on, best first; empty if it has not finished.
    candidates: every new prompt and what became of it.
    old: digest -> text of the prompts that it began with, best first.
    dropped: those of them that it did not carry on, with the scores that they were dropped by.
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
    dropped: tuple[Prompt, ...] = ()
    evidence: Evidence | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rollouts: int | None = None
    reflections: int | None = None


@dataclass(frozen=True)
class PromptRow:
    """One prompt in one cycle, as every table shows it.

    verdict: a word of `optimizer.Candidate`, or "dropped" if it was carried until this cycle.
    rank: its place in the population; None if it was not carried on.
    was: its place in the population that the cycle began with; None if it is new.
    candidate: its accounts, if it is new.
    evidence: the comparison that decided the lead, if the prompt was a side of it.
    """

    cycle: int
    prompt: Prompt
    verdict: str
    rank: int | None = None
    was: int | None = None
    candidate: Candidate | None = None
    evidence: Evidence | None = None

    @property
    def parent(self) -> str:
        """Digest of its first parent; empty for a seed."""
        return self.prompt.parents[0] if self.prompt.parents else ""


def prompt_rows(cycle: Cycle) -> list[PromptRow]:
    """Every prompt that a cycle had: its population by rank, those that it dropped, then the other new ones."""
    candidates = {c.prompt.digest: c for c in cycle.candidates}
    old = {digest: rank for rank, digest in enumerate(cycle.old)}
    known = {prompt.digest: prompt for prompt in cycle.dropped}
    sides = {cycle.evidence.challenger, cycle.evidence.incumbent} if cycle.evidence else set()

    def row(prompt: Prompt, verdict: str, rank: int | None = None) -> PromptRow:
        digest = prompt.digest
        evidence = cycle.evidence if digest in sides else None
        return PromptRow(cycle.number, prompt, verdict, rank, old.get(digest), candidates.get(digest), evidence)

    carried = {prompt.digest for prompt in cycle.population}
    gone = [d for d in cycle.old if d not in carried and d not in candidates] if cycle.finished else []
    return [
        *(row(prompt, "carried" if rank else "leads", rank) for rank, prompt in enumerate(cycle.population)),
        *(row(known.get(d) or Prompt(cycle.old[d], origin="not recorded"), "dropped") for d in gone),
        *(row(c.prompt, c.verdict) for digest, c in candidates.items() if digest not in carried),
    ]


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
        cycles = [cycle for cycle in self.cycles if cycle.finished]
        if self.state and not cycles:
            cycles = [Cycle(self.state.cycle, True, self.population)]
        return [row for cycle in cycles for row in prompt_rows(cycle)]

    def slow_scores(self) -> SlowScores:
        """What the slow steps up to the run's last checkpoint have scored these prompts on; nothing without one.

        Raises UnusableFile if it is damaged.
        """
        beside = {int(m[1]): path for path in self.folder.parent.iterdir() if (m := CHECKPOINT.fullmatch(path.name))}
        folders = [self.folder, *(beside[step] / durable.STATE_FOLDER for step in sorted(beside, reverse=True))]
        for folder in (one for one in folders if (one / TRACES_FILE).exists()):
            state, own = durable.load(folder), self.state
            if own and (state.cycle, state.population.digest) == (own.cycle, own.population.digest):
                sealed.check_parts(folder, state.parts, [TRACES_FILE])
                return SlowScores.load(folder)
        return SlowScores()

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
        texts |= {entry.prompt.digest: entry.prompt.text for entry in self.state.archive.entries} if self.state else {}
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
        "dropped": [prompt.to_json() for prompt in _dropped(old, evolution)],
        "old_population": [{"digest": p.digest, "text": p.text} for p in old.prompts],
        "new_population": [p.digest for p in evolution.population.prompts],
        "verdicts": dict(Counter(c.verdict for c in evolution.candidates)),
        "evidence": evidence,
        "metrics": dict(evolution.metrics),
        "warnings": list(evolution.warnings),
    }
    write_json(folder / LEDGER_FILE, ledger)
    return sealed.digests(folder, PARTS)


def _dropped(old: Population, evolution: Evolution) -> list[Prompt]:
    """With the scores that the optimizer gives them; an optimizer that names none leaves them without."""
    named = {prompt.digest: prompt for prompt in evolution.dropped}
    kept = {prompt.digest for prompt in evolution.population.prompts}
    return [named.get(p.digest, replace(p, scores={})) for p in old.prompts if p.digest not in kept]


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
        "tested": candidate.tested,
        "error": candidate.error,
        "records": [{"problem": problem, **asdict(rollout)} for problem, rollout in candidate.records],
        "diff": diff(texts.get(parent, ""), prompt.text, parent, prompt.digest),
    }


# ------------------------------------------------------------------------------------------------------------ reading


def live_folder(run: Path) -> Path | None:
    """The folder `fst/` of a run, None if there is none.

    run: that folder itself, the run's checkpoint folder, one of its global_step_N or checkpoint-N, or a folder around
        the checkpoint folder.
    """
    if not run.is_dir():
        return None
    others = [path for path in run.iterdir() if not CHECKPOINT.fullmatch(path.name)]
    inside = sorted(path / durable.STATE_FOLDER for path in others)
    for folder in (run, run / durable.STATE_FOLDER, *inside):
        if (folder / durable.STATE_FILE).exists() or any(folder.glob(f"cycle_*/{IDENTITY_FILE}")):
            return folder
    return None


def read_record(run: Path, journals: bool = False) -> Record:
    """Everything that the fast weights of a run left. run: as `live_folder` takes it. journals: as `read_cycle` does.

    Raises FileNotFoundError, with how to fix it, if `run` has no such folder.
    """
    live = live_folder(run)
    if live is None:
        where = "trainer.default_local_dir (verl) or output_dir (TRL)"
        raise FileNotFoundError(f"{run} has no fst/{durable.STATE_FILE}: name the folder of {where}")
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
        dropped=ledger.dropped,
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
    tested: int = 0
    error: float | None = None

    def candidate(self) -> Candidate:
        shown = tuple((r.problem, _as(Rollout, r)) for r in self.records)
        return Candidate(_as(Prompt, self), self.verdict, self.margin, shown, self.tested, self.error)


@dataclass(frozen=True)
class _Old:
    digest: str
    text: str


def _with_error(evidence: Any) -> Any:
    return {**evidence, "error": math.inf} if isinstance(evidence, dict) and evidence.get("error") is None else evidence


@dataclass(frozen=True)
class _Ledger:
    old_population: tuple[_Old, ...]
    dropped: tuple[Prompt, ...] = ()
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
