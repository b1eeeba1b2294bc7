"""`evolve`: the shipped fast phase, a search among prompts within a hard budget of rollouts.

optimizer     the door; `ReflectiveOptimizer` is the `PromptOptimizer`
phase         what every phase has: budget, problems, accounts, the comparison that decides the lead
plan          which problems are for what
halving       the shipped search: small tests, and more of them for what does well
search        what it believes of its prompts, and whom it tries next
frontier      GEPA's search, as in the paper
gepa_adapter  our side of gepa's protocols
budget        how GEPA's search divides its rollouts
selection     which K of its frontier to carry on
scoreboard    which rollouts were paid for, and what is known from them
proposer      from a reflection's answers to prompts that are worth rollouts
admission     what of any optimizer's outcome is let in
evidence      when a new prompt takes the lead
leaks         refuses prompts that carry a problem's own answer
progress      where a phase stands, for people
"""

from .optimizer import ReflectiveOptimizer
from .scoreboard import RolloutsFailed

__all__ = ["ReflectiveOptimizer", "RolloutsFailed"]
