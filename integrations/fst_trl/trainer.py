"""TRL's GRPOTrainer with fast weights.

`FastSlowHooks` extends a GRPOTrainer by its own methods only: each override calls super() and one method of `FastSlow`.
Without `fst` settings, or with `enabled=False`, every hook is TRL's own.
"""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import torch

from fst_plugin.config import ConfigError, ConfigProblem

from . import config
from .compat import names
from .fast_slow import FastSlow
from .run_log import RunLog


class FastSlowHooks:
    """Goes before GRPOTrainer, or a subclass of it, in the bases of a trainer: adds the fast weights."""

    def __init__(self, *given: Any, **named: Any):
        if problems := self.check(*given, **named):
            raise ConfigError(problems)
        args = _by_name(given, named).get("args")
        settings = config.settings_of(args)
        if settings is None:
            logging.getLogger(__name__).warning("fst: args has no fst settings: plain GRPO; see FSTGRPOConfig(fst=...)")
        self.fst = FastSlow(self, settings) if settings and settings.enabled else None
        super().__init__(*given, **named)
        if settings is not None:
            self.add_callback(RunLog(self.fst))  # type: ignore[attr-defined]

    @classmethod
    def check(cls, *given: Any, **named: Any) -> list[ConfigProblem]:
        """Every problem of these arguments of the trainer; empty if there are none. Starts nothing, loads no model."""
        return config.problems(_by_name(given, named))

    # begin and end of a run

    def train(self, resume_from_checkpoint: Any = None, *given: Any, **named: Any) -> Any:
        if resume_from_checkpoint is True:  # transformers refuses True if there is none
            resume_from_checkpoint = names.get_last_checkpoint(self.args.output_dir) or True  # type: ignore[attr-defined]
        if self.fst:
            self.fst.resumed = (
                Path(resume_from_checkpoint) if resume_from_checkpoint not in (None, False, True) else None
            )
        return super().train(resume_from_checkpoint, *given, **named)  # type: ignore[misc]

    def _get_train_sampler(self, *given: Any) -> Any:
        sampler = super()._get_train_sampler(*given)  # type: ignore[misc]
        return self.fst.order(sampler) if self.fst else sampler

    def save_model(self, output_dir: str | None = None, *given: Any, **named: Any) -> None:
        if self.fst:
            self.fst.save(output_dir or self.args.output_dir)  # type: ignore[attr-defined]
        super().save_model(output_dir, *given, **named)  # type: ignore[misc]

    def _load_best_model(self) -> None:
        super()._load_best_model()  # type: ignore[misc]
        if self.fst:
            self.fst.load(Path(self.state.best_model_checkpoint))  # type: ignore[attr-defined]

    # evolve, assign

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        return super()._generate_and_score_completions(self.fst.assign(inputs) if self.fst else inputs)  # type: ignore[misc]

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, fields: Any, n: int, *given: Any, **named: Any
    ) -> Any:
        # a vLLM server is sent every n-th prompt only, as if each group had one prompt: with n=1, all of them
        n = 1 if self.fst else n
        return super()._generate_single_turn(prompt_ids, images, fields, n, *given, **named)  # type: ignore[misc]

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Any, mask: Any, keep: int, *given: Any, **named: Any
    ) -> Any:
        if self.fst and self.fst.rollouts.asking:  # a fast phase asks for rewards alone
            return torch.zeros(ids.size(0), keep, device=ids.device), None, None
        return super()._get_per_token_logps_and_entropies(model, ids, mask, keep, *given, **named)  # type: ignore[misc]

    # step

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, ids)  # type: ignore[misc]
        if self.fst:
            self.fst.rewarded(inputs, rewards, completions, ids)
        return rewards

    def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
        if self.fst and self.model.training:  # type: ignore[attr-defined]
            logs.update(self.fst.metrics())
        super().log(logs, *given, **named)  # type: ignore[misc]

    # validate

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """TRL's evaluation, under the best prompt; then, if `fst.validate_seed`, one under the seed prompt, as
        `<prefix>_seed_prompt_<figure>`."""
        if self.fst:
            self.fst.ready()
        found = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[misc]
        several = isinstance(self.eval_dataset if eval_dataset is None else eval_dataset, dict)  # type: ignore[attr-defined]
        if not self.fst or several or not self.fst.settings.validate_seed:  # each of several comes here by itself
            return found
        with self.fst.seed_arm():  # the loop alone: no callback takes this for an evaluation of its own
            loader = self.get_eval_dataloader(eval_dataset)  # type: ignore[attr-defined]
            self.evaluation_loop(loader, "Evaluation", True, metric_key_prefix=metric_key_prefix)  # type: ignore[attr-defined]
        figures = self._metrics["eval"]  # type: ignore[attr-defined]
        seed = {f"{metric_key_prefix}_seed_prompt_{name}": sum(v) / len(v) for name, v in figures.items() if v}
        figures.clear()
        super().log(seed)  # type: ignore[misc]
        return {**found, **seed}


_GRPOTrainer: Any = names.GRPOTrainer


class FSTGRPOTrainer(FastSlowHooks, _GRPOTrainer):
    """TRL's GRPOTrainer with fast weights; its arguments are GRPOTrainer's, `args` an `FSTGRPOConfig`."""


def _by_name(given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """A trainer's arguments by name."""
    return {**dict(zip(inspect.signature(_GRPOTrainer).parameters, given, strict=False)), **named}
