"""A tiny policy: a real language model of 0.35 M parameters that follows rules stated in its system prompt, half well.

`build(folder)` pre-trains it from scratch in two to three minutes on a CPU core and measures it. It knows the language
of the house rules (`language`), none of their rule books: what a book says it can only learn from a prompt or from
reward. `build(folder, reads="graphs")` makes another one, which reads small star graphs (`graphs`) and nothing of the
house rules. Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builder import Report, build, main

__all__ = ["Report", "build", "main"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(".builder", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
