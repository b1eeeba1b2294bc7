"""evolve -> assign -> step around one GRPOTrainer, as a plain object: each hook of the trainer calls one method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fst_plugin import adapter
from fst_plugin.config import ConfigError, ConfigProblem, FSTConfig
from fst_plugin.context import Assignment, Request
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import MAX_TOKENS, Policy
from fst_plugin.prompts import Prompt, text_digest
from fst_plugin.record.slow_scores import SlowScores
from fst_plugin.rollouts import Message, Problem

from . import rows
from .compat import names
from .fast_rollouts import FastRollouts, RewardsKnown
from .order import Ahead

STATE_FOLDER = "fst"
UNLIMITED = 2**31
"""Tokens that a model without a longest position may read."""
SAMPLING = "temperature top_p top_k min_p repetition_penalty max_completion_length chat_template_kwargs".split()


class FastSlow:
    """The fast weights of a GRPOTrainer. A slow step is a generation batch: one for every `steps_per_generation` x
    `num_iterations` micro-batches.

    trainer: the trainer that calls this; read only when a method is called.
    settings: its `fst` settings.
    """

    def __init__(self, trainer: Any, settings: FSTConfig):
        self.trainer, self.settings = trainer, settings
        self.rollouts = FastRollouts(trainer, lambda row, text: self._place(rows.problem(row), [text]).messages)
        self.weights: FastWeights | None = None  # until `begin`
        self.resumed: Path | None = None  # the checkpoint that this run goes on from
        self.batch = 0  # generation batches done
        self._order: Ahead | None = None
        self._seed_arm = False
        self._marks: list[tuple[Problem, str]] = []  # of the rows that are being generated: problem, prompt digest

    # -------------------------------------------------------------------------------------------------- begin, save

    def order(self, sampler: Any) -> Ahead:
        """The trainer's sampler, whose coming batches can be looked at."""
        args, size = self.trainer.args, self.trainer.num_generations
        repeats = self.trainer.num_iterations * args.steps_per_generation
        self._order = Ahead(sampler, args.generation_batch_size // size, size, repeats)
        return self._order

    def begin(self) -> None:
        """At the begin of `train`, after TRL has loaded its checkpoint: fast weights anew, or the checkpoint's."""
        assert self._order is not None
        self._order.next_epoch, self.batch = self._reached()
        self.weights = self._start(fresh=self.resumed is None)
        if self.resumed is None:
            return
        self.load(self.resumed)
        state, slow = self.weights.state, self.weights.slow
        done = self.batch + 1 - (state.cycle_start or 1)
        # a checkpoint between two updates of one generation batch: TRL generates that batch again
        self.weights.state = replace(state, rewards=state.rewards[: max(0, done)])
        self.weights.slow = SlowScores([entry for entry in slow.entries if entry.step <= self.batch])
        if self._pending() != list(state.pending):
            raise ValueError(
                f"{self.resumed}: the coming problems are not those that it was saved with; resume with"
                " the same seed, batch sizes and train_dataset, or start over in a new output_dir"
            )

    def ready(self) -> None:
        """Before an evaluation that comes before `train`: the seed prompt."""
        self.weights = self.weights or self._start(fresh=False)

    def save(self, folder: str) -> None:
        """Before TRL writes the weights into `folder`: weights that are found have their fast weights."""
        if self.weights is not None and self.trainer.args.should_save:
            self.weights.save(Path(folder) / STATE_FOLDER, self.trainer.state.global_step, self._pending())

    def load(self, checkpoint: Path) -> None:
        """The fast weights of a checkpoint whose weights were loaded."""
        fst, step = self.weights, self.trainer.state.global_step
        assert fst is not None

        def run() -> Any:
            fst.restore(checkpoint / STATE_FOLDER, step, data_key="train_dataset", start_over="a new output_dir")
            return fst.state, fst.slow

        fst.state, fst.slow = self.rollouts.lead(run)

    def _start(self, fresh: bool) -> FastWeights:
        """On the first process the fast weights that evolve; the others hold their state, and no lock on the folder."""
        trainer, data = self.trainer, self.trainer.train_dataset
        log = print if trainer.accelerator.is_main_process else lambda line: None
        found = list(dict.fromkeys(map(adapter.system_text, rows.chats(data))))
        self.settings, seed = adapter.begin_with(self.settings, trainer._tokenizer, found, log)
        sampled = [rows.problem(data[i]) for i in adapter.sampled_places(len(data))]
        sources = {"rewards": [adapter.source_of(function) for function in trainer.reward_funcs]}
        policy, folder = self._policy(seed, sampled), Path(trainer.args.output_dir).absolute() / STATE_FOLDER
        started = []

        def run() -> Any:
            started.append(
                FastWeights.start(
                    self.settings,
                    policy,
                    folder,
                    seed=seed,
                    dataset=adapter.dataset_digest(len(data), (one.id for one in sampled)),
                    weights=f"start:{text_digest(str(trainer.model.config._name_or_path))}",
                    setup={name: getattr(trainer.args, name) for name in SAMPLING} | sources,
                    fresh=fresh,
                    log=log,
                )
            )
            return started[0].state, started[0].seed

        state, first = self.rollouts.lead(run)
        nobody: Any = None  # only the first process reflects
        return started[0] if started else FastWeights(self.settings, state, policy, folder, first, nobody, log=log)

    def _policy(self, seed: Prompt, sampled: Sequence[Problem]) -> Policy:
        """Raises ConfigError if the longest prompt does not fit with the longest of these problems."""
        window = self._window()
        policy = Policy.of_tokenizer(
            self.trainer._tokenizer,
            self.settings.max_prompt_tokens or min(MAX_TOKENS, window // 2),
            generate=self.rollouts.generate,
            fits=lambda chat: self._tokens(chat) <= window,
            width=self.trainer.args.generation_batch_size,
        )
        longest = max(self._tokens(self._place(one, [seed.text]).messages) for one in sampled)
        rest = longest - policy.count_tokens(seed.text)
        if rest + policy.max_tokens > window:
            what = f"a prompt of {policy.max_tokens} tokens and a problem of {rest} do not fit the {window} that"
            what += " max_completion_length leaves: lower this cap, or max_completion_length"
            raise ConfigError([ConfigProblem("fst.max_prompt_tokens", what)])
        return policy

    def _place(self, problem: Problem, prompts: Sequence[str], split: str = "anchor", session: int = 0) -> Assignment:
        """A problem's messages with the prompt of one session of its group in place."""
        request = Request(problem.id, session, self.batch + 1, split, problem.messages)
        return adapter.provider(self.settings.context, prompts).assign(request)

    def _window(self) -> int:
        """Tokens that a prompt may have next to the completion."""
        args, model = self.trainer.args, self.trainer.model.config.get_text_config()
        window = args.vllm_max_model_length if args.use_vllm else None
        window = window or getattr(model, "max_position_embeddings", None) or UNLIMITED
        return window - self.trainer.max_completion_length

    def _tokens(self, chat: Sequence[Message]) -> int:
        with self.rollouts.plain_chats():
            return len(self.trainer._tokenize_prompts([[dict(message) for message in chat]])[0][0])

    def _reached(self, updates: int | None = None) -> tuple[int, int]:
        """(epoch, generation batch) after this many updates; None: after those that were done."""
        assert self._order is not None
        done = self.trainer.state.global_step if updates is None else updates
        return self._order.reached(done, self.trainer.args.gradient_accumulation_steps)

    # ------------------------------------------------------------------------------------------------------- evolve

    def _rows(self, first: int, batches: int) -> list[Any]:
        assert self._order is not None
        return [self.trainer.train_dataset[i] for b in range(first, first + batches) for i in self._order.batch(b)]

    def _pending(self) -> list[str]:
        """Ids of the problems that come next, as a checkpoint holds them."""
        assert self.weights is not None
        if self._order is None:  # saved before `train`
            return []
        return [rows.problem(row).id for row in self._rows(self._reached()[1], self.weights.schedule.guaranteed_steps)]

    def evolve_if_due(self) -> None:
        """Before a generation batch: its weights are those of the fast phase."""
        fst, step = self.weights, self.batch + 1
        assert fst is not None
        if not fst.due(step, self._reached(self.trainer.state.max_steps)[1]):
            return
        begin = (fst.state.cycle_start or step) - 1
        coming = self._rows(self.batch, fst.schedule.guaranteed_steps)
        recent = self._rows(begin, self.batch - begin)
        row_of = {rows.problem(row).id: row for row in (*recent, *coming)}

        def run() -> Any:
            problems, last = (list(map(rows.problem, some)) for some in (coming, recent))
            fst.evolve(step, self._weights_name(), problems, self.rollouts.evaluate, last)
            return fst.state

        state = self.rollouts.lead(run, step, row_of)
        fst.state, fst.slow = state, SlowScores()  # the same on every process

    def _weights_name(self) -> str:
        assert self.weights is not None
        return self.weights.weights_after(self.trainer.state.global_step)

    # ------------------------------------------------------------------------------------------------------- assign

    def assign(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows about to be generated, each with its prompt in place; those of a fast phase have theirs."""
        if self.rollouts.asking:
            return inputs
        trainer, train = self.trainer, self.trainer.model.training
        if train:
            self.evolve_if_due()
        fst = self.weights
        assert fst is not None
        size = trainer.num_generations if train else trainer.num_generations_eval
        groups = -(-len(inputs) * trainer.accelerator.num_processes // size)
        if train:
            served, offsets, prompts = self._rows(self.batch, 1), fst.deal([size] * groups), fst.population.prompts
        else:
            served, offsets, prompts = [], [0] * groups, (fst.seed if self._seed_arm else fst.population.best,)
        texts, split = [prompt.text for prompt in prompts], "train" if train else "val"
        first, assigned, self._marks = trainer.accelerator.process_index * len(inputs), [], []
        for place, row in enumerate(inputs, first):  # a group may lie across processes
            group, session = divmod(place, size)
            problem = rows.problem(row)
            if train and problem.id != rows.problem(served[group]).id:
                raise RuntimeError(
                    "TRL serves other problems than its sampler said: leave the sampler and the order"
                    " of train_dataset to TRL while fast weights are on"
                )
            one = self._place(problem, texts, split, session + offsets[group])
            assigned.append({**row, "prompt": one.messages})
            self._marks.append((problem, one.digest))
        return assigned

    # ------------------------------------------------------------------------------------------ observe, validate

    def rewarded(self, inputs: Sequence[Any], rewards: Any, completions: Sequence[Any], ids: Sequence[Any]) -> None:
        """Once TRL knows the rewards of what it generated. Raises RewardsKnown in a fast phase: nothing else of a
        training step is wanted."""
        if not (self.rollouts.asking or self.trainer.model.training):
            return
        assert self.weights is not None
        trainer, size = self.trainer, len(completions)
        first = trainer.accelerator.process_index * size
        mine = rewards[first : first + size]  # TRL hands back those of all processes
        scores = (mine * trainer.reward_weights.to(mine.device)).nansum(1)
        found = rows.rollouts(
            scores.masked_fill(mine.isnan().all(1), math.nan).tolist(),
            completions,
            trainer._pending_extra_logs.get("feedback", []),
            [None if trainer.tools else len(one) for one in ids],  # those of a tool's answers are not the model's
            [rows.problem(row).answer if self.settings.reflection.show_answer else None for row in inputs],
        )
        if self.rollouts.asking:
            raise RewardsKnown(found)
        seen = [(problem.id, digest, one) for (problem, digest), one in zip(self._marks, found, strict=True)]
        self.weights.observe(self.batch + 1, self._weights_name(), names.gather_object(seen))
        self.batch += 1

    def metrics(self) -> dict[str, float]:
        """Figures since the last call, as TRL logs them."""
        return {f"fst/{name}": value for name, value in self.weights.metrics().items()} if self.weights else {}

    @contextmanager
    def seed_arm(self) -> Iterator[None]:
        """An evaluation in here is under the seed prompt."""
        self._seed_arm = True
        try:
            yield
        finally:
            self._seed_arm = False
