"""Claims and controls through TRL, on CPU with the tiny policy: every run, several at a time, into one file.

    python examples/paper_claims/trl_runs.py --seeds 5 --workers 2 --json runs/results_trl.json.gz
    python examples/paper_claims/trl_runs.py --only claims --seeds 3 --minutes 30     # starts no run after that
    python examples/paper_claims/trl_runs.py --plan            # what would be run; starts nothing
    python examples/paper_claims/make_trl_results.py runs/results_trl.json.gz     # RESULTS_TRL.md

A finished run is in the file and is not repeated, so the program can be stopped at any time and started again. claims:
three tasks of the claims through verl. controls: other ways to spend the same number of rollouts, each tuned by itself.
returns: a task, another one, and the first again, with an archive of prompts and without. Half a minute a run.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trl_plan import QUICK, Job, Sizes, validations, wanted
from trl_train import train

from fst_plugin import __version__
from fst_plugin.record.atomic import replacing
from fst_plugin.router import EXTRA

PARTS = ("controls", "claims", "returns")
OF_A_WORKER = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
"""Environment of the processes that train: one thread each, no GPU, no network."""


class Results:
    """Every finished run, in one file that is whole after each; the order in which they finish does not show in it.

    path: a .json.gz file; it need not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.runs: dict[str, Any] = read_results(path)["runs"] if path.exists() else {}

    def finished(self, job: Job) -> bool:
        """Raises RuntimeError if the file holds a run of this name with other settings."""
        found = self.runs.get(job.name)
        if found is not None and found["job"] != job.identity():
            raise RuntimeError(f"{self.path} holds {job.name} with other settings: give --json another file")
        return found is not None

    def add(self, job: Job, found: Mapping[str, Any]) -> None:
        self.runs[job.name] = {"job": job.identity(), **found, "made": made()}
        text = json.dumps({"runs": dict(sorted(self.runs.items()))}, separators=(",", ":"))
        with replacing(self.path) as file:
            file.write(gzip.compress(text.encode(), mtime=0))


def read_results(path: Path) -> dict[str, Any]:
    return json.loads(gzip.decompress(path.read_bytes()))


def made() -> dict[str, str]:
    """When, and by which versions."""
    found = {name: version(name) for name in ("trl", "transformers", "torch")}
    return {
        "date": datetime.date.today().isoformat(),
        "fst_plugin": __version__,
        "python": platform.python_version(),
        **found,
    }


class Supposed(dict[str, Any]):
    """In place of the finished runs, for a list of everything: all are finished, and alike."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return {"stages": [[[0, {"val-core/": 0.0}]]]}


def run_all(
    results: Results, jobs: Callable[[Mapping[str, Any]], list[Job]], pool: Executor, workers: int, until: float
) -> set[str]:
    """Runs what is wanted, and what that makes possible, until nothing is left or the time is up.

    jobs: finished runs -> what can be run now, in order.
    pool: where it is run, this many at a time.
    until: no run starts after this, in `time.monotonic()`.
    Returns the names of those that failed; each is reported and leaves the others alone.
    """
    running: dict[Future[Any], Job] = {}
    failed: set[str] = set()
    while True:
        known = failed | {job.name for job in running.values()}
        left = [job for job in jobs(results.runs) if not results.finished(job) and job.name not in known]
        late = time.monotonic() >= until
        for job in [] if late else left[: workers - len(running)]:
            running[pool.submit(train, job)] = job
        if not running:
            if left:
                print(f"the time is up: {len(left)} runs that could start now did not", flush=True)
            return failed
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            job, error = running.pop(future), future.exception()
            if isinstance(error, Exception) and not isinstance(error, BrokenExecutor):
                failed.add(job.name)
                print(f"{job.name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            results.add(job, future.result())
            last = results.runs[job.name]
            print(f"{job.name}: {validations(last)[-1]:.3f} after {last['seconds']:.0f} s", flush=True)


def processes(workers: int) -> Executor:
    """Processes that stay, so that each imports torch and TRL once."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


@contextmanager
def environment_of_workers() -> Iterator[None]:
    """Processes started meanwhile have `OF_A_WORKER`, which they read as they import."""
    before = {name: os.environ.get(name) for name in OF_A_WORKER}
    os.environ.update(OF_A_WORKER)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (3)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each (1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="no run starts after this many (no limit)")
    parser.add_argument("--json", type=Path, default=Path("runs/results_trl.json.gz"), help="file of all finished runs")
    parser.add_argument("--quick", action="store_true", help="two steps a run, to try the program out")
    parser.add_argument("--plan", action="store_true", help="list the runs, as if all settings did alike; start none")
    args = parser.parse_args(given)
    until = time.monotonic() + 60 * args.minutes
    results = Results(args.json)

    def jobs(runs: Mapping[str, Any]) -> list[Job]:
        return wanted(args.only or PARTS, range(args.seeds), QUICK if args.quick else Sizes(), runs)

    if args.plan:
        print("\n".join(job.name for job in jobs(Supposed())))
        return 0
    if find_spec("sklearn") is None:
        print(f"the controls' router needs scikit-learn: {EXTRA}", file=sys.stderr)
        return 2
    try:
        with environment_of_workers(), processes(args.workers) as pool:
            failed = run_all(results, jobs, pool, args.workers, until)
    except RuntimeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
