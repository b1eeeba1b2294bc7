"""evolve -> assign -> step, around verl's own trainers.

`FastSlow` extends a verl V1 trainer by its hooks only; each override calls super(). With `fst.enabled=false`, or
without an `fst` node, every hook is verl's own.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import DictConfig, open_dict

from fst_plugin.config import TASK_AGNOSTIC_SEED, ConfigError
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.prompts import Prompt, text_digest
from fst_plugin.record import state as durable
from fst_plugin.record.atomic import set_aside
from fst_plugin.record.slow_scores import SlowScores
from fst_plugin.rollouts import Problem, Rollout, problem_id

from . import batches as rows
from . import check, drift
from . import wandb_tables as tables
from .agent_loop import CONTEXT_LOOP
from .assignment import COLUMN, row_column
from .compat import MODES, names
from .episodes import metrics as episode_metrics
from .fast_rollouts import FastRollouts
from .lookahead import LookAhead
from .validation import BEST, SEED, PairedLoader, relabel

STATE_FOLDER = "fst"
LOOKAHEAD_FILE = "lookahead.pt"
SAMPLED_ROWS = 64
"""Rows, evenly spread, that a dataset's digest is taken over besides its length (ours)."""


class FastSlow:
    """Mixed into a verl V1 trainer: adds the fast weights."""

    config: Any
    global_steps: int
    total_training_steps: int
    tokenizer: Any
    train_dataset: Any
    val_dataloader: Any

    def __init__(self, config: DictConfig):
        self.fst: FastWeights | None = None
        self._fst_enabled = bool(config.get("fst") and config.fst.get("enabled", True))
        with open_dict(config):  # verl's trainers ask for their mode by its own name
            base = {ours: theirs for theirs, ours in MODES.items()}
            config.trainer.v1.trainer_mode = base.get(config.trainer.v1.trainer_mode, config.trainer.v1.trainer_mode)
        if self._fst_enabled:
            problems = check.problems(config)
            if problems:
                raise ConfigError(problems)
            self._fst_config = check.fst_config(config)
            self._look_ahead = LookAhead(super()._fetch_one_gen_batch)  # type: ignore[misc]
            self._run = uuid4().hex[:12]
            self._fst_pending: dict[str, float] = {}
            self._hook_seconds = 0.0
            self._rewards_by_rank: dict[int, list[float]] = defaultdict(list)
            self._rewards_by_problem: dict[str, list[float]] = defaultdict(list)
        super().__init__(config)  # type: ignore[call-arg]

    # ------------------------------------------------------------------------------------------------------- evolve

    def _add_batch_to_generate(self) -> None:
        self._evolve_if_due()  # the servers are awake here, with the current weights
        super()._add_batch_to_generate()  # type: ignore[misc]

    def _evolve_if_due(self) -> None:
        if self.fst is None or not self.fst.due(self.global_steps):
            return
        self._fetch_ahead()
        self._fast_rollouts.open(self._look_ahead.chunks())
        weights = self._weights_after(self.global_steps - 1)
        coming, recent = self._problems(self._look_ahead.pending()), self._problems(self._look_ahead.recent())
        self._fst_pending = self.fst.evolve(self.global_steps, weights, coming, self._fast_rollouts.evaluate, recent)
        self._look_ahead.forget()
        tables.log_cycle(self.fst, self.config, self.global_steps)

    def _fetch_ahead(self) -> None:
        assert self.fst is not None
        self._look_ahead.fill(self.fst.schedule.guaranteed_steps * self.config.data.train_batch_size)

    def _problems(self, problems: Sequence[Problem]) -> list[Problem]:
        """With answers private or shared as `fst.fast.answers` says."""
        said = self._fst_config.fast.answers
        return [p if said == "auto" else replace(p, private=said == "private") for p in problems]

    # ------------------------------------------------------------------------------------------------------- assign

    def _fetch_one_gen_batch(self) -> Any:
        return self._look_ahead.next() if self._fst_enabled else super()._fetch_one_gen_batch()  # type: ignore[misc]

    def _submit_batch_to_rollout(self, batch: Any) -> int:
        if self.fst is not None:
            began = time.perf_counter()
            self._assign(batch)
            self._hook_seconds += time.perf_counter() - began
        return super()._submit_batch_to_rollout(batch)  # type: ignore[misc]

    def _assign(self, batch: Any) -> None:
        """Gives every row its population; groups smaller than K are dealt the prompts in turn."""
        assert self.fst is not None
        config = self.config
        size, k = len(batch), len(self.fst.population)
        group_sizes = rows.column(batch, "__rollout_n__") or [config.actor_rollout_ref.rollout.n] * size
        inner = rows.column(batch, "agent_name") or [self._fast_rollouts.default_loop] * size
        texts = [p.text for p in self.fst.population.prompts]
        columns, dealt = [], self.fst.state.counters.dealt
        for loop, n in zip(inner, map(int, group_sizes), strict=True):
            offset = dealt % k if n < k else 0
            columns.append(
                row_column(
                    loop, texts, self._fast_rollouts.provider, split="train", step=self.global_steps, offset=offset
                )
            )
            dealt += n if n < k else 0
        utils = names.tensordict_utils
        utils.assign_non_tensor_stack(batch, "agent_name", [CONTEXT_LOOP] * size)
        utils.assign_non_tensor_stack(batch, COLUMN, columns)
        asked = sum(map(int, group_sizes))
        self.fst.state = self.fst.state.count(rollouts_slow=asked, dealt=dealt - self.fst.state.counters.dealt)

    # ----------------------------------------------------------------------------------------------------- validate

    def _validation_column(self, arm: str, inner: str) -> dict[str, Any]:
        assert self.fst is not None
        text = self.fst.population.best.text if arm == BEST else self.fst.seed_text
        return row_column(inner, [text], self._fast_rollouts.provider, split="val", step=self.global_steps)

    def _validate(self) -> dict[str, float]:
        return {**super()._validate(), **drift.measure(self)}  # type: ignore[misc]

    def _val_metrics_update(self, data_sources: Any, sample_uids: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if self._fst_enabled:
            data_sources, expected = relabel(
                self.val_dataloader.arm_of(), data_sources, sample_uids, kwargs.get("expected_acc_counts")
            )
            if "expected_acc_counts" in kwargs:
                kwargs["expected_acc_counts"] = expected
        return super()._val_metrics_update(data_sources, sample_uids, *args, **kwargs)  # type: ignore[misc]

    # ------------------------------------------------------------------------------------------------------ observe

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        if self.fst is not None:
            began = time.perf_counter()
            self._observe(batch)  # rewards are final, the weights not yet updated
            self._hook_seconds += time.perf_counter() - began
        return super()._compute_advantage(batch, metrics)  # type: ignore[misc]

    def _observe(self, batch: Any) -> None:
        """Hands the step's rollouts to the fast weights, and has the next fast phase's first prompts drafted."""
        assert self.fst is not None
        self.fst.observe(self.global_steps, self._weights_after(self.global_steps - 1), self._rollouts(batch))
        last = self.global_steps >= self.total_training_steps
        if self._fst_config.reflection.draft and not last and self.fst.due(self.global_steps + 1):
            self._fetch_ahead()
            coming, recent = self._problems(self._look_ahead.pending()), self._problems(self._look_ahead.recent())
            self.fst.draft(self.global_steps + 1, coming, recent)

    def _rollouts(self, batch: Any) -> list[tuple[str, str, Rollout]]:
        """(problem id, prompt digest, rollout) of the batch's trajectories that ran under a prompt of ours."""
        import transfer_queue as tq

        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        keys = list(rows.last_outputs(keys).values())
        if not keys:
            return []
        fields = ["rm_scores", "extra_fields", "responses"]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
        texts = self.tokenizer.batch_decode(list(data["responses"].unbind()), skip_special_tokens=True)
        scores = [float(row.sum()) for row in data["rm_scores"].unbind()]
        answers = {p.id: p.answer for p in self._look_ahead.recent()} if self._fast_rollouts.show_answer else {}
        found = []
        for i, extra in enumerate(rows.column(data, "extra_fields") or []):
            if mark := extra.get("fst"):
                reference = self._fast_rollouts.reference(answers.get(mark.get("problem")))
                rollout = rows.rollout(scores[i], texts[i], extra, reference)
                if rollout.error is None:
                    self._rewards_by_rank[mark["rank"]].append(scores[i])
                    self._rewards_by_problem[mark["problem"]].append(scores[i])
                    found.append((mark["problem"], mark["digest"], rollout))
        return found

    # ------------------------------------------------------------------------------------------------------ metrics

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)  # type: ignore[misc]
        if (self.config.data.get("env") or {}).get("multi_turn"):
            metrics.update(episode_metrics.of_batch(batch, self.config.data.train_batch_size))
        if self.fst is None:
            return
        metrics.update({f"fst/{k}": float(v) for k, v in {**self.fst.metrics(), **self._fst_pending}.items()})
        for rank, rewards in sorted(self._rewards_by_rank.items()):
            metrics[f"fst/reward_prompt_{rank}"] = sum(rewards) / len(rewards)
        if groups := list(self._rewards_by_problem.values()):
            perfect = self._fst_config.fast.perfect_score
            metrics["fst/group_mean"] = sum(sum(g) / len(g) for g in groups) / len(groups)
            metrics["fst/group_solved"] = sum(max(g) >= perfect for g in groups) / len(groups)
        metrics["fst/hook_seconds"] = self._hook_seconds  # what a slow step costs more with fast weights
        self._fst_pending, self._hook_seconds = {}, 0.0
        self._rewards_by_rank.clear()
        self._rewards_by_problem.clear()

    # --------------------------------------------------------------------------------------------------- begin, save

    def _init_dataloader(self) -> None:
        if not self._fst_enabled:
            super()._init_dataloader()  # type: ignore[misc]
            return
        config = self.config
        cap, length = check.prompt_cap(self._fst_config, config), config.data.max_prompt_length
        config.data.max_prompt_length = length - cap  # verl's overlong filter leaves room for an evolved prompt
        try:
            super()._init_dataloader()  # type: ignore[misc]
        finally:
            config.data.max_prompt_length = length
        provider = self._fst_config.context.model_dump()
        self._fast_rollouts = FastRollouts(self, provider, self._fst_config.reflection.show_answer)
        arms = [BEST, SEED] if self._fst_config.validate_seed else [BEST]
        self.val_dataloader = PairedLoader(
            self.val_dataloader, arms, self._validation_column, self._fast_rollouts.default_loop
        )

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()  # type: ignore[misc]
        if not self._fst_enabled:
            return
        config = self.config
        seed, digest = self._seed_prompt(), self._dataset_digest()
        cap = check.prompt_cap(self._fst_config, config)
        policy = Policy.of_tokenizer(
            self.tokenizer,
            seed.text,
            cap,
            generate=self._fast_rollouts.generate,
            fits=self._fast_rollouts.fits,
            width=check.engine_width(config),
        )
        live = Path(config.trainer.default_local_dir).absolute() / STATE_FOLDER
        if config.trainer.resume_mode == "disable" and live.exists():  # an earlier run's phases are not this run's
            print(f"fst: {live} is of an earlier run: moved to {set_aside(live)}")
        start = f"start:{text_digest(str(config.actor_rollout_ref.model.path))}"
        self.fst = FastWeights.fresh(
            self._fst_config, policy, live, seed_prompt=seed, dataset_digest=digest, weights=start
        )
        self.fst.world = check.rollout_setup_digest(config)
        if self.global_steps > 0:
            folder = self._checkpoint_folder() / STATE_FOLDER
            self.fst.state = self._restore(folder, seed.digest, digest)
            self.fst.slow = SlowScores.load(folder)
        self._loaded = (self.global_steps, self.fst.state.weights)

    def _restore(self, folder: Path, seed_digest: str, dataset_digest: str) -> durable.State:
        try:
            state = durable.load(folder)
        except FileNotFoundError:
            raise ValueError(
                f"{folder.parent} holds no fast weights (no {STATE_FOLDER}/{durable.STATE_FILE}): it was trained"
                " without them or not saved whole; set fst.enabled=false, or start with trainer.resume_mode=disable"
            ) from None
        durable.refuse_mismatch(state, seed_digest=seed_digest, dataset_digest=dataset_digest, where=folder.parent)
        self._look_ahead.load(folder / LOOKAHEAD_FILE, state.pending)
        return state

    def _save_checkpoint(self) -> None:
        if self.fst is not None:  # before verl's own marker: a checkpoint that verl finds has its fast weights
            folder = Path(self.config.trainer.default_local_dir).absolute() / f"global_step_{self.global_steps}"
            pending = tuple(p.id for p in self._look_ahead.pending())
            state = self.fst.state.at(weights=self._weights_after(self.global_steps), pending=pending)
            self._look_ahead.save(folder / STATE_FOLDER / LOOKAHEAD_FILE)
            self.fst.slow.save(folder / STATE_FOLDER)
            durable.save(state, folder / STATE_FOLDER)
        super()._save_checkpoint()  # type: ignore[misc]

    def _checkpoint_folder(self) -> Path:
        config = self.config
        if config.trainer.resume_mode == "resume_path":
            return Path(os.path.abspath(config.trainer.resume_from_path))
        return Path(config.trainer.default_local_dir).absolute() / f"global_step_{self.global_steps}"

    def _weights_after(self, step: int) -> str:
        """Names the slow weights after `step`: a checkpoint's own name where they were loaded, else a new one."""
        loaded_step, loaded = self._loaded
        return loaded if step == loaded_step else f"{self._run}:{step}"

    def _seed_prompt(self) -> Prompt:
        """`fst.seed_prompt`, else the data's one system message, else the task-agnostic default."""
        if self._fst_config.seed_prompt is not None:
            return Prompt(self._fst_config.seed_prompt)
        sample = [self.train_dataset[i]["raw_prompt"] for i in self._sampled_rows()]
        texts = {rows.system_text(chat) for chat in sample}
        if len(texts) > 1:
            raise ConfigError(
                [
                    check.ConfigProblem(
                        "fst.seed_prompt",
                        f"the data has {len(texts)} different system messages: say which to start from",
                    )
                ]
            )
        text = texts.pop()
        return Prompt(text, origin="data") if text else Prompt(TASK_AGNOSTIC_SEED)

    def _sampled_rows(self) -> list[int]:
        size = len(self.train_dataset)
        return (
            sorted({i * size // SAMPLED_ROWS for i in range(SAMPLED_ROWS)})
            if size > SAMPLED_ROWS
            else list(range(size))
        )

    def _dataset_digest(self) -> str:
        ids = []
        for i in self._sampled_rows():
            row = self.train_dataset[i]
            ids.append(problem_id(row["raw_prompt"], (row.get("reward_model") or {}).get("ground_truth")))
        return text_digest("\n".join([str(len(self.train_dataset)), *ids]))


_Sync: Any = names.PPOTrainerSync
_ColocateAsync: Any = names.PPOTrainerColocateAsync


@names.register_trainer(MODES["sync"])
class FSTSync(FastSlow, _Sync):
    """verl's synchronous trainer with fast weights."""


@names.register_trainer(MODES["colocate_async"])
class FSTColocateAsync(FastSlow, _ColocateAsync):
    """verl's colocated asynchronous trainer with fast weights. Rollouts in flight when a cycle begins keep the prompts
    that they were submitted with."""

    def on_train_begin(self) -> None:
        self._evolve_if_due()  # before the warm-up batches are submitted
        super().on_train_begin()
