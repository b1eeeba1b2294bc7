"""Checks that an environment is fit to train on: `check` one, `check_all` everything that needs no arguments.

The parts are plain functions of `checks`: what it returns has the right shape; Gymnasium's own `check_env`, with
warnings as errors; another process with another hash seed gives the same instances and judges the same answers alike;
splits share few questions; gold answers score best, and texts that answer nothing are not paid; no text raises; there
is feedback; the global generators are left alone. The time of a reset and a step and the memory are measured too.

Invariants: whatever makes an environment unfit for training is in `problems`, whatever is merely worth knowing is in
`notes`; an environment that raises is a problem in its report, never an exception.
"""

from __future__ import annotations

import importlib.util
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from . import ENVIRONMENTS
from .base import ReasoningEnv
from .checks.instances import first_use, generators_untouched, splits
from .checks.report import Report
from .checks.texts import other_process, texts
from .contract import ContractError
from .make import make

INSTANCES = 8  # ours: per split

NEED_ARGUMENTS: Mapping[str, str] = {
    "fst/CodeIO-v0": "file",
    "fst/HoVer-v0": "file",
    "fst/Polaris-v0": "file",
    "fst/Physics-v0": "file",
    "fst/Gem-v0": "task",
    "fst/OpenEnv-v0": "url or target",
    "fst/SkyRLGym-v0": "task and file",
    "fst/TextArena-v0": "task",
}
"""Own ids that need these arguments: `check_all` leaves them out, `check` takes them."""


def check(env_id: str, kwargs: Mapping[str, Any] | None = None, *, instances: int = INSTANCES) -> Report:
    """Checks one environment.

    env_id, kwargs: as in `make`.
    instances: how many of every split to look at, at least 1, fewer if a split has fewer; default 8 (ours).
    Raises ValueError for instances below 1.
    """
    if instances < 1:
        raise ValueError(f"instances={instances}: use at least 1, else nothing is checked")
    report = Report(env_id, dict(kwargs or {}))
    began = time.monotonic()
    try:
        _check(report, instances)
    except ContractError as e:
        report.problems.append(f"contract: {e}")
    except Exception as e:
        report.problems.append(f"raised: {type(e).__name__}: {e}"[:500] + _where(e))
    report.seconds = round(time.monotonic() - began, 3)
    return report


def check_all(*, jobs: int = 1, instances: int = INSTANCES) -> Iterator[Report]:
    """Checks everything in `targets`, in order; with several jobs, in this many processes."""
    if jobs == 1:
        yield from (check(*target, instances=instances) for target in targets())
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(check, *target, instances=instances) for target in targets()]:
            yield future.result()


def targets() -> list[tuple[str, dict[str, Any]]]:
    """(id, kwargs) of every own environment that needs no arguments, and of all reasoning-gym tasks."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in ENVIRONMENTS:
        if name == "fst/ReasoningGym-v0":
            from .reasoning.env import EAGER, tasks

            if importlib.util.find_spec("reasoning_gym") is not None:
                found += [(f"fst_envs:{name}", {"task": t} | ({"size": 500} if t in EAGER else {})) for t in tasks()]
        elif name not in NEED_ARGUMENTS:
            found.append((f"fst_envs:{name}", {}))
    return found


def left_out() -> dict[str, str]:
    """Name -> why `check_all` leaves it out."""
    from .reasoning.env import DENIED

    found = {name: f"needs {what}" for name, what in NEED_ARGUMENTS.items() if name in ENVIRONMENTS}
    if importlib.util.find_spec("reasoning_gym") is None:
        return {**found, "fst/ReasoningGym-v0": "reasoning-gym is not installed"}
    return {**found, **{f"fst/ReasoningGym-v0 {task}": f"refused: {reason}" for task, reason in DENIED.items()}}


def _check(report: Report, instances: int) -> None:
    resident = _resident_mb()
    env = make(report.env_id, **report.kwargs)
    try:
        with generators_untouched(report):
            first_use(report, env)
            if isinstance(env.unwrapped, ReasoningEnv):
                instances = min(instances, env.unwrapped.size)
            infos = splits(report, env, instances)
            gold = texts(report, env, infos)
        if resident is not None and (now := _resident_mb()) is not None:
            report.memory_mb = round(max(0.0, now - resident), 1)
        other_process(report, env, infos, gold)
    finally:
        env.close()


def _where(e: Exception) -> str:
    """The last line of somebody else's code on the way to `e`: " (my_envs.py:12, in reset)"; "" if there is none."""
    own = Path(__file__).parent
    for frame in reversed(traceback.extract_tb(e.__traceback__)):
        path = Path(frame.filename)
        if own in path.parents:
            return ""
        if "gymnasium" not in path.parts and path.exists():
            return f" ({path.name}:{frame.lineno}, in {frame.name})"
    return ""


def _resident_mb() -> float | None:
    try:
        import psutil
    except ImportError:
        return None
    own = psutil.Process()
    total = own.memory_info().rss
    for child in own.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            pass  # it has just ended
    return total / 2**20
