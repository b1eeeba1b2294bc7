"""The first use of an environment, Gymnasium's own checks, its splits, and the global generators."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import combinations
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from ..base import SPLITS, EnvironmentFault
from ..contract import contract_of, plain
from ..wrappers import OwnRNG
from .report import Report, median_ms, shown

MAX_OVERLAP = 0.5  # ours: with more, most validation questions are training questions

Infos = dict[int, dict[str, Any]]
"""Index in train -> info of its reset."""


def first_use(report: Report, env: gym.Env[str, str]) -> None:
    """One reset and one step, then Gymnasium's `check_env` with warnings as errors.

    `check_env` is left out if it could only repeat what is reported already. Raises what `reset` raises, and
    ContractError for a wrong shape.
    """
    first, _ = env.reset(options={"index": 0, "split": "train"})
    second, _, _, _, info = env.step("banana")
    contract = contract_of(env)
    report.notes += [f"{what}, as in Gym before 0.26: it is adapted" for what in sorted(contract.adapted)]
    for call, said in (("reset", first), ("step", second)):
        if said not in contract.observation_space:
            report.problems.append(
                f"spaces: the observation {shown(said)} of {call} is not in observation_space "
                f"{contract.observation_space}: use fst_envs.UnicodeText(), which holds any text "
                "(gymnasium.spaces.Text holds letters and digits only, unless it is given a charset)"
            )
            return
    if info["error"] is None:
        with _generators_restored() if _has_own_rng(env) else nullcontext():
            _gymnasium(report, OwnRNG(contract) if _has_own_rng(env) else contract)


def _has_own_rng(env: gym.Env[str, str]) -> bool:
    while isinstance(env, gym.Wrapper) and not isinstance(env, OwnRNG):
        env = env.env
    return isinstance(env, OwnRNG)


@contextmanager
def _generators_restored() -> Iterator[None]:
    """Undoes what an environment does outside of its `OwnRNG`: `check_env` makes fresh ones of its own."""
    before = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _gymnasium(report: Report, env: gym.Env[str, str]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")  # `Contract` is
            check_env(env)
    except (EnvironmentFault, KeyboardInterrupt):
        raise
    except Exception as e:
        report.problems.append(f"check_env: {type(e).__name__}: {e}"[:500])


def splits(report: Report, env: gym.Env[str, str], instances: int) -> Infos:
    """Resets instances of every split; sets overlap and reset_ms. Returns the infos of train."""
    ids: dict[str, set[str]] = {}
    infos: Infos = {}
    times = []
    for split in SPLITS:
        for index in range(instances):
            began = time.perf_counter()
            try:
                _, info = env.reset(options={"index": index, "split": split})
            except (IndexError, ValueError):
                if split == "train" and index == 0:
                    raise
                break  # this split has fewer instances, or none
            times.append(time.perf_counter() - began)
            ids.setdefault(split, set()).add(info["task_id"])
            if split == "train":
                infos[index] = info
            try:
                plain(info)
            except TypeError as e:
                raise TypeError(f"reset's info must hold JSON values: {e}") from e
    report.reset_ms = median_ms(times)
    if absent := [split for split in SPLITS if split not in ids]:
        report.notes.append(f"no instances in {', '.join(absent)}")
    _overlap(report, ids, instances)
    return infos


def _overlap(report: Report, ids: dict[str, set[str]], instances: int) -> None:
    shares = {(a, b): len(ids[a] & ids[b]) / min(len(ids[a]), len(ids[b])) for a, b in combinations(ids, 2)}
    if not shares:
        return
    pair = max(shares, key=lambda p: shares[p])
    report.overlap = round(shares[pair], 3)
    shared = f"{' and '.join(pair)} share {report.overlap:.0%} of their first {instances} questions"
    if report.overlap > MAX_OVERLAP:
        report.problems.append(f"overlap: {shared}: make the questions more varied")
    elif report.overlap:
        report.notes.append(f"{shared}: load_splits leaves shared questions out")


@contextmanager
def generators_untouched(report: Report) -> Iterator[None]:
    """Reports a problem if the global generators were drawn from or seeded inside the block."""
    before = _generators()
    yield
    if _generators() != before:
        report.problems.append(
            "global generators: it draws from them or reseeds them: declare metadata['global_rng'] = True, or make it "
            "with wrap={'own_rng': True}"
        )


def _generators() -> tuple[Any, ...]:
    state = np.random.get_state(legacy=True)
    return random.getstate(), state[1].tobytes(), state[2:]  # type: ignore[index,union-attr]
