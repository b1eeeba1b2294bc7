"""Durable state of the fast weights: one JSON file that a person can read, and the best prompt as plain text.

`state.json` is written last and atomically, so a folder that has it is complete. It is sealed, and so are, through it,
the other files of a checkpoint. Everything that binds a population to its run is in it: the weights it was evolved on,
the seed prompt, the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..prompts import Population
from . import sealed
from .archive import Archive
from .atomic import write_text

STATE_FOLDER = "fst"
"""The live folder within a run's folder, and the fast weights' folder within a checkpoint's."""
STATE_FILE = "state.json"
BEST_PROMPT_FILE = "best_prompt.txt"

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Counters:
    """Running totals. Rollouts are counted when they are asked for; tokens are those that fast rollouts generated."""

    rollouts_fast: Count = 0
    rollouts_slow: Count = 0
    reflection_calls: Count = 0
    reflection_failures: Count = 0
    failed_phases: Count = 0
    tokens_fast: Count = 0


@dataclass(frozen=True)
class State:
    """Where the fast weights stand.

    cycle: 0-based number of the running cycle, -1 before the first.
    cycle_start: its first slow step, None before.
    seed_digest: digest of the seed prompt.
    dataset_digest: names the training data.
    weights: names the slow weights that this state goes with.
    pending: ids of the problems fetched ahead and not yet trained on, in order.
    rewards: mean reward of each slow step of the cycle.
    parts: name -> digest of the other files of its checkpoint, without which it is not whole.
    reward_range: lowest and highest reward that the run has seen, see `RewardBar`; None before the first.
    archive: prompts that were let go of; empty in a file of a version that kept none.
    placement: where prompts go in a chat (`fst.context.placement`); empty in a file of a version that did not say.
    """

    population: Population
    seed_digest: str
    dataset_digest: str
    weights: str
    cycle: Annotated[int, Field(ge=-1)] = -1
    cycle_start: Count | None = None
    pending: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()
    counters: Counters = Counters()
    parts: Mapping[str, str] = field(default_factory=dict)
    reward_range: tuple[float, float] | None = None
    archive: Archive = Archive()
    placement: str = ""

    def count(self, **more: int) -> State:
        """This state with counters raised."""
        now = asdict(self.counters)
        return replace(self, counters=Counters(**{k: v + more.get(k, 0) for k, v in now.items()}))


def save(state: State, folder: Path) -> None:
    """Writes `best_prompt.txt`, then `state.json`."""
    write_text(folder / BEST_PROMPT_FILE, state.population.best.text)
    body = {name: value for name, value in asdict(state).items() if name != "population"}
    sealed.write(folder / STATE_FILE, {**body, "population": state.population.to_json()})


def load(folder: Path) -> State:
    """Inverse of `save`. Raises FileNotFoundError if there is no complete state, ValueError if it cannot be used."""
    return sealed.read(folder / STATE_FILE, State)


def refuse_mismatch(
    state: State, *, seed_digest: str, dataset_digest: str, where: Path, data_key: str, start_over: str
) -> None:
    """Raises ValueError, with how to fix it, if a stored state belongs to another seed prompt or other data."""
    if state.seed_digest != seed_digest:
        raise ValueError(
            f"{where} was trained from seed prompt {state.seed_digest}, this run starts from {seed_digest}: restore"
            f" fst.seed_prompt (and the data's system message), or start over with {start_over}"
        )
    if state.dataset_digest != dataset_digest:
        raise ValueError(
            f"{where} was trained on dataset {state.dataset_digest}, this run has {dataset_digest}: restore"
            f" {data_key}, or start over with {start_over}"
        )
