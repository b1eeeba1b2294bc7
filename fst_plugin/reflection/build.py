"""From config to the reflection that `fst.reflection` names."""

from __future__ import annotations

from ..config import FSTConfig
from ..imports import load
from ..policy import Policy
from .base import Reflection
from .lm import DSPyReflection
from .offline import OfflineReflection
from .policy import PolicyReflection


def build_reflection(config: FSTConfig, policy: Policy) -> Reflection:
    """The user's own if `fst.reflection.path` names one, built with `fst.reflection.kwargs`; else that of `kind`.

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
        return PolicyReflection(policy.generate, policy.fits)
    return DSPyReflection(spec)
