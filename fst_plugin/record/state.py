"""Durable state of the fast weights: one JSON file that a person can read, and the best prompt as plain text.

`state.json` is written last and atomically, so a folder that has it is complete. Everything that binds a population to
its run is in it: the weights it was evolved on, the seed prompt, the dataset.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..prompts import Population
from .atomic import write_json, write_text

FORMAT = 1
STATE_FILE = "state.json"
BEST_PROMPT_FILE = "best_prompt.txt"


@dataclass(frozen=True)
class Counters:
    """Running totals. Rollouts are counted when they are asked for; tokens are those that fast rollouts generated."""

    rollouts_fast: int = 0
    rollouts_slow: int = 0
    reflection_calls: int = 0
    reflection_failures: int = 0
    failed_phases: int = 0
    tokens_fast: int = 0


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
    reward_range: lowest and highest reward that the run has seen, see `RewardBar`; None before the first.
    """

    population: Population
    seed_digest: str
    dataset_digest: str
    weights: str
    cycle: int = -1
    cycle_start: int | None = None
    pending: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()
    counters: Counters = Counters()
    reward_range: tuple[float, float] | None = None

    def count(self, **more: int) -> State:
        """This state with counters raised."""
        now = asdict(self.counters)
        return replace(self, counters=Counters(**{k: v + more.get(k, 0) for k, v in now.items()}))

    def at(self, *, weights: str, pending: tuple[str, ...]) -> State:
        """This state as it goes into a checkpoint."""
        return replace(self, weights=weights, pending=pending)


def save(state: State, folder: Path) -> None:
    """Writes `best_prompt.txt`, then `state.json`."""
    write_text(folder / BEST_PROMPT_FILE, state.population.best.text)
    data = {
        "format": FORMAT,
        "cycle": state.cycle,
        "cycle_start": state.cycle_start,
        "weights": state.weights,
        "seed_digest": state.seed_digest,
        "dataset_digest": state.dataset_digest,
        "counters": asdict(state.counters),
        "pending": list(state.pending),
        "rewards": list(state.rewards),
        "reward_range": None if state.reward_range is None else list(state.reward_range),
        "population": state.population.to_json(),
    }
    write_json(folder / STATE_FILE, data)


def load(folder: Path) -> State:
    """Inverse of `save`. Raises FileNotFoundError if there is no complete state, ValueError if it was edited."""
    try:
        data: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / STATE_FILE} is damaged: {error}") from error
    if data.get("format") != FORMAT:
        raise ValueError(f"{folder / STATE_FILE} has format {data.get('format')!r}; this version reads {FORMAT}")
    return State(
        population=Population.from_json(data["population"]),
        seed_digest=data["seed_digest"],
        dataset_digest=data["dataset_digest"],
        weights=data["weights"],
        cycle=data["cycle"],
        cycle_start=data["cycle_start"],
        pending=tuple(data["pending"]),
        rewards=tuple(data["rewards"]),
        reward_range=tuple(seen) if (seen := data.get("reward_range")) else None,
        counters=Counters(**{k: v for k, v in data["counters"].items() if k in Counters.__dataclass_fields__}),
    )


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
