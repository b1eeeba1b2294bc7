"""`evolve`: the shipped fast phase, GEPA within a hard budget of rollouts.

optimizer     one phase from beginning to end; `GEPAOptimizer` is the `PromptOptimizer`
gepa_adapter  our side of gepa's protocols
budget        how a phase divides its rollouts
scoreboard    which rollouts were paid for, and what is known from them
proposer      from a reflection's answers to prompts that are worth rollouts
selection     which K prompts to carry on
admission     what of any optimizer's outcome is let in
evidence      when a new prompt takes the lead
leaks         refuses prompts that carry a problem's own answer
progress      where a phase stands, for people
"""

from .optimizer import GEPAOptimizer
from .scoreboard import RolloutsFailed

__all__ = ["GEPAOptimizer", "RolloutsFailed"]
