"""From config to the reflection that `fst.reflection` names."""

from __future__ import annotations

from ..config import ConfigProblem, FSTConfig
from ..imports import load
from ..policy import Policy
from ..secrets import described
from .base import Reflection
from .lm import DSPyReflection
from .offline import OfflineReflection
from .policy import PolicyReflection


def build_reflection(config: FSTConfig, policy: Policy) -> Reflection:
    """The reflection of a run, for all its fast phases: the user's own if `fst.reflection.path` names one, built with
    `fst.reflection.kwargs`; else that of `kind`.

    Raises ValueError, naming the key, if the path leads nowhere, and if the policy is to reflect and cannot
    generate.
    """
    spec = config.reflection
    if spec.path:
        return load(spec.path, "fst.reflection.path")(**spec.kwargs)
    if spec.kind == "offline":
        return OfflineReflection()
    if spec.kind == "policy":
        if policy.generate is None:
            raise ValueError("fst.reflection.kind=policy needs a policy that can generate: use lm or offline here")
        return PolicyReflection(policy.generate, policy.fits, policy.thinking, policy.opened)
    return DSPyReflection(spec)


def asked(config: FSTConfig) -> list[ConfigProblem]:
    """Asks the reflection once, for real, where that can be done without the policy: kind=lm, and the user's own with a
    `ping`. Empty if it answers, or if there is nothing to ask."""
    if config.reflection.kind != "lm" and not config.reflection.path:
        return []
    try:
        ping(build_reflection(config, Policy()))
    except Exception as error:
        return [ConfigProblem("fst.reflection", described(error, 1000))]
    return []


def ping(reflection: Reflection) -> None:
    """Before a run spends anything: raises ReflectionFailed, or what the user's own raises, if the reflection has a
    `ping` and it says that it cannot work."""
    check = getattr(reflection, "ping", None)
    if check is not None:
        check()
