"""A tiny policy: a real language model of 0.35 M parameters that follows the rules stated in its system prompt, with
middling reliability.

`build(folder)` pre-trains it from scratch in two to three minutes on a CPU core and measures it. It knows the language
of the house rules (`language`), none of their rule books: what a book says it can only learn from a prompt or from
reward. `build(folder, reads="graphs")` makes another one, which reads small star graphs (`graphs`) and nothing of the
house rules. Both are shipped, trained, as `fst_envs.house.policy`. Importing this package imports neither torch nor
transformers.
"""

from .builder import build

__all__ = ["build"]
