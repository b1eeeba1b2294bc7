"""A fast phase of a user's own: whatever it is worth, what the first feedback says becomes a second prompt."""

from fst_plugin.optimizer import Evolution
from fst_plugin.prompts import Population, Prompt
from fst_plugin.rollouts import Cell


class Evolved:
    """lead: is it the best one? Else the one before stays that."""

    def __init__(self, lead: bool = False):
        self.lead = lead

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        best = population.best
        rollouts = evaluate([Cell(best, problem) for problem in problems])
        said = next(one.feedback for one in rollouts if one.error is None and one.feedback)
        new = Prompt(f"{best.text}\n{said}", (best.digest,), "reflection", cycle)
        both = (new, best) if self.lead else (best, new)
        return Evolution(Population(both), {"rollouts": float(len(rollouts))})
