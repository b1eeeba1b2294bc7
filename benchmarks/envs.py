"""python benchmarks/envs.py --json FILE [--concurrent 1000]

What environments cost: (1) a reset and a step of every environment and adapter whose library is installed, called
directly, through `Episode` (a thread) and through `Episode(isolate=True)` (a child process); (2) CPU time per episode
with 1,000 episodes of one environment under way at once. Exit status 1 if an episode of (2) takes 5% of a core-second
or more. To measure an adapter, run this with the Python of a virtual environment that has its library. CPU time counts
all threads of this process and its children, so other load on the machine hardly affects it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("envs", "tests/adapters")]
# a child process started by an environment must find them too
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])

import gymnasium as gym  # noqa: E402
from fst_envs import EnvironmentFault, make  # noqa: E402
from fst_envs.episodes.episode import BlockingEpisode, Episode, play, run  # noqa: E402

EPISODES = 60  # ours, per environment; a slow one stops after SECONDS
SECONDS = 5.0  # ours, per environment and way of calling
LIMIT_S = 0.05  # 5% of a core-second per episode
OWN = ("fst/HouseRules-v0", "fst/SecondTry-v0", "fst/StarGraph-v0")
REASONING_GYM = ("path_star", "chain_sum", "countdown", "sudoku", "codeio")

SUMS = [
    {"prompt": [{"role": "user", "content": f"{i} + 1?"}], "reward_spec": {"ground_truth": str(i)}} for i in range(99)
]
CLAIMS = [{"claim": f"Claim {i}.", "label": i % 2} for i in range(99)]
PROBLEMS = [{"problem": f"What is {i}/2?", "answer": rf"\frac{{{i}}}{{2}}"} for i in range(99)]


def targets(folder: Path) -> list[tuple[str, dict[str, Any], str]]:
    """(id, kwargs, a text to answer with) of all that is to be measured, installed or not."""
    files = {}
    for name, rows in (("sums", SUMS), ("claims", CLAIMS), ("problems", PROBLEMS)):
        files[name] = str(folder / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    guess = {"target": "openenv_guess:GuessEnvironment", "action_type": "openenv_guess:Guess"}
    return [
        *((name, {}, "<path>1,2</path>") for name in OWN),
        *(("fst/ReasoningGym-v0", {"task": task}, "<answer>12</answer>") for task in REASONING_GYM),
        ("fst/HoVer-v0", {"file": files["claims"]}, "<answer>SUPPORTED</answer>"),
        ("fst/Polaris-v0", {"file": files["problems"]}, r"\boxed{\frac{1}{2}}"),
        ("fst/Gem-v0", {"task": "game:GuessTheNumber-v0-hard"}, r"\boxed{25}"),
        ("fst/TextArena-v0", {"task": "GuessTheNumber-v0"}, "[10]"),
        ("fst/OpenEnv-v0", guess, "5"),
        ("fst/SkyRLGym-v0", {"task": "gsm8k", "file": files["sums"]}, "#### 5"),
    ]


def cpu_s() -> float:
    """CPU seconds of this process and its ended children so far; with psutil, of its running children too."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    try:
        import psutil
    except ImportError:
        return total
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            pass  # it has just ended
    return total


def medians(start: Callable[[int], Any], step: Callable[[], Any], first: int = 0) -> tuple[float, float]:
    """Medians of a reset and of a step, in milliseconds of wall clock, over episodes of one step from index `first`."""
    resets, steps = [], []
    start(first)  # not counted, for what happens once: imports, a child's start
    step()
    deadline = time.monotonic() + SECONDS
    for index in range(first + 1, first + EPISODES):
        began = time.perf_counter()
        start(index)
        between = time.perf_counter()
        step()
        resets.append(between - began)
        steps.append(time.perf_counter() - between)
        if time.monotonic() > deadline:
            break
    return 1000 * statistics.median(resets), 1000 * statistics.median(steps)


def measure(name: str, kwargs: dict[str, Any], text: str) -> dict[str, Any]:
    """One row of the table. Raises DependencyNotInstalled if the library is missing."""
    env_id = f"fst_envs:{name}"
    env = make(env_id, **kwargs)
    row: dict[str, Any] = {"env": f"{name} {kwargs['task']}" if "task" in kwargs else name}
    row["reset_ms"], row["step_ms"] = medians(
        lambda i: env.reset(options={"index": i, "split": "train"}), lambda: env.step(text)
    )
    env.close()
    for way, isolate in (("thread", False), ("process", True)):
        episode = BlockingEpisode(env_id, kwargs, isolate=isolate, retries=0)
        first = EPISODES if name == "fst/ReasoningGym-v0" else 0  # so that its process has not built these items yet
        resets, steps = medians(lambda i, e=episode: run(e.reset(i)), lambda e=episode: run(e.step(text)), first)
        run(episode.close())
        row[f"reset_{way}_ms"], row[f"step_{way}_ms"] = resets, steps
    return {key: value if isinstance(value, str) else round(value, 4) for key, value in row.items()}


def concurrent(name: str, episodes: int) -> dict[str, Any]:
    """Plays `episodes` at once: no text is sent before every episode has asked its question."""

    async def main() -> int:
        asked, all_asked = 0, asyncio.Event()
        most = 0

        async def policy(messages: list[dict[str, str]]) -> str:
            nonlocal asked, most
            asked += len(messages) == 1
            if asked == episodes:
                most = max(most, threading.active_count())
                all_asked.set()
            await all_asked.wait()
            await asyncio.sleep(random.random() * 0.2)  # as if a model wrote
            return "<path>1,2</path>"

        games = [play(Episode(f"fst_envs:{name}", retries=0), policy, i % 100) for i in range(episodes)]
        played = await asyncio.gather(*games)
        assert all(game.stop == "terminated" for game in played)
        return most

    asyncio.run(play(Episode(f"fst_envs:{name}"), lambda messages: "x", 0))  # imports are not counted
    began, cpu = time.perf_counter(), cpu_s()
    threads = asyncio.run(main())
    took, spent = time.perf_counter() - began, cpu_s() - cpu
    return {
        "env": name,
        "episodes": episodes,
        "threads_at_once": threads,
        "wall_s": round(took, 3),
        "cpu_s_per_episode": round(spent / episodes, 6),
        "ok": spent / episodes < LIMIT_S,
    }


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """The rows as text with aligned columns."""
    lines = [[f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    cells = [columns, *lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--concurrent", type=int, default=1000, help="episodes at once (default 1000)")
    arguments = parser.parse_args()
    costs, absent = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kwargs, text in targets(Path(folder)):
            try:
                costs.append(measure(name, kwargs, text))
            except (gym.error.DependencyNotInstalled, EnvironmentFault, ValueError) as e:  # or a version without it
                absent[f"{name} {kwargs.get('task', '')}".strip()] = str(e)[:160]
    print(table(costs, [c for c in costs[0]]))
    for name, reason in absent.items():
        print(f"not measured: {name}: {reason}")
    many = [concurrent(name, arguments.concurrent) for name in OWN]
    print(f"\n{arguments.concurrent} episodes at once:")
    print(table(many, ["env", "episodes", "threads_at_once", "wall_s", "cpu_s_per_episode", "ok"]))
    worst = max(row["cpu_s_per_episode"] for row in many)
    print(f"\nlimit {LIMIT_S:g} s of CPU per episode; worst {worst:.4f} s: {'met' if worst < LIMIT_S else 'NOT met'}")
    if arguments.json is not None:
        figures = {"costs": costs, "not_measured": absent, "concurrent": many, "limit_s": LIMIT_S}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if worst < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
