"""Wrappers for str -> str environments, in Gymnasium's way: they nest, and `env.spec` remembers them.

    env = BinaryReward(ExtractAnswer(make("fst_envs:fst/StarGraph-v0"), "boxed"), threshold=0.5)

By plain data, so that they travel in the `env_kwargs` of a row: `make(env_id, wrap={"extract": "boxed"})`, keys as in
`wrapped`. They expect the infos of `TextEnv`, which `make` gives every environment.
Invariant: what a wrapper changes in an info, it changes in a copy.
"""

from __future__ import annotations

import random
import re
import string
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from .base import EnvironmentFault, split_seed

Turn = tuple[str, float, bool, bool, dict[str, Any]]

# --- which part of a text is the answer


def last_tag(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>`, stripped; None where there is none."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return None if start < 0 else text[start + len("<answer>") : end].strip()


_BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_boxed(text: str) -> str | None:
    r"""What stands in the last (innermost) `\boxed{...}` whose braces balance, stripped; `\{` and `\}` do not count."""
    opened: list[tuple[int, bool]] = []
    found: tuple[int, str] | None = None
    for match in _BRACES.finditer(text):
        token = match.group()
        if token[-1] == "{" and token != r"\{":
            opened.append((match.end(), token != "{"))
        elif token == "}" and opened:
            start, boxed = opened.pop()
            if boxed and (found is None or start > found[0]):
                found = start, text[start : match.start()].strip()
    return None if found is None else found[1]


def last_line(text: str) -> str | None:
    """The last line that is not blank, stripped; None where all are."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


EXTRACTORS: Mapping[str, tuple[Callable[[str], str | None], str]] = {
    "tag": (last_tag, "between <answer> and </answer>"),
    "boxed": (last_boxed, r"in \boxed{...}"),
    "line": (last_line, "on the last line"),
}
"""kind -> (what finds the answer, where it must stand in words)."""


class ExtractAnswer(gym.ActionWrapper[str, str, str], RecordConstructorArgs):
    r"""Passes on only the answer that stands in a text.

    kind: "tag" (`<answer>...</answer>`), "boxed" (`\boxed{...}`), "line" (the last one), or several in order of
        preference. Default "tag" (ours). Where nothing is found the environment gets "", and the feedback begins with
        where the answer must stand.
    """

    def __init__(self, env: gym.Env[str, str], kind: str | Sequence[str] = "tag"):
        kinds = [kind] if isinstance(kind, str) else list(kind)
        if not kinds or not set(kinds) <= set(EXTRACTORS):
            raise ValueError(f"extract={kind!r}: use one or several of {', '.join(EXTRACTORS)}")
        RecordConstructorArgs.__init__(self, kind=kind)
        gym.ActionWrapper.__init__(self, env)
        self.kinds = kinds

    def find(self, text: str) -> str | None:
        """The answer in a text, None where there is none."""
        return next((found for k in self.kinds if (found := EXTRACTORS[k][0](text)) is not None), None)

    def action(self, action: str) -> str:
        return (self.find(action) or "") if isinstance(action, str) else action

    def step(self, action: str) -> Turn:
        observation, reward, terminated, truncated, info = self.env.step(self.action(action))
        if self.find(action) is None:
            where = " or ".join(EXTRACTORS[kind][1] for kind in self.kinds)
            info = {
                **info,
                "feedback": f"No answer was found: it must stand {where}. {info.get('feedback', '')}".strip(),
            }
        return observation, float(reward), terminated, truncated, info


class BinaryReward(gym.RewardWrapper[str, str], RecordConstructorArgs):
    """Reward 1.0 where the environment's is at least `threshold`, else 0.0. threshold: default 1.0 (ours)."""

    def __init__(self, env: gym.Env[str, str], threshold: float = 1.0):
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
            raise ValueError(f"binary={threshold!r}: use the least reward that counts as 1, a number")
        RecordConstructorArgs.__init__(self, threshold=threshold)
        gym.RewardWrapper.__init__(self, env)
        self.threshold = threshold

    def reward(self, reward: Any) -> float:
        return 1.0 if float(reward) >= self.threshold else 0.0


class MaxTurns(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Truncates an episode after `turns` texts, with `info["stop"]` "max_turns"; feedback says so.

    Gymnasium's TimeLimit says nothing in the feedback, and a spec does not remember where among the wrappers it stood.
    """

    def __init__(self, env: gym.Env[str, str], turns: int):
        if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
            raise ValueError(f"max_turns={turns!r}: use a whole number of at least 1")
        RecordConstructorArgs.__init__(self, turns=turns)
        gym.Wrapper.__init__(self, env)
        self.turns, self._turn = turns, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._turn = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> Turn:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._turn += 1
        if self._turn >= self.turns and not (terminated or truncated):
            said = f"{info.get('feedback', '')} No turn is left ({self.turns} at most)."
            truncated, info = True, {**info, "feedback": said.strip(), "stop": "max_turns"}
        return observation, float(reward), terminated, truncated, info


class WallClock(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Limits in seconds of wall-clock time; None: no limit.

    step_s: a step that takes longer raises EnvironmentFault; it is left behind in its thread, since a thread can't be
        killed (`Episode(isolate=True)` kills). The environment can't be used further.
    episode_s: a text that comes later than this after `reset` is not played: the episode is truncated with reward 0,
        `info["stop"]` "time". The clock runs while the model writes, so results depend on the machine.
    """

    def __init__(self, env: gym.Env[str, str], step_s: float | None = None, episode_s: float | None = None):
        for key, limit in (("step_s", step_s), ("episode_s", episode_s)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{key}={limit!r}: a time limit is above 0 seconds")
        RecordConstructorArgs.__init__(self, step_s=step_s, episode_s=episode_s)
        gym.Wrapper.__init__(self, env)
        self.step_s, self.episode_s = step_s, episode_s
        self._began = 0.0
        self._task_id = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._began, self._task_id = time.monotonic(), info.get("task_id", "")
        return observation, info

    def step(self, action: str) -> Turn:
        if self.episode_s is not None and time.monotonic() - self._began > self.episode_s:
            feedback = f"The time of {self.episode_s:g} s for this episode was up before the answer came."
            info = {"task_id": self._task_id, "error": None, "feedback": feedback, "feedback_made": True}
            return "", 0.0, False, True, {**info, "stop": "time"}
        if self.step_s is None:
            return self.env.step(action)  # type: ignore[return-value]
        return _within(self.step_s, lambda: self.env.step(action))


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    outcome: list[tuple[bool, Any]] = []

    def work() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as e:
            outcome.append((False, e))

    thread = threading.Thread(target=work, name="fst-wall-clock", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise EnvironmentFault(f"a step took longer than step_s={seconds:g} s; its thread was left behind")
    good, value = outcome[0]
    if not good:
        raise value
    return value


_FIELDS = ("feedback", "reward", "observation", "answer", "turn")


class FeedbackTemplate(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Rewrites feedback, e.g. "Turn {turn}: {feedback} (reward {reward:g})".

    template: a format string over feedback, reward, observation, answer (the text as it reached this wrapper) and turn
        (from 1). Only the template is formatted: braces in texts stay as they are.
    """

    def __init__(self, env: gym.Env[str, str], template: str):
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
            if not names <= set(_FIELDS):
                raise ValueError(f"its fields must be among {', '.join(_FIELDS)}")
            template.format(**dict.fromkeys(_FIELDS, 0))
        except (ValueError, LookupError, TypeError) as e:
            raise ValueError(f"feedback template {template!r}: {e}") from e
        RecordConstructorArgs.__init__(self, template=template)
        gym.Wrapper.__init__(self, env)
        self.template = template
        self._turn = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._turn = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> Turn:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._turn += 1
        values = (info.get("feedback", ""), reward, observation, action, self._turn)
        feedback = self.template.format(**dict(zip(_FIELDS, values, strict=True)))
        return observation, float(reward), terminated, truncated, {**info, "feedback": feedback}


# --- the global generators

_global_rng = threading.RLock()
LOCK_TIMEOUT_S = 120.0  # ours: longer than this for another environment's call, and the call fails


class OwnRNG(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """For environments that draw from the global generators (`random`, `numpy.random`): gives each its own.

    The global state is saved before and restored after every call; the environment's own state is seeded at reset by
    the instance (or `seed`) and carried from call to call. So neither another environment nor the caller matters, or
    notices. `make` applies it where the environment's `metadata["global_rng"]` is True.
    Calls of all such environments in one process go one at a time: play those that block with `Episode(isolate=True)`.
    """

    def __init__(self, env: gym.Env[str, str]):
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._own: tuple[Any, Any] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        named = options or {}
        start = split_seed(named.get("split", "train"), int(named["index"])) if "index" in named else seed
        with self._installed(start):
            return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> Turn:
        with self._installed(None):
            return self.env.step(action)  # type: ignore[return-value]

    @contextmanager
    def _installed(self, seed: int | None) -> Iterator[None]:
        if not _global_rng.acquire(timeout=LOCK_TIMEOUT_S):
            raise EnvironmentFault(
                f"another environment has held the global generators for {LOCK_TIMEOUT_S:g} s: play with isolate=True"
            )
        outside = random.getstate(), np.random.get_state()
        try:
            if seed is not None:
                random.seed(seed)
                np.random.seed(seed % 2**32)
            elif self._own is not None:
                random.setstate(self._own[0])
                np.random.set_state(self._own[1])
            yield
        finally:
            self._own = random.getstate(), np.random.get_state()
            random.setstate(outside[0])
            np.random.set_state(outside[1])
            _global_rng.release()


# --- by plain data

_WRAP: Mapping[str, tuple[Callable[..., Any], str]] = {  # innermost first
    "step_s": (WallClock, "step_s"),
    "episode_s": (WallClock, "episode_s"),
    "max_turns": (MaxTurns, "turns"),
    "extract": (ExtractAnswer, "kind"),
    "binary": (BinaryReward, "threshold"),
    "feedback": (FeedbackTemplate, "template"),
}
WRAP_KEYS = ("own_rng", *_WRAP)


def wrapped(env: gym.Env[str, str], wrap: Mapping[str, Any]) -> gym.Env[str, str]:
    """Applies the wrappers that `wrap` names, innermost first in this order; a value of None or False leaves one out.

    step_s, episode_s: `WallClock`. max_turns: `MaxTurns`. extract: `ExtractAnswer`. binary: `BinaryReward`, its
    threshold or True for 1.0. feedback: `FeedbackTemplate`. (own_rng is for `make`, which applies it nearer the core.)
    Raises ValueError for other keys and for values that a wrapper refuses.
    """
    for key, (wrapper, argument) in _WRAP.items():
        value = wrap.get(key)
        if value is None or value is False:
            continue
        try:
            env = wrapper(env, **({} if value is True and key == "binary" else {argument: value}))
        except TypeError as e:
            raise ValueError(f"wrap[{key!r}]={value!r} is of the wrong type: {e}") from e
    return env
