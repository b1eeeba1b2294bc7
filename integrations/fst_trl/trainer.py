"""TRL's GRPOTrainer with fast weights.

`FastSlowHooks` extends a GRPOTrainer by its own methods only: each override calls super() and one method of `FastSlow`.
Without `fst` settings, or with `enabled=False`, every hook is TRL's own.
"""

from __future__ import annotations

import inspect
import logging
from functools import partial
from statistics import fmean
from typing import Any

from fst_plugin.config import ConfigError, ConfigProblem

from . import config
from .compat import GRPOTrainer
from .fast_rollouts import changed
from .fast_slow import FastSlow
from .run_log import RunLog

_Trainer: Any = object  # whatever trainer comes after the mixin
ONE_EACH = {"num_generations": 1, "num_generations_eval": 1}
"""A vLLM server is sent every `num_generations`-th prompt, as if each group had one prompt: with these, all of them."""


class FastSlowHooks(_Trainer):
    """Goes before GRPOTrainer, or a subclass of it, in the bases of a trainer: adds the fast weights."""

    def __init__(self, *given: Any, **named: Any):
        if problems := self.check(*given, **named):
            raise ConfigError(problems)
        settings = config.settings_of(_by_name(given, named).get("args"))
        if settings is None:
            logging.getLogger(__name__).warning("fst: args has no fst settings: plain GRPO; see FSTGRPOConfig(fst=...)")
        self.fst = FastSlow(self, settings) if settings and settings.enabled else None
        super().__init__(*given, **named)
        if settings is not None:
            self.add_callback(RunLog(self.fst))

    @classmethod
    def check(cls, *given: Any, **named: Any) -> list[ConfigProblem]:
        """Every problem of these arguments of the trainer; empty if there are none. Starts nothing, loads no model."""
        return config.problems(_by_name(given, named))

    # begin and end of a run

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.fst:
            self.fst.resumed = checkpoint

    def _get_train_sampler(self, *given: Any) -> Any:
        sampler = super()._get_train_sampler(*given)
        return self.fst.order(sampler) if self.fst else sampler

    def save_model(self, output_dir: str | None = None, *given: Any, **named: Any) -> None:
        if self.fst:
            self.fst.save(output_dir or self.args.output_dir)
        super().save_model(output_dir, *given, **named)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.fst:
            self.fst.load(self.state.best_model_checkpoint)

    # evolve, assign, step

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        return super()._generate_and_score_completions(self.fst.assign(inputs) if self.fst else inputs)

    def _generate(self, prompts: Any) -> Any:
        with changed(self, ONE_EACH if self.fst else {}):
            return super()._generate(prompts)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Any:
        run = partial(super()._calculate_rewards, inputs, prompts, completions, ids)
        return self.fst.rewarded(run, inputs, completions, ids) if self.fst else run()

    def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
        if self.fst and self.model.training:
            logs.update(self.fst.metrics())
        super().log(logs, *given, **named)

    # validate

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """TRL's evaluation, under the best prompt; then, if `fst.validate_seed`, one under the seed prompt, as
        `<prefix>_seed_prompt_<figure>`."""
        if self.fst:
            self.fst.ready()
        found = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        several = isinstance(self.eval_dataset if eval_dataset is None else eval_dataset, dict)
        if not self.fst or several or not self.fst.settings.validate_seed:  # each of several comes here by itself
            return found
        with changed(self.fst, {"texts": [self.fst.seed]}):  # the loop alone: no callback takes this for an evaluation
            loader = self.get_eval_dataloader(eval_dataset)
            self.evaluation_loop(loader, "Evaluation", True, metric_key_prefix=metric_key_prefix)
        figures = {name: [one for one in values if one == one] for name, values in self._metrics["eval"].items()}
        seed = {f"{metric_key_prefix}_seed_prompt_{name}": fmean(values) for name, values in figures.items() if values}
        self._metrics["eval"].clear()
        super().log(seed)
        return {**found, **seed}


class FSTGRPOTrainer(FastSlowHooks, GRPOTrainer):
    """TRL's GRPOTrainer with fast weights; its arguments are GRPOTrainer's, `args` an `FSTGRPOConfig`."""


def _by_name(given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """A trainer's arguments by name."""
    return {**dict(zip(inspect.signature(GRPOTrainer).parameters, given, strict=False)), **named}
