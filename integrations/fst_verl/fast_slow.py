"""evolve -> assign -> step around one verl trainer, as a plain object: each hook of the trainer calls one method here.

Nothing here imports verl: a trainer is anything with the attributes that `compat.TRAINER_ATTRIBUTES` names, so that the
whole of it runs on fakes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from fst_plugin import adapter
from fst_plugin.config import ConfigError
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.prompts import Prompt, text_digest
from fst_plugin.record.state import STATE_FOLDER
from fst_plugin.rollouts import Rollout

from . import batches, check, modes, room, transfer, wandb_tables
from .assignment import CONTEXT_LOOP, RowColumn, loops_of_batch
from .batches import COLUMN
from .beside import Beside
from .checkpoints import Checkpoints
from .compat import ESTIMATOR, names
from .fast_rollouts import FastRollouts
from .lookahead import LookAhead
from .validation import BEST, SEED, PairedLoader, relabel

LOOKAHEAD_FILE = "lookahead.pt"


def log(line: str) -> None:
    """One line for people, on the driver's output."""
    print(f"fst: {line}", flush=True)


def context_length(tokenizer: Any, config: DictConfig) -> int | None:
    """Tokens that the model takes, as its own config says; None if it says nothing."""
    from transformers import AutoConfig

    model = config.actor_rollout_ref.model
    try:
        found = AutoConfig.from_pretrained(
            tokenizer.name_or_path, trust_remote_code=bool(model.get("trust_remote_code")), **_overrides(model)
        )
        return getattr(found.get_text_config(), "max_position_embeddings", None)
    except Exception as error:  # any model's own code: verl will say what is wrong with it
        log(f"the model's context length is not known ({type(error).__name__}: {error})")
        return None


