"""Wrappers for str -> str environments, in Gymnasium's way: they nest, and `env.spec` remembers them.

    env = BinaryReward(ExtractAnswer(make("fst_envs:fst/StarGraph-v0"), "boxed"), threshold=0.5)

Plain data names them too, and travels in the `env_kwargs` of a row: `make(env_id, wrap={"extract": "boxed"})`, keys as
in `wrapped`. They expect the infos of `TextEnv`, which `make` puts around every environment.

Invariant: a wrapper changes a copy of an info, never the info itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from .answers import EXTRACTORS
from .base import EnvironmentFault, split_seed

Turn = tuple[str, float, bool, bool, dict[str, Any]]


class ExtractAnswer(gym.ActionWrapper[str, str, str], RecordConstructorArgs):
    r"""Passes on only the answer in a text; if there is none, it passes on "" and the feedback says where it belongs.

    kind: "tag" (`<answer>...</answer>`), "boxed" (`\boxed{...}`), "line" (the last one), or several in order of
        preference; default "tag" (ours).
    """

    def __init__(self, env: gym.Env[str, str], kind: str | Sequence[str] = "tag"):
        kinds = [kind] if isinstance(kind, str) else list(kind)
        if not kinds or not set(kinds) <= set(EXTRACTORS):
            raise ValueError(f"extract={kind!r}: use one or several of {', '.join(EXTRACTORS)}")
        RecordConstructorArgs.__init__(self, kind=kind)
        gym.ActionWrapper.__init__(self, env)
        self.kinds = kinds

    def find(self, text: str) -> str | None:
        """The answer in a text, None if there is none."""
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
    """Reward 1.0 if the environment's is at least `threshold`, else 0.0.

    threshold: default 1.0 (ours).
    """

    def __init__(self, env: gym.Env[str, str], threshold: float = 1.0):
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)):
            raise ValueError(f"binary={threshold!r}: use a number, the lowest reward that counts as 1")
        RecordConstructorArgs.__init__(self, threshold=threshold)
        gym.RewardWrapper.__init__(self, env)
        self.threshold = threshold

    def reward(self, reward: Any) -> float:
        return 1.0 if float(reward) >= self.threshold else 0.0


class MaxTurns(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Truncates an episode after `turns` texts: `info["stop"]` is "max_turns", and the feedback says so.

    Gymnasium's TimeLimit says nothing in the feedback, and a spec does not remember its place among the wrappers.

    turns: at least 1.
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
    """Raises EnvironmentFault for a step that takes longer than `step_s` seconds of wall-clock time.

    The step is left behind in its thread, since a thread can't be killed (`Episode(isolate=True)` kills its process).
    The environment can't be used after that.

    step_s: above 0.
    """

    def __init__(self, env: gym.Env[str, str], step_s: float):
        if not step_s > 0:
            raise ValueError(f"step_s={step_s!r}: use a number of seconds above 0")
        RecordConstructorArgs.__init__(self, step_s=step_s)
        gym.Wrapper.__init__(self, env)
        self.step_s = step_s

    def step(self, action: str) -> Turn:
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


# --- the global generators

_global_rng = threading.RLock()
LOCK_TIMEOUT_S = 120.0  # ours: how long a call waits for another environment's


class OwnRNG(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Gives generators of its own to an environment that draws from the global ones (`random`, `numpy.random`).

    Every call saves the global state before and restores it after. The environment's own state is seeded at reset, by
    the instance or by `seed`, and kept from call to call. So the environment does not depend on other environments or
    the caller, and they do not depend on it. `make` applies it if the environment's `metadata["global_rng"]` is True.

    Only one such environment per process runs at a time: play one whose calls block with `Episode(isolate=True)`.
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
                f"another environment has held the global generators for {LOCK_TIMEOUT_S:g} s: play it with "
                "isolate=True"
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


# --- named by plain data

_WRAP: Mapping[str, tuple[Callable[..., Any], str]] = {  # innermost first
    "step_s": (WallClock, "step_s"),
    "max_turns": (MaxTurns, "turns"),
    "extract": (ExtractAnswer, "kind"),
    "binary": (BinaryReward, "threshold"),
}
WRAP_KEYS = ("own_rng", *_WRAP)


def wrapped(env: gym.Env[str, str], wrap: Mapping[str, Any]) -> gym.Env[str, str]:
    """Applies the wrappers that `wrap` names, innermost first in the order below; None or False leaves one out.

    wrap: any of
        step_s: `WallClock`.
        max_turns: `MaxTurns`.
        extract: `ExtractAnswer`.
        binary: `BinaryReward`; its threshold, or True for 1.0.
        (`make` itself applies own_rng, inside all of these.)
    Raises ValueError for a value that a wrapper refuses.
    """
    for key, (wrapper, argument) in _WRAP.items():
        value = wrap.get(key)
        if value is None or value is False:
            continue
        try:
            env = wrapper(env, **({} if value is True and key == "binary" else {argument: value}))
        except TypeError as e:
            raise ValueError(f"wrap[{key!r}]={value!r} has the wrong type: {e}") from e
    return env
