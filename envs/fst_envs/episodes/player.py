"""The process in which an isolated `Episode` plays its environment, so that a hung step can be killed.

Invariant: a usage error (`USAGE`) keeps its type when it crosses to the parent; anything else arrives as a fault.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from ..contract import ContractError
from ..make import make
from .child import serve

USAGE: tuple[type[Exception], ...] = (
    *(TypeError, ValueError, LookupError, AttributeError, NotImplementedError, ImportError, gym.error.Error),
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError),
)
"""What a wrong id, argument, index or path raises: another attempt would raise it again."""


class Player:
    """Plays one environment at a time, by plain calls."""

    def __init__(self) -> None:
        self.env: gym.Env[str, str] | None = None

    def reset(self, env_id: str, env_kwargs: dict[str, Any], index: int, split: str) -> tuple[Any, ...]:
        self.close()
        self.env = make(env_id, **env_kwargs)
        return self.env.reset(options={"index": index, "split": split})

    def step(self, text: str) -> tuple[Any, ...]:
        assert self.env is not None
        return self.env.step(text)

    def close(self) -> None:
        env, self.env = self.env, None
        if env is not None:
            env.close()


def main() -> None:
    player = Player()

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        try:
            result = getattr(player, request["op"])(*request["args"])
        except Exception as e:
            if isinstance(e, USAGE):
                return {"raised": next(c.__name__ for c in type(e).__mro__ if c in RAISED.values()), "message": str(e)}
            return {"raised": "", "message": f"{type(e).__name__}: {e}"}
        return {"result": result}

    serve(handle)


RAISED: dict[str, type[Exception]] = {cls.__name__: cls for cls in (*USAGE, IndexError, KeyError, ContractError)}
"""Usage errors that cross from the child to its parent, by name."""

if __name__ == "__main__":
    main()
