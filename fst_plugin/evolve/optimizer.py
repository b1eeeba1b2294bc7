"""The shipped prompt optimizer: reflection on what prompts get wrong, warm-started with the whole population, within a
hard budget of rollouts.

One phase: the carried prompts' scores come from the slow phase, or are made in one batch; then, round after round, a
reflection proposes children from what their parents got wrong, and the children are tested. How parents are chosen and
how much a test costs is the search's: `fst.fast.parents` picks one. At the end the best new prompt meets the old one
that leads on problems that no reflection saw; it takes the lead only if it wins there.

Invariants: at most `budget` rollouts, whatever happens. The first prompt of the outcome is new only with evidence. A
reflection that begins to fail ends the phase with what there is; one that never answers raises ReflectionFailed, a
rollout engine that fails RolloutsFailed. The outcome is a function of (population, problems, traces, seed) and of the
answers of `evaluate` and the reflection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..config import DEFAULTS, FSTConfig
from ..optimizer import Beside, Evolution
from ..policy import Policy
from ..prompts import Population, Prompt
from ..reflection.base import Reflection
from ..rewards import RewardBar
from ..rollouts import Evaluate, Problem, Trace
from .alongside import AlongsidePhase
from .frontier import FrontierPhase
from .halving import HalvingPhase
from .phase import Phase, Settings
from .progress import Status
from .scoreboard import RolloutsFailed


class ReflectiveOptimizer:
    """A `PromptOptimizer`.

    reflection: proposes prompts.
    config: K is `population`; `fast` says how much a phase spends, and on what; see `FSTConfig` for every key.
    policy: whose prompts are evolved: their cap in its tokens, its control tokens, the width of its engine.
    bar: what the run knows of its rewards so far; None: nothing but `config.fast.perfect_score`.
    log: where lines for people go.
    status: receives where the phase stands, after every round.
    """

    def __init__(
        self,
        reflection: Reflection,
        config: FSTConfig = DEFAULTS,
        policy: Policy = Policy(),  # noqa: B008  frozen
        *,
        bar: RewardBar | None = None,
        log: Callable[[str], None] = lambda line: None,
        status: Callable[[Status], None] = lambda status: None,
    ):
        bar = bar or RewardBar(config.fast.perfect_score)
        self.settings = Settings(reflection, config, policy, bar, log, status)

    def evolve(
        self,
        population: Population,
        problems: Sequence[Problem],
        evaluate: Evaluate,
        *,
        cycle: int,
        seed: int,
        traces: Sequence[Trace] = (),
        archived: Sequence[Prompt] = (),
        beside: Beside | None = None,
    ) -> Evolution:
        """See `PromptOptimizer.evolve`. `problems` that repeat count once. If enough traces (16, or as many as
        `problems`; ours) know every carried prompt, their problems are the anchors, and `problems` are only held out;
        else `problems` are both. Traces of tasks that do not come again are left out, all of them if most of
        `problems` are of tasks that no trace is of. With `beside`, the slow steps bring traces and anchors. Raises
        RolloutsFailed if the rollout engine does not deliver, ReflectionFailed if no reflection gets an answer,
        ValueError without problems."""
        if beside is not None:
            return AlongsidePhase(self.settings, population, problems, evaluate, cycle, seed, beside).run()
        kind: type[Phase] = FrontierPhase if self.settings.config.fast.parents == "frontier" else HalvingPhase
        return kind(self.settings, population, problems, evaluate, cycle, seed, traces, archived).run()


__all__ = ["ReflectiveOptimizer", "RolloutsFailed"]
