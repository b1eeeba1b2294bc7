"""One `python -m verl.trainer.main_ppo`, run to its end in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fst_plugin.analysis.read import last_step

from ..command_line import MAIN

METRICS_FILE, LOG_FILE = "metrics.jsonl", "log.txt"


def launch(
    arguments: Sequence[str],
    out: Path,
    on_step: Callable[[int], None] = lambda step: None,
    program: Sequence[str] = MAIN,
    **environment: str,
) -> None:
    """Runs verl with these arguments; its log and its file logger's metrics land in `out`, anew.

    on_step: called with the last step that was logged, twice a second. program: what python runs. environment: more of
    it. Raises RuntimeError, with the log's end, if verl fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    metrics, log = out / METRICS_FILE, out / LOG_FILE
    metrics.unlink(missing_ok=True)
    own = {"VERL_FILE_LOGGER_PATH": str(metrics), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, *program, *arguments]
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **own, **environment}
        )
        try:
            while process.poll() is None:
                on_step(last_step(metrics))
                time.sleep(0.5)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"verl ended with {process.returncode}; {log} ends:\n{end}")
    on_step(last_step(metrics))


def check_jobs(jobs: int, on_cpu: bool) -> None:
    """Raises RuntimeError if this many verl runs at a time would mix up their weights.

    verl names the socket that weights travel through after the Ray job, and every local Ray cluster numbers its first
    job alike. On CPU `cpu.own_socket` tells runs apart; jobs of one cluster have numbers of their own.
    """
    if jobs > 1 and not on_cpu and not os.environ.get("RAY_ADDRESS"):
        raise RuntimeError(
            f"--jobs {jobs}: verl runs on one host would take each other's weights, unless they share a Ray cluster:"
            " ray start --head, set RAY_ADDRESS to its address, and try again; or use --jobs 1"
        )
