"""Reflection: from a prompt and how it went, a better prompt.

Three kinds: a language model through DSPy, the policy itself through its rollout engine, and an offline one that needs
no language model. A user's own is any object with `propose` and `describe` (see `Reflection`).
"""

from .answers import extract_prompt
from .base import Reflection, ReflectionFailed, ReflectionRequest, Trouble, render_record
from .lm import DSPyReflection
from .offline import OfflineReflection
from .policy import PolicyReflection
from .text import clean, split_sentences

__all__ = [
    "DSPyReflection",
    "OfflineReflection",
    "PolicyReflection",
    "Reflection",
    "ReflectionFailed",
    "ReflectionRequest",
    "Trouble",
    "clean",
    "extract_prompt",
    "render_record",
    "split_sentences",
]
