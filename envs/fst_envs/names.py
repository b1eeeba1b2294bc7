"""What to say about a name that is not known, or an argument that is missing."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from gymnasium.envs.registration import EnvSpec, load_env_creator


def did_you_mean(name: Any, known: Collection[str]) -> str:
    """ "did you mean a or b?", or "" if nothing known is spelled alike."""
    near = get_close_matches(str(name), list(known), 3)
    return f"did you mean {' or '.join(near)}?" if near else ""


def unknown_task(task: Any, known: Collection[str], library: str, env_id: str) -> str:
    """What to say about a task that `library` does not have.

    known: the tasks that can be played.
    env_id: the environment's id, without its module.
    """
    said = f"task={task!r} is not a task of {library}:", did_you_mean(task, known)
    return " ".join([*filter(None, said), f"`fst env list {env_id}` names all {len(known)}"])


def wrong_arguments(spec: EnvSpec, kwargs: Mapping[str, Any]) -> str | None:
    """What is wrong with the arguments of an environment's constructor; None if it takes them."""
    entry: Any = spec.entry_point
    parameters = inspect.signature(entry if callable(entry) else load_env_creator(entry)).parameters
    given = {**spec.kwargs, **kwargs}
    kinds = {p.kind for p in parameters.values()}
    takes = [name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [name for name in takes if parameters[name].default is inspect.Parameter.empty and name not in given]
    if missing:
        return f"it needs {', '.join(missing)}; its arguments are {', '.join(takes)}"
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return None
    for name in given:
        if name not in takes:
            said = f"it takes no argument {name!r}:", did_you_mean(name, takes)
            return " ".join([*filter(None, said), f"its arguments are {', '.join(takes) or 'none'}"])
    return None
