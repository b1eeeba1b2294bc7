"""`make`: any str -> str gymnasium environment behind one contract, with feedback and named instances.

An environment by another author does not know the infos of `ReasoningEnv`, so `TextEnv` adds them. The seed of its
split and index names an instance. The hash of its first observation is its `task_id`. If a step leaves
`info["feedback"]` empty, feedback is made from the reward and the terminal observation, and marked as made. As with
`ReasoningEnv`, a step that raises on the model's text is scored 0.

Plain data names wrappers, `wrap={"extract": "boxed", "max_turns": 5}`, and travels in a row's `env_kwargs`.

Invariant: what the environment itself says is passed on unchanged, once `contract.Contract` has let it pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from .base import FAULTS, ReasoningEnv, content_id, split_seed, unchecked
from .contract import with_contract
from .names import wrong_arguments
from .wrappers import WRAP_KEYS, OwnRNG, wrapped


def made_feedback(observation: str, reward: float, done: bool) -> str:
    """Feedback for an environment that gives none: the observation; at the end, the reward and the observation."""
    said = observation.strip()
    if not done:
        return said
    return f"The answer got a reward of {reward:g}." + (f" The environment said: {said}" if said else "")


class TextEnv(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """A str -> str environment with the infos that `ReasoningEnv` promises.

    `reset(options={"index": i, "split": s})` names an instance of any environment: its seed is `split_seed(s, i)`.
    A step's info has "feedback_made": True if the feedback was made here, False if it is the environment's own.
    """

    def __init__(self, env: gym.Env[str, str]):
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, with_contract(env))
        self._task_id = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        options = dict(options or {})
        names: dict[str, Any] = {}
        if "index" in options and not isinstance(self.unwrapped, ReasoningEnv):
            names = {"index": options["index"], "split": options.get("split", "train")}
            seed = split_seed(names["split"], names["index"])
        observation, info = self.env.reset(seed=seed, options=options)
        self._task_id = info.get("task_id") or content_id(observation)
        return observation, {**names, **info, "task_id": self._task_id}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except FAULTS:
            raise
        except Exception as e:
            misused = isinstance(e, gym.error.Error) or not isinstance(action, str)
            if misused or isinstance(self.unwrapped, ReasoningEnv):  # which handles errors on the model's text itself
                raise
            error, feedback = unchecked(self.unwrapped, e)
            info = {"task_id": self._task_id, "error": error, "feedback": feedback, "feedback_made": True}
            return "", 0.0, True, False, info
        said = info.get("feedback")
        feedback = said or made_feedback(observation, float(reward), terminated or truncated)
        info = {"task_id": self._task_id, "error": None, **info, "feedback": feedback, "feedback_made": not said}
        return observation, float(reward), terminated, truncated, info


def make(env_id: str, *, wrap: Mapping[str, Any] | None = None, **kwargs: Any) -> gym.Env[str, str]:
    """Builds a str -> str environment by its Gymnasium id.

    env_id: "module:namespace/Name-v0"; Gymnasium imports the module, which registers the id.
    wrap: wrappers around it, keys as in `wrappers.wrapped`; and "own_rng": True gives it random generators of its own.
        An environment whose metadata has "global_rng": True gets them anyway.
    kwargs: arguments of its constructor.
    Raises gymnasium.error.Error if the id is unknown, TypeError if the environment is not str -> str, ValueError for an
    unknown key or a bad value in `wrap`.
    """
    wrap = dict(wrap or {})
    if unknown := sorted(set(wrap) - set(WRAP_KEYS)):
        raise ValueError(f"wrap: unknown {', '.join(map(str, unknown))}: use some of {', '.join(WRAP_KEYS)}")
    try:
        env = gym.make(env_id, disable_env_checker=True, **kwargs)
    except ModuleNotFoundError as e:
        module = env_id.partition(":")[0]
        missing = getattr(e.__cause__, "name", None)  # gymnasium's own message hides which module it was
        if ":" not in env_id or missing is None or not f"{module}.".startswith(f"{missing}."):
            raise  # the environment itself needs something that is missing: its own message says it best
        raise gym.error.Error(f"{env_id!r}: there is no module {module!r} to import: put it on PYTHONPATH") from e
    except gym.error.UnregisteredEnv as e:
        raise gym.error.Error(
            f"{env_id!r}: {e} An id names the module that registers it: 'module:namespace/Name-v0'."
        ) from e
    except TypeError as e:
        spec = gym.registry.get(env_id.rpartition(":")[2])
        wrong = spec and wrong_arguments(spec, kwargs)
        raise TypeError(f"{env_id}: {wrong} (--kwargs, or data.env.kwargs)" if wrong else str(e)) from e
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, spaces.Text):
            env.close()
            raise TypeError(
                f"{env_id} is not a str -> str environment: its {name} is {space}; set self.{name} = "
                "fst_envs.UnicodeText(), and translate between text and your own values in reset and step"
            )
    if wrap.get("own_rng", env.unwrapped.metadata.get("global_rng")):
        env = OwnRNG(env)
    try:
        return wrapped(TextEnv(env), wrap)
    except ValueError:
        env.close()
        raise
