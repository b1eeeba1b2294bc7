"""An ablation as a context provider of one's own: every rollout runs under the best prompt, whatever its place in the
group. Named by fst.context.path=best_only.BestOnly, with this folder on PYTHONPATH."""

from __future__ import annotations

from fst_plugin.context import PopulationContext


class BestOnly(PopulationContext):
    """The population's first prompt for everybody."""

    def __init__(self, prompts, placement="system"):
        super().__init__(prompts[:1], placement)
