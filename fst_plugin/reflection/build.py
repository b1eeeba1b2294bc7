"""From config to the reflection that `fst.reflection` names."""

from __future__ import annotations

from typing import Any

from ..config import FSTConfig
from ..policy import Policy


def build_reflection(config: FSTConfig, policy: Policy) -> Any:
    """The reflection that `fst.reflection` names."""
    from .. import reflection

    spec = config.reflection
    if spec.kind == "offline":
        return reflection.OfflineReflection(perfect_score=config.fast.perfect_score)
    if spec.kind == "policy":
        if policy.generate is None:
            raise ValueError("fst.reflection.kind=policy needs a policy that can generate: use lm or offline here")
        return reflection.PolicyReflection(policy.generate, policy.fits)
    return reflection.DSPyReflection(
        model=spec.model or "",
        api_base=spec.api_base,
        temperature=spec.temperature,
        max_tokens=spec.max_tokens,
        timeout_s=spec.timeout_s,
        retries=spec.retries,
        concurrency=spec.concurrency,
    )
