"""Checks that an environment is fit to train on: `check` one, `check_all` everything that needs no arguments.

Each check is a plain function below: Gymnasium's own `check_env`, with warnings as errors; another process with another
hash seed gives the same instances and judges the same answers alike; splits share few questions; gold answers score 1,
and wrong ones 0; there is feedback; the global generators are left alone. The time of a reset and a step and the memory
are measured too. A `Report` holds plain data.

Invariants: whatever makes an environment unfit for training is in `problems`, whatever is merely worth knowing is in
`notes`; an environment that raises is a problem in its report, never an exception.
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import combinations
from multiprocessing import get_context
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from . import ENVIRONMENTS
from .base import SPLITS, EnvironmentFault, ReasoningEnv
from .episodes.episode import BlockingEpisode, run
from .make import make

INSTANCES = 8  # ours: per split
MAX_TURNS = 20  # ours: an episode is left after this many equal wrong answers
MAX_OVERLAP = 0.5  # ours: with more, most validation questions are training questions
WRONG = ("", "banana", "<answer>banana</answer>", r"\boxed{banana}", "<answer>π\x00\u202e\ud800</answer>", "[" * 5000)
"""Texts that answer nothing (ours); the gold answers of other instances are tried besides these."""
GOLD_FORMS = ("{}", "<answer>{}</answer>", r"\boxed{{{}}}")
"""Forms in which an environment may want its gold answer; the first that scores 1 counts."""

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


@dataclass
class Report:
    """What was found about one environment.

    env_id, kwargs: as given to `check`.
    problems: "kind: what is wrong"; empty if the environment is fit to train on.
    notes: what is worth knowing.
    gold: share of instances with a gold answer, 0 to 1.
    overlap: largest share of questions that two splits have in common, 0 to 1.
    feedback: "own", or "made" from reward and observation.
    reset_ms, step_ms: medians, milliseconds.
    memory_mb: growth of resident memory including child processes; None without psutil.
    seconds: what the check took.
    """

    env_id: str
    kwargs: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gold: float = 0.0
    overlap: float = 0.0
    feedback: str = "own"
    reset_ms: float = 0.0
    step_ms: float = 0.0
    memory_mb: float | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def name(self) -> str:
        """The id, and the task if there is one: "fst/ReasoningGym-v0 path_star"."""
        return " ".join(
            [self.env_id.rpartition(":")[2], *([str(self.kwargs["task"])] if "task" in self.kwargs else [])]
        )

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, **asdict(self)}


def check(env_id: str, kwargs: Mapping[str, Any] | None = None, *, instances: int = INSTANCES) -> Report:
    """Checks one environment.

    env_id, kwargs: as in `make`.
    instances: how many of every split to look at, fewer if a split has fewer; default 8 (ours).
    """
    report = Report(env_id, dict(kwargs or {}))
    began = time.monotonic()
    try:
        _check(report, instances)
    except Exception as e:
        report.problems.append(f"raised: {type(e).__name__}: {e}"[:500])
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
        with _generators_untouched(report):
            _gymnasium(report, env)
            if isinstance(env.unwrapped, ReasoningEnv):
                instances = min(instances, env.unwrapped.size)
            questions = _splits(report, env, instances)
            texts = _gold(report, env, questions)
            _wrong(report, env, questions)
            _swapped(report, env, questions, texts)
        if resident is not None and (now := _resident_mb()) is not None:
            report.memory_mb = round(max(0.0, now - resident), 1)
        _other_process(report, env, questions, texts)
    finally:
        env.close()


def _gymnasium(report: Report, env: gym.Env[str, str]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped)
    except (EnvironmentFault, KeyboardInterrupt):
        raise
    except Exception as e:
        report.problems.append(f"check_env: {type(e).__name__}: {e}"[:500])


Infos = dict[int, dict[str, Any]]  # index in train -> info of its reset


def _splits(report: Report, env: gym.Env[str, str], instances: int) -> Infos:
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
                json.dumps(info)
            except TypeError as e:
                raise TypeError(f"reset's info must hold JSON values: {e}") from e
    report.reset_ms = _median_ms(times)
    if absent := [split for split in SPLITS if split not in ids]:
        report.notes.append(f"no instances in {', '.join(absent)}")
    shares = {(a, b): len(ids[a] & ids[b]) / min(len(ids[a]), len(ids[b])) for a, b in combinations(ids, 2)}
    if shares:
        pair = max(shares, key=lambda p: shares[p])
        report.overlap = round(shares[pair], 3)
        shared = f"{' and '.join(pair)} share {report.overlap:.0%} of their first {instances} questions"
        if report.overlap > MAX_OVERLAP:
            report.problems.append(f"overlap: {shared}: make the questions more varied")
        elif report.overlap:
            report.notes.append(f"{shared}: load_splits leaves shared questions out")
    return infos


def _gold(report: Report, env: gym.Env[str, str], infos: Infos) -> dict[int, str]:
    """Plays gold answers; sets gold and step_ms. Returns index -> the gold answer in the form that scores 1."""
    written: dict[int, str] = {}
    times: list[float] = []
    missed = []
    known = {index: info["answer"] for index, info in infos.items() if info.get("answer") is not None}
    report.gold = round(len(known) / max(1, len(infos)), 3)
    if not known:
        report.notes.append("no gold answers")
    for index, answer in known.items():
        text = answer if isinstance(answer, str) else json.dumps(answer)
        for form in GOLD_FORMS:
            env.reset(options={"index": index, "split": "train"})
            began = time.perf_counter()
            reward = env.step(form.format(text))[1]
            times.append(time.perf_counter() - began)
            if reward == 1.0:
                written[index] = form.format(text)
                break
        else:
            missed.append(index)
    if missed:
        report.problems.append(f"gold: the gold answers of train instances {missed} do not score 1")
    report.step_ms = _median_ms(times)
    return written


def _wrong(report: Report, env: gym.Env[str, str], infos: Infos) -> None:
    """Plays texts that answer nothing, and the gold answers of other instances."""
    paid: dict[str, float] = {}
    silent: set[str] = set()
    made = False
    times = []
    for index in list(infos)[:2]:
        for text in WRONG:
            env.reset(options={"index": index, "split": "train"})
            total = 0.0
            for _ in range(MAX_TURNS):
                began = time.perf_counter()
                _, reward, terminated, truncated, info = env.step(text)
                times.append(time.perf_counter() - began)
                total += float(reward)
                made = made or bool(info["feedback_made"])
                if not info["feedback"].strip():
                    silent.add(_shown(text))
                if terminated or truncated:
                    break
            if total != 0.0:
                paid[_shown(text)] = total
    if paid:
        report.problems.append(f"wrong: texts that answer nothing score {paid}: give them reward 0")
    if silent:
        report.problems.append(f"feedback: blank for {sorted(silent)}: say what was wrong")
    if made:
        report.feedback = "made"
        report.notes.append("feedback is made from reward and observation: the environment gives none")
    report.step_ms = report.step_ms or _median_ms(times)


def _swapped(report: Report, env: gym.Env[str, str], infos: Infos, written: dict[int, str]) -> None:
    """Plays the gold answer of one instance on the next, if theirs differ: it should not score."""
    right = []
    indices = list(written)
    for index, other in zip(indices, indices[1:], strict=False):
        if infos[index].get("answer") == infos[other].get("answer"):
            continue
        env.reset(options={"index": index, "split": "train"})
        right.append(float(env.step(written[other])[1]) > 0.0)
    if right and all(right):
        report.problems.append("wrong: the gold answers of other instances score as well")
    elif any(right):
        report.notes.append(f"{sum(right)} of {len(right)} gold answers of another instance score as well")


def _other_process(report: Report, env: gym.Env[str, str], infos: Infos, texts: dict[int, str]) -> None:
    """Plays the same in a child with another hash seed: a fresh environment per instance, in reverse order."""
    there = BlockingEpisode(report.env_id, report.kwargs, isolate=True, retries=0)
    differ: list[str] = []
    try:
        for index in reversed(list(infos)[:4]):
            said = run(there.reset(index, "train"))
            if any(said[1].get(key) != _plain(infos[index].get(key)) for key in ("task_id", "answer")):
                differ.append(f"instance {index}")
                continue
            text = texts.get(index, WRONG[2])
            env.reset(options={"index": index, "split": "train"})
            here = env.step(text)
            if tuple(run(there.step(text))[:4]) != tuple(here[:4]):
                differ.append(f"the answer {_shown(text)} to instance {index}")
    finally:
        run(there.close())
    if differ:
        report.problems.append(f"determinism: another process gives a different result for {', '.join(differ)}")


@contextmanager
def _generators_untouched(report: Report) -> Iterator[None]:
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


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _median_ms(seconds: list[float]) -> float:
    return round(1000 * statistics.median(seconds), 3) if seconds else 0.0


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")


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
