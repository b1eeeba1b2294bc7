"""What `reset`, `step`, `load` and `respond` must return. Anything else is refused by name and never scored.

`Contract` stands directly around an environment, under all wrappers, so that no wrapper stumbles over a wrong shape and
is taken for a verifier that choked on the model's text. It also adapts the API that Gym had before version 0.26.

Invariant: numpy's numbers, truth values and texts become Python's, an answer becomes a JSON value; everything else is
passed on as it is.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

logger = logging.getLogger(__name__)

Start = tuple[str, dict[str, Any]]
Turn = tuple[str, float, bool, bool, dict[str, Any]]


class EnvironmentFault(RuntimeError):
    """Raised by an environment when something other than the model's text went wrong: nothing was scored."""


class ContractError(TypeError):
    """An environment returned something that cannot be played. Another attempt would return it again."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)):
        value = value.item()  # a scalar of numpy or torch
    if not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _feedback(value: Any) -> str:
    return "" if value is None else _text(value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return dict(value)


Parts = Mapping[str, tuple[str, Callable[[Any], Any]]]

RESET: Parts = {"observation": ("str", _text), "info": ("dict", _mapping)}
STEP: Parts = {
    "observation": ("str", _text),
    "reward": ("float", _number),
    "terminated": ("bool", _truth),
    "truncated": ("bool", _truth),
    "info": ("dict", _mapping),
}
LOAD: Parts = {"question": ("str", _text), "extra": ("dict", _mapping)}
RESPOND: Parts = {
    "observation": ("str", _text),
    "reward": ("float", _number),
    "done": ("bool", _truth),
    "feedback": ("str", _feedback),
}


def returned(call: str, value: Any, parts: Parts) -> tuple[Any, ...]:
    """The parts of what `call` returned, as Python's own types.

    call: names the environment and its method, as in "demo/Reverse-v0: step".
    parts: `RESET`, `STEP`, `LOAD` or `RESPOND`.
    Raises ContractError for another shape, EnvironmentFault for a reward that is not finite.
    """
    must = f"it must return {_shape(parts)}"
    if not isinstance(value, (tuple, list)) or len(value) != len(parts):
        raise ContractError(f"{call} returned {_described(value)}: {must}")
    found = []
    for (name, (kind, convert)), part in zip(parts.items(), value, strict=True):
        try:
            found.append(convert(part))
        except (TypeError, ValueError, AttributeError, RuntimeError):
            raise ContractError(f"{call} returned {_kind(part)} as {name}, not a {kind}: {must}") from None
        if name == "reward" and not math.isfinite(found[-1]):
            raise EnvironmentFault(f"{call} returned the reward {found[-1]}: it must be finite")
    return tuple(found)


def _shape(parts: Parts) -> str:
    return f"({', '.join(f'{name}: {kind}' for name, (kind, _) in parts.items())})"


def _described(value: Any) -> str:
    """What was returned in place of the parts."""
    if isinstance(value, (tuple, list)):
        return f"{len(value)} value{'' if len(value) == 1 else 's'} ({', '.join(type(p).__name__ for p in value)})"
    if inspect.iscoroutine(value):
        value.close()  # else Python warns that it was never awaited
    elif not (inspect.isgenerator(value) or inspect.isasyncgen(value)):
        return _kind(value)
    return f"{_kind(value)} (write it as a plain function, without async or yield)"


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"a{'n' * (name[0].lower() in 'aeiou')} {name}"


def plain(value: Any) -> Any:
    """A JSON value, with numpy's numbers and arrays as Python's. Raises TypeError for other objects."""

    def convert(item: Any) -> Any:
        if isinstance(item, (np.generic, np.ndarray)):
            return item.tolist()
        raise TypeError(f"{_kind(item)} is not a JSON value")

    return str(value) if isinstance(value, str) else json.loads(json.dumps(value, default=convert))


def env_title(env: gym.Env[Any, Any]) -> str:
    """The id under which an environment was made, else the name of its class."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


class Contract(gym.Wrapper[str, str, str, str]):
    """Checks every `reset` and `step`. `adapted` holds what of the old API was met; each is logged once."""

    def __init__(self, env: gym.Env[str, str]):
        super().__init__(env)
        self.adapted: set[str] = set()
        if not isinstance(env, gym.Wrapper) and type(env).step is gym.Env.step:
            raise ContractError(f"{env_title(self)}: step(action) is not written: it must return {_shape(STEP)}")
        parameters = inspect.signature(env.reset).parameters
        every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._takes = {name for name in ("seed", "options") if every or name in parameters}

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """That of the environment: `TextEnv` puts this wrapper back, so a spec need not name it."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        given: dict[str, Any] = {"seed": seed, "options": options}
        if "seed" not in self._takes:
            self._adapt("reset takes no seed")
            gym.Env.reset(self.unwrapped, seed=seed)
            old = getattr(self.env, "seed", None)
            if callable(old) and seed is not None:
                old(seed)
        value = self.env.reset(**{name: given[name] for name in self._takes})
        if isinstance(value, str):
            self._adapt("reset returns no info")
            value = value, {}
        call = f"{env_title(self)}: reset"
        observation, info = returned(call, value, RESET)
        return observation, _told(call, info)

    def step(self, action: str) -> Turn:
        value: Any = self.env.step(action)
        if isinstance(value, tuple) and len(value) == 4 and isinstance(value[3], dict):
            self._adapt("step returns four values")
            observation, reward, done, info = value
            cut = info.get("TimeLimit.truncated", False)
            value = observation, reward, done and not cut, cut, info
        call = f"{env_title(self)}: step"
        observation, reward, terminated, truncated, info = returned(call, value, STEP)
        _check_text(call, info, "feedback")
        return observation, reward, terminated, truncated, info

    def _adapt(self, what: str) -> None:
        if what not in self.adapted:
            self.adapted.add(what)
            _log_once(f"{env_title(self)}: {what}, as in Gym before 0.26: it is adapted")


def _told(call: str, info: dict[str, Any]) -> dict[str, Any]:
    """The info of `reset` with a plain answer."""
    _check_text(call, info, "task_id")
    if "answer" in info:
        try:
            info["answer"] = plain(info["answer"])
        except (TypeError, ValueError) as e:
            raise ContractError(f'{call}: info["answer"] must be text or a JSON value: {e}') from None
    return info


def _check_text(call: str, info: Mapping[str, Any], key: str) -> None:
    if not isinstance(info.get(key), (str, type(None))):
        raise ContractError(f'{call} returned {_kind(info[key])} as info["{key}"]: it must be a str')


_logged: set[str] = set()


def _log_once(message: str) -> None:
    if message not in _logged:
        _logged.add(message)
        logger.warning("%s", message)


def with_contract(env: gym.Env[str, str]) -> gym.Env[str, str]:
    """Puts `Contract` around the environment itself, inside the wrappers that it has; once."""
    if not isinstance(env, gym.Wrapper):
        return Contract(env)
    inner: Any = env
    while isinstance(inner.env, gym.Wrapper):
        inner = inner.env
    if not isinstance(inner, Contract):
        inner.env = Contract(inner.env)
    return env


def contract_of(env: gym.Env[str, str]) -> Contract:
    """The `Contract` of an environment that `make` built."""
    inner: Any = env
    while not isinstance(inner, Contract):
        inner = inner.env
    return inner
