"""Fast-Slow Training (arXiv 2605.12484): slow weights moved by RL, prompts as fast weights by reflection, one reward.

evolve  `fast_weights.FastWeights.evolve`: a fast phase makes better prompts, with the slow weights frozen
assign  `context`: which prompt a rollout gets
step    the RL stack's own update; see `fst_verl` for verl
"""

from .context import Assignment, ContextProvider, Request
from .optimizer import Candidate, Evidence, Evolution, PromptOptimizer
from .prompts import Population, Prompt, Score
from .rollouts import Cell, Problem, Rollout, Trace

__version__ = "0.1.0"

__all__ = [
    "Assignment",
    "Candidate",
    "Cell",
    "ContextProvider",
    "Evidence",
    "Evolution",
    "Population",
    "Problem",
    "Prompt",
    "PromptOptimizer",
    "Request",
    "Rollout",
    "Score",
    "Trace",
    "__version__",
]
