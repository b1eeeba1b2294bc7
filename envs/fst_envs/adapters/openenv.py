"""OpenEnv environments, multi-turn: over a server (`url="http://host:8000"`) or in this process (`target`).

`gymnasium.make("fst_envs:fst/OpenEnv-v0", target="my_env:MyEnv", action_type="my_env:MyAction", action="message")`.
An environment that ignores the seed in `reset(seed=...)` has one instance. Feedback is the observation's
`metadata["feedback"]`, else its text.

Invariant: a server that is gone, late or full is a fault; an environment that raises on the model's text could not
check it, whether in this process or behind a server.
"""

from __future__ import annotations

from typing import Any

from ..base import EnvironmentFault, ReasoningEnv, split_seed
from .common import USES_GLOBAL_RNG, library, named, schema

TIMEOUT = 60.0  # seconds for an answer of the server; OpenEnv's own default


class OpenEnv(ReasoningEnv):
    """One OpenEnv environment that reads one text field of its action and writes one of its observation.

    url: of a server, "http://...". Give either this, or target and action_type.
    target: "module:Class" of the environment.
    action_type: "module:Class" of its action.
    action: name of the action's text field; default "message" (ours).
    observation: name of the observation's text field; default "text" (ours).
    config: arguments of the target.
    instances: split and size, as in `ReasoningEnv`.

    Raises DependencyNotInstalled without the library, ValueError for arguments that clash.
    """

    def __init__(
        self,
        url: str | None = None,
        target: str | None = None,
        action_type: str | None = None,
        action: str = "message",
        observation: str = "text",
        config: dict[str, Any] | None = None,
        **instances: Any,
    ):
        super().__init__(**instances)
        if (url is None) == (target is None) or (target is None) != (action_type is None):
            raise ValueError("give either url, or target and action_type (both 'module:Class')")
        core = library("openenv.core", "openenv", "fst/OpenEnv-v0")
        self.url, self.action, self.observation = url, action, observation
        if url is not None:
            self._inner: Any = core.GenericEnvClient(base_url=url, message_timeout_s=TIMEOUT).sync()
        else:
            self.metadata = USES_GLOBAL_RNG  # its draws are this process's, unlike those behind a server
            self._inner, self._act = named(str(target))(**(config or {})), named(str(action_type))

    def load(self, index: int, split: str) -> tuple[str, dict[str, Any]]:
        fields = schema(self.url, TIMEOUT)["action"]["properties"] if self.url else self._act.model_fields
        if self.action not in fields:
            raise ValueError(f"action={self.action!r} is not a field of the action: use one of {sorted(fields)}")
        try:
            return self._read(self._inner.reset(seed=split_seed(split, index)))[0], {}
        except Exception as e:  # no model has written anything yet
            raise EnvironmentFault(f"OpenEnv could not reset {self.url or self._inner}: {e!r}") from e

    def respond(self, text: str) -> tuple[str, float, bool, str]:
        try:
            result = self._inner.step({self.action: text} if self.url else self._act(**{self.action: text}))
        except Exception as e:
            if self.url and not any(f"(code: {code})" in str(e) for code in ("EXECUTION_ERROR", "VALIDATION_ERROR")):
                raise EnvironmentFault(f"OpenEnv lost {self.url}: {e!r}") from e
            raise  # `ReasoningEnv` tells a fault from a text that could not be checked
        said, reward, done, feedback = self._read(result)
        return ("" if done else said), reward, done, feedback or said

    def _read(self, result: Any) -> tuple[str, float, bool, str]:
        seen = result.observation if self.url else result.model_dump()
        if self.observation not in seen:
            raise EnvironmentFault(
                f"observation={self.observation!r} is not a field of the observation: use one of {sorted(seen)}"
            )
        feedback = (seen.get("metadata") or {}).get("feedback") or ""
        return str(seen[self.observation]), float(result.reward or 0.0), bool(result.done), str(feedback)

    def close(self) -> None:
        self._inner.close()