def _overrides(model: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(model.get("override_config") or OmegaConf.create(), resolve=True)  # type: ignore


class FastSlow:
    """The fast weights of a verl trainer.

    trainer: the trainer that calls this; read only when a method is called.
    config: its config; wrong settings raise ConfigError with every problem.
    fetch: hands out the dataloader's next batch.
    """

    def __init__(self, trainer: Any, config: DictConfig, fetch: Callable[[], Any]):
        if problems := check.problems(config):
            raise ConfigError(problems)
        self.trainer, self.config = trainer, config
        self.settings = check.fst_config(config)
        self.cap = check.prompt_cap(self.settings, config)
        self.look_ahead = LookAhead(fetch)
        self.checkpoints = Checkpoints(config.trainer, log)
        self.rollouts = FastRollouts(trainer, show_answer=self.settings.reflection.show_answer)
        self.seed: Prompt | None = None  # until `fit_to_data`
        self.weights: FastWeights | None = None  # until `begin`
        self._ran_under: dict[tuple[str, ...], str] = {}  # (uid, session) of the last step -> digest
        self._done: list[tuple[str, str, Rollout]] = []  # of this step, as `observe` hands them over
        self._handed = 0  # the last step that was handed over
        self._marks: dict[tuple[str, ...], str] = {}  # `_ran_under` of this step
        self.beside: Beside | None = None
        if self.settings.fast.when == "hybrid":
            self.beside = Beside(trainer, self.rollouts, self.look_ahead, self.settings.fast.grace)
        self._unused = {"_submit_batch_to_rollout", "_compute_advantage", "step"}  # hooks, until verl has called them
        self._seconds = 0.0

    # -------------------------------------------------------------------------------------------------- begin, save

    def fit_to_data(self) -> None:
        """Once data and tokenizer are there, before any engine starts: where prompts go, the first prompt, and room for
        later ones. Raises ConfigError for data or a chat template that the config does not fit."""
        trainer, context = self.trainer, self.config.fst.context
        found = adapter.system_messages(batches.chats(trainer.train_dataset), print)
        tokenizer = trainer.processor or trainer.tokenizer
        self.settings, self.seed = adapter.begin_with(self.settings, tokenizer, found, print)
        with open_dict(self.config):
            context.placement = self.settings.context.placement
        for line in room.make(self.config, self.cap, context_length(trainer.tokenizer, self.config)):
            log(line)

    def paired(self, loader: Any) -> PairedLoader:
        """The validation loader, with every problem under the best prompt and under the seed prompt."""
        arms = [BEST, SEED] if self.settings.validate_seed else [BEST]
        return PairedLoader(loader, arms, self._validation_column, self.config)

    def begin(self) -> None:
        """After verl has loaded its checkpoint: fast weights anew, or those of the checkpoint."""
        config, trainer = self.config, self.trainer
        assert self.seed is not None
        policy = Policy.of_tokenizer(
            trainer.tokenizer,
            self.cap,
            int(config.actor_rollout_ref.rollout.prompt_length),
            template=dict(config.data.get("apply_chat_template_kwargs") or {}),
            generate=self.rollouts.generate,
            width=check.engine_width(config),
        )
        self.weights = FastWeights.start(
            self.settings,
            policy,
            Path(config.trainer.default_local_dir).absolute() / STATE_FOLDER,
            seed=self.seed,
            dataset=adapter.dataset_digest(len(trainer.train_dataset), map(batches.row_id, self._sampled_rows())),
            weights=f"start:{text_digest(str(config.actor_rollout_ref.model.path))}",
            setup=check.rollout_setup(config),
            fresh=config.trainer.resume_mode == "disable",
        )
        if trainer.global_steps > 0:
            folder = self._checkpoint_folder() / STATE_FOLDER
            start_over = "trainer.resume_mode=disable"
            self.weights.restore(
                folder,
                trainer.global_steps,
                data_key="data.train_files",
                start_over=start_over,
                parts=[LOOKAHEAD_FILE],
            )
            self.look_ahead.load(folder / LOOKAHEAD_FILE, self.weights.state.pending)

    def save(self) -> None:
        """Before verl writes its own marker: a checkpoint that verl finds has its fast weights."""
        if self.weights is None:
            return
        step = self.trainer.global_steps
        folder = Path(self.config.trainer.default_local_dir).absolute() / f"global_step_{step}" / STATE_FOLDER
        self.look_ahead.save(folder / LOOKAHEAD_FILE)
        pending = [problem.id for problem in self.look_ahead.pending()]
        self.weights.save(folder, step, pending, parts=[LOOKAHEAD_FILE])
        self.checkpoints.wrote(folder)

    def _checkpoint_folder(self) -> Path:
        config = self.config.trainer
        if config.resume_mode == "resume_path":
            return Path(os.path.abspath(config.resume_from_path))
        return Path(config.default_local_dir).absolute() / f"global_step_{self.trainer.global_steps}"

    def _sampled_rows(self) -> list[Any]:
        data = self.trainer.train_dataset
        return [data[i] for i in adapter.sampled_places(len(data))]

    # ------------------------------------------------------------------------------------------------------- evolve

    def evolve_if_due(self) -> None:
        """Before a batch is submitted: verl's servers are awake there, with the current weights."""
        fst, step = self.weights, self.trainer.global_steps
        if fst is None or not fst.due(step, last := self.trainer.total_training_steps):
            return
        coming = min(fst.schedule.guaranteed_steps, max(1, last - step + 1))  # past the end the data would begin anew
        self.look_ahead.fill(coming * self.config.data.train_batch_size)
        self.rollouts.open(self.look_ahead.chunks())
        coming, recent = self.look_ahead.pending(), self.look_ahead.recent()
        fst.evolve(step, fst.weights_after(step - 1), coming, self.rollouts.evaluate, recent)
        self.look_ahead.forget()
        self.rollouts.prompts.forget({one["prompts"] for one in transfer.under_way()})
        wandb_tables.log_cycle(fst, self.config, step)

    # ------------------------------------------------------------------------------------------------------- assign

    def assign(self, batch: Any) -> None:
        """Gives every row of a batch its prompts: one column, and our agent loop in place of the row's own."""
        if self.weights is None:
            return
        self._unused.discard("_submit_batch_to_rollout")
        with self._timed():
            size, utils = len(batch), names.tensordict_utils
            groups = batches.column(batch, "__rollout_n__") or [self.config.actor_rollout_ref.rollout.n] * size
            inner = loops_of_batch(batch, self.config)
            self.rollouts.prompts.refuse_lost()
            offsets = self.weights.deal([int(n) for n in groups])
            ids = batches.problem_ids(batch)
            if self.beside:
                self.beside.note(ids, self.weights.state.cycle)
            (held,) = self.rollouts.prompts.put(self.weights.population.prompts)
            columns = [
                RowColumn(loop, held, "train", self.trainer.global_steps, problem, offset).to_row()
                for loop, problem, offset in zip(inner, ids, offsets, strict=True)
            ]
            utils.assign_non_tensor_stack(batch, "agent_name", [CONTEXT_LOOP] * size)
            utils.assign_non_tensor_stack(batch, COLUMN, columns)
            if batches.PROBLEM in batch.keys():
                batch.del_(batches.PROBLEM)  # it travels in our column

    # ------------------------------------------------------------------------------------ evolve, beside a slow step

    def send_beside(self) -> None:
        """Once a step's own rollouts are sent: those that its fast weights want beside them."""
        if self.weights and self.beside:
            self.beside.send(self.weights)

    def gather_beside(self) -> None:
        """Once a step's own rollouts are done, before verl lets the servers sleep."""
        if self.weights and self.beside:
            self.beside.gather()

    # ----------------------------------------------------------------------------------------------------- validate

    def _validation_column(self, arm: str, inner: str, problem: str) -> dict[str, Any]:
        assert self.weights is not None
        prompt = self.weights.population.best if arm == BEST else self.weights.seed
        (held,) = self.rollouts.prompts.put((prompt,))
        return RowColumn(inner, held, "val", self.trainer.global_steps, problem).to_row()

    def relabel(self, sources: Any, uids: Any, keywords: dict[str, Any]) -> Any:
        """Data sources with the seed prompt's samples told apart; so are verl's expected counts in `keywords`."""
        self.rollouts.prompts.refuse_lost()
        arms = self.trainer.val_dataloader.arm_of()
        sources, expected = relabel(arms, sources, uids, keywords.get("expected_acc_counts"))
        if "expected_acc_counts" in keywords:
            keywords["expected_acc_counts"] = expected
        return sources

    # ------------------------------------------------------------------------------------------------------ observe

    def collect(self, batch: Any) -> None:
        """Once the rewards of a step's batch are final, or of a part that verl trains on by itself, before the weights
        are updated on it."""
        if self.weights is None:
            return
        self._unused.discard("_compute_advantage")
        self._refuse_several_outputs(batch)
        with self._timed():
            self.rollouts.prompts.refuse_lost()
            seen = self._slow_rollouts(batch)
            rollouts = [one for _, one in seen]
            fast = self.weights.config.fast
            most = adapter.REFLECTIONS * fast.records
            solutions = self.weights.config.shows_examples
            places = adapter.shown_places(rollouts, most, self.weights.bar, solutions) if fast.free_scores else []
            if places:  # no reflection reads the others
                keys = [seen[place][0] for place in places]
                texts = transfer.texts(keys, batch.partition_id, self.trainer.tokenizer)
                for place, text in zip(places, texts, strict=True):
                    problem, prompt, rollout = rollouts[place]
                    rollouts[place] = (problem, prompt, replace(rollout, response=text, unread=False))
            self._done += rollouts
            if self.beside and self.beside.is_last_part():  # reflection goes on while the weights are updated
                self._hand_over()

    def observe(self) -> None:
        """After a step: its rollouts are with the fast weights, at the latest."""
        if self.weights is None:
            return
        self._unused.discard("step")
        with self._timed():
            self._hand_over()
            self._ran_under, self._marks = self._marks, {}

    def _hand_over(self) -> None:
        """To the fast weights, once a step: what its own rollouts earned, and then those beside."""
        assert self.weights is not None
        step = self.trainer.global_steps
        if self._handed == step:
            return
        self._handed = step
        self.weights.observe(step, self.weights.weights_after(step - 1), self._done)
        self._done = []
        done = self.beside.done() if self.beside else None
        if done is not None:
            self.weights.tell(done)

    def _refuse_several_outputs(self, batch: Any) -> None:
        keys = transfer.keys_of(batch)
        if self.config.algorithm.adv_estimator == ESTIMATOR and len(transfer.last_outputs(keys)) < len(keys):
            raise ValueError(
                f"algorithm.adv_estimator={ESTIMATOR} takes every output of an agent loop for a rollout, and a session"
                " of this step has several: use grpo"
            )

    def _slow_rollouts(self, batch: Any) -> list[tuple[str, tuple[str, str, Rollout]]]:
        """The batch's trajectories that ran under a prompt of ours: key, and (problem id, prompt digest, rollout); the
        rollouts are without their responses."""
        answers = {p.id: p.answer for p in self.look_ahead.recent()} if self.rollouts.show_answer else {}
        found = []
        done = transfer.scored(batch)
        if bad := [one.score for one in done if not math.isfinite(one.score)]:  # one would spoil its group's advantages
            raise ValueError(check.not_finite(bad, len(done), self.config))
        for one in done:
            if mark := one.extra.get("fst"):
                answer = answers.get(mark["problem"])
                rollout = batches.rollout(one.score, one.text, one.extra, answer, one.tokens)
                found.append((one.key, (mark["problem"], mark["digest"], rollout)))
        self._marks |= {(one.uid, one.session): one.extra["fst"]["digest"] for one in done if one.extra.get("fst")}
        return found

    def named(self, dump: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a dump of generations, with the prompt's digest of each (`fst_prompt`), and in validations its
        arm (`fst_arm`)."""
        infos = dump.get("reward_extra_infos_dict") or {}
        if self.weights is None or "uid" not in infos:
            return dump
        arms, digest = self.trainer.val_dataloader.arm_of(), {"": ""}
        digest |= {BEST: self.weights.population.best.digest, SEED: self.weights.seed.digest}
        rows = [tuple(key.rsplit("_", 2)[:2]) for key in infos["uid"]]  # {uid}_{session}_{index}
        arm = [arms.get(uid, "") for uid, *_ in rows]
        prompts = [self._ran_under.get(row, digest[a]) for row, a in zip(rows, arm, strict=True)]
        columns = {"fst_prompt": prompts, **({"fst_arm": arm} if any(arm) else {})}
        return {**dump, "reward_extra_infos_dict": {**infos, **columns}}

    def metrics(self) -> dict[str, float]:
        """Figures of the step, as verl logs them. `fst/hook_seconds`: overhead that fast weights add to a slow step."""
        if self.weights is None:
            return {}
        if self._unused:
            raise RuntimeError(
                f"{modes.KEY}={modes.mode_of(self.config)}: its trainer finished a step without"
                f" {', '.join(sorted(self._unused))}, and so without evolved prompts: let its own methods call verl's,"
                " or set fst.enabled=false"
            )
        found = {f"fst/{name}": value for name, value in self.weights.metrics().items()}
        if "fst/seconds" in found:
            found["timing_s/fst_phase"] = found["fst/seconds"]  # a part of verl's own timing_s/step
        if self.beside:
            found |= {"fst/beside_cut": float(self.beside.cut), "fst/beside_seconds": self.beside.seconds}
        found["fst/hook_seconds"], self._seconds = self._seconds, 0.0
        return found

    def keep(self, metrics: Mapping[str, Any]) -> None:
        """What verl logs of the step, kept across resumes: verl's file logger starts anew."""
        if self.weights is not None:
            self.weights.log_step(self.trainer.global_steps, metrics)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began
