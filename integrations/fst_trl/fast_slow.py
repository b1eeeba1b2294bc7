"""evolve -> assign -> step around one GRPOTrainer, as a plain object: each hook of the trainer calls one method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fst_plugin import adapter
from fst_plugin.config import ConfigError, ConfigProblem, FSTConfig
from fst_plugin.context import Assignment, Request
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import MAX_TOKENS, Policy, chat_tokens
from fst_plugin.prompts import Prompt, text_digest
from fst_plugin.record.state import STATE_FOLDER
from fst_plugin.rollouts import Problem, Rollout

from . import compat, rows
from .fast_rollouts import FastRollouts, RewardsKnown
from .order import Ahead

UNLIMITED = 2**31
"""Tokens that a model without a longest position may read."""
SAMPLING = "temperature top_p top_k min_p repetition_penalty max_completion_length chat_template_kwargs".split()


class FastSlow:
    """The fast weights of a GRPOTrainer. A slow step is a generation batch: one for every `steps_per_generation` x
    `num_iterations` micro-batches.

    trainer: the trainer that calls this; read only when a method is called.
    settings: its `fst` settings.
    """

    weights: FastWeights
    """On the first process, once they have begun; every process has `texts` and `seed`."""

    def __init__(self, trainer: Any, settings: FSTConfig):
        self.trainer, self.settings = trainer, settings
        self.rollouts = FastRollouts(trainer, lambda row, text: self._place(rows.problem(row), [text]).messages)
        self.texts: list[str] = []  # of the prompts, best first; none before `begin`. An evaluation is under the first
        self.seed = ""  # the first prompt
        self.resumed: str | None = None  # the checkpoint that the run that begins goes on from
        self.batch = 0  # generation batches done
        self.ahead: Any = None  # an Ahead, once TRL has asked for its sampler
        self._beside: list[Rollout] = []  # beside the batch that is being generated
        self._marks: list[tuple[str, str]] = []  # of the rows that are being generated: problem id, prompt digest

    # -------------------------------------------------------------------------------------------------- begin, save

    def order(self, sampler: Any) -> Ahead:
        """The trainer's sampler, whose coming batches can be looked at."""
        args, size = self.trainer.args, self.trainer.num_generations
        repeats = self.trainer.num_iterations * args.steps_per_generation
        self.ahead = Ahead(sampler, args.generation_batch_size // size, size, repeats)
        return self.ahead

    def begin(self) -> None:
        """At the begin of `train`, after TRL has loaded its checkpoint: fast weights anew, or the checkpoint's."""
        self.ahead.next_epoch, self.batch = self._reached(self.trainer.state.global_step)
        resumed, self.resumed = self.resumed, None
        self._lead(lambda: self._begin(resumed))

    def ready(self) -> None:
        """Before an evaluation that comes before `train`: the seed prompt."""
        if not self.texts:
            self._lead(lambda: self._start(fresh=False))

    def save(self, folder: str) -> None:
        """Before TRL writes the weights into `folder`: weights that are found have their fast weights."""
        if self._leads():
            self.weights.save(Path(folder) / STATE_FOLDER, self.trainer.state.global_step, self._pending())

    def load(self, checkpoint: str) -> None:
        """The fast weights of a checkpoint whose weights were loaded."""
        self._lead(lambda: self._restore(checkpoint))

    def _leads(self) -> bool:
        """Are the fast weights on this process?"""
        return bool(self.texts) and self.rollouts.processes.number == 0

    def _lead(self, run: Callable[[], Any]) -> Any:
        """`run` on the first process; its result, the settings and the prompts on every process."""

        def told() -> tuple[Any, ...]:
            found, fst = run(), self.weights
            return found, self.settings, [prompt.text for prompt in fst.population.prompts], fst.seed.text

        found, self.settings, self.texts, self.seed = self.rollouts.processes.lead(told)
        return found

    def _begin(self, resumed: str | None) -> None:
        self._start(fresh=resumed is None)
        if resumed is None:
            return
        self._restore(resumed)
        self.weights.undo(self.batch)  # between two updates of one generation batch: TRL generates it again
        if self._pending() != list(self.weights.state.pending):
            raise ValueError(
                f"{resumed}: the coming problems are not those that it was saved with; resume with"
                " the same seed, batch sizes and train_dataset, or start over in a new output_dir"
            )

    def _restore(self, checkpoint: str) -> None:
        folder, step = Path(checkpoint) / STATE_FOLDER, self.trainer.state.global_step
        self.weights.restore(folder, step, data_key="train_dataset", start_over="a new output_dir")

    def _start(self, fresh: bool) -> None:
        trainer, data = self.trainer, self.trainer.train_dataset
        found = adapter.system_messages(rows.chats(data), print)
        self.settings, seed = adapter.begin_with(self.settings, trainer._tokenizer, found, print)
        sampled = [rows.problem(data[i]) for i in adapter.sampled_places(len(data))]
        sources = [adapter.source_of(function) for function in trainer.reward_funcs]
        self.weights = FastWeights.start(
            self.settings,
            self._policy(seed, sampled),
            Path(trainer.args.output_dir).absolute() / STATE_FOLDER,
            seed=seed,
            dataset=adapter.dataset_digest(len(data), (one.id for one in sampled)),
            weights=f"start:{text_digest(str(trainer.model.config._name_or_path))}",
            setup={name: getattr(trainer.args, name) for name in SAMPLING} | {"rewards": sources},
            fresh=fresh,
        )

    def _policy(self, seed: Prompt, sampled: Sequence[Problem]) -> Policy:
        """Raises ConfigError if the longest prompt does not fit with the longest of these problems."""
        trainer, window = self.trainer, self._window()
        template = {"chat_template": trainer.chat_template, **trainer.chat_template_kwargs}
        policy = Policy.of_tokenizer(
            trainer._tokenizer,
            self.settings.max_prompt_tokens or min(MAX_TOKENS, window // 2),
            window,
            template=template,
            generate=self.rollouts.generate,
            width=trainer.args.generation_batch_size,
        )
        chats = [self._place(one, [seed.text]).messages for one in sampled]
        longest = max(chat_tokens(trainer._tokenizer, chat, template) for chat in chats)
        rest = longest - policy.count_tokens(seed.text)
        if rest + policy.max_tokens > window:
            what = f"a prompt of {policy.max_tokens} tokens and a problem of {rest} do not fit the {window} that"
            what += " max_completion_length leaves: lower this cap, or max_completion_length"
            raise ConfigError([ConfigProblem("fst.max_prompt_tokens", what)])
        return policy

    def _window(self) -> int:
        """Tokens that a prompt may have next to the completion."""
        args, model = self.trainer.args, self.trainer.model.config.get_text_config()
        window = args.vllm_max_model_length if args.use_vllm else None
        window = window or getattr(model, "max_position_embeddings", None) or UNLIMITED
        return window - self.trainer.max_completion_length

    # ---------------------------------------------------------------------------------------------- evolve, assign

    def _reached(self, updates: int) -> tuple[int, int]:
        """(epoch, generation batch) after this many updates."""
        return self.ahead.reached(updates, self.trainer.args.gradient_accumulation_steps)

    def _problems(self, first: int, batches: int) -> list[Problem]:
        """Those of these generation batches."""
        places = [i for number in range(first, first + batches) for i in self.ahead.batch(number)]
        return [rows.problem(self.trainer.train_dataset[i], i) for i in places]

    def _pending(self) -> list[str]:
        """Ids of the problems that come next, as a checkpoint holds them; none before `train`."""
        if self.ahead is None:
            return []
        done = self._reached(self.trainer.state.global_step)[1]
        return [problem.id for problem in self._problems(done, self.weights.schedule.guaranteed_steps)]

    def _evolve_and_deal(self, group_sizes: Sequence[int]) -> list[int]:
        """Before a generation batch: the fast phase, if one is due, and the offset of each group. With
        `fst.fast.when=hybrid` also rollouts beside the batch, whose reflection goes on during its updates."""
        fst, step, evaluate = self.weights, self.batch + 1, self.rollouts.evaluate
        length, last_step = fst.schedule.guaranteed_steps, self._reached(self.trainer.state.max_steps)[1]
        if fst.due(step, last_step):
            begin = (fst.state.cycle_start or step) - 1
            coming, recent = self._problems(self.batch, length), self._problems(begin, self.batch - begin)
            fst.evolve(step, fst.weights_after(self.trainer.state.global_step), coming, evaluate, recent)
        cycle = partial(self._problems, (fst.state.cycle_start or 1) - 1, length)
        cells = fst.ask(step, self._problems(self.batch, 1), cycle, last_step)
        self._beside = evaluate(cells) if cells else []
        return fst.deal(group_sizes)

    def assign(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows about to be generated, each with its prompt in place; those of a fast phase have theirs."""
        if self.rollouts.asking:
            return inputs
        trainer, train = self.trainer, self.trainer.model.training
        size = trainer.num_generations if train else trainer.num_generations_eval
        sizes = [size] * -(-len(inputs) * self.rollouts.processes.count // size)
        offsets = self._lead(lambda: self._evolve_and_deal(sizes)) if train else [0] * len(sizes)
        texts = self.texts if train else self.texts[:1]
        wanted = self._problems(self.batch, 1) if train else []
        first, assigned, self._marks = self.rollouts.processes.number * len(inputs), [], []
        for place, row in enumerate(inputs, first):  # a group may lie across processes
            group, session = divmod(place, size)
            problem = wanted[group] if train else rows.problem(row)
            if tuple(map(dict, row["prompt"])) != problem.messages:
                raise RuntimeError(
                    "TRL serves other problems than its sampler said: leave the sampler and the order"
                    " of train_dataset to TRL while fast weights are on"
                )
            one = self._place(problem, texts, "train" if train else "val", session + offsets[group])
            assigned.append({**row, "prompt": one.messages})
            self._marks.append((problem.id, one.digest))
        return assigned

    def _place(self, problem: Problem, texts: Sequence[str], split: str = "anchor", session: int = 0) -> Assignment:
        """A problem's messages with the prompt of one session of its group in place."""
        request = Request(problem.id, session, self.batch + 1, split, problem.messages)
        return adapter.provider(self.settings.context, texts).assign(request)

    # ------------------------------------------------------------------------------------------------------ observe

    def rewarded(self, run: Callable[[], Any], inputs: Sequence[Any], completions: Sequence[Any], ids: Any) -> Any:
        """TRL's rewards of what it generated, as `run` gets them from all processes; the fast weights observe them.

        Raises RewardsKnown in a fast phase: nothing else of a training step is wanted. Raises ProcessFailed on every
        process if a reward function fails on one of several.
        """
        trainer, failed = self.trainer, None
        try:
            rewards = run()
        except Exception as error:  # the other processes wait in TRL's gather for rewards of this one
            failed = error
            rewards = compat.gather(torch.zeros(len(ids), len(trainer.reward_funcs), device=trainer.accelerator.device))

        def mine() -> list[Any]:
            if failed:
                raise failed
            if not trainer.model.training:
                return []
            found = self._rollouts(rewards, inputs, completions, ids)
            if self.rollouts.asking:
                return found
            return [(*mark, one) for mark, one in zip(self._marks, found, strict=True)]

        found = self.rollouts.processes.together(mine)
        if self.rollouts.asking:
            raise RewardsKnown(found)
        if trainer.model.training:
            if self._leads():
                self.weights.observe(self.batch + 1, self.weights.weights_after(trainer.state.global_step), found)
                self.weights.tell(self._beside)
            self.batch += 1
        return rewards

    def _rollouts(self, rewards: Any, inputs: Sequence[Any], completions: Sequence[Any], ids: Any) -> list[Rollout]:
        """Those of this process."""
        trainer, size = self.trainer, len(completions)
        mine = rewards[self.rollouts.processes.number * size :][:size]
        scores = (mine * trainer.reward_weights.to(mine.device)).nansum(1)
        return rows.rollouts(
            scores.masked_fill(mine.isnan().all(1), math.nan).tolist(),
            completions,
            trainer._pending_extra_logs.get("feedback", []),
            [None if trainer.tools else len(one) for one in ids],  # those of a tool's answers are not the model's
            [rows.problem(row).answer if self.settings.reflection.show_answer else None for row in inputs],
        )

    def metrics(self) -> dict[str, float]:
        """Figures since the last call, as TRL logs them (on the first process)."""
        return {f"fst/{name}": value for name, value in self.weights.metrics().items()} if self._leads() else {}
