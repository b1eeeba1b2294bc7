"""The fast weights of one run: when they evolve, what is let in, and how they survive.

An adapter (one per RL stack) owns the slow weights. Before every slow step it calls `due` and, if that says yes,
`evolve`; when it submits a batch, `deal`; after the step's rollouts, `observe`; when it logs, `metrics`; with its own
checkpoints, `save` and `restore`. Everything else - the journal of a running phase, the budget, the checks on what an
optimizer returns, the slow phase's scores, the durable state - is here, once for all stacks. An adapter whose stack
begins its log anew on a resume also calls `log_step`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from .alongside import Alongside
from .config import ConfigError, ConfigProblem, FSTConfig
from .evolve import admission
from .evolving import wanted
from .hybrid import Hybrid
from .optimizer import Evolution
from .phase import FastPhaseFailed, FastPhases, PhaseInputs, cycle_folder
from .policy import Policy
from .prompts import Population, Prompt, text_digest
from .record import checkpoint
from .record import state as durable
from .record.archive import known_scores
from .record.atomic import set_aside
from .record.journal import Journal, open_journal
from .record.lock import hold
from .record.slow_scores import Entry, SlowScores
from .record.state import State
from .record.steps import append_step
from .reflection.base import Reflection
from .reflection.build import build_reflection, ping
from .rewards import RewardBar, StepRewards
from .rollouts import Cell, Evaluate, Problem, Rollout
from .schedule import Schedule


@dataclass
class FastWeights:
    """State of the fast weights, and the verbs that move it.

    config: the run's `fst` node.
    state: where they stand.
    policy: what the adapter knows of the model.
    folder: live folder of the run; every finished cycle leaves its record there.
    seed: the first prompt.
    reflection: proposes prompts, in all fast phases.
    setup: names what else decides how a rollout goes (reward function, sampling, data settings); a journal is valid
        only for the setup it was recorded under.
    log: where lines for people go.
    slow: what the running cycle's slow steps have paid for.
    """

    config: FSTConfig
    state: State
    policy: Policy
    folder: Path
    seed: Prompt
    reflection: Reflection
    setup: str = ""
    log: Callable[[str], None] = print
    slow: SlowScores = field(default_factory=SlowScores)

    def __post_init__(self) -> None:
        self._run = uuid4().hex[:12]
        self._lock: Any = None  # held while this lives
        self._loaded = (0, self.state.weights)
        self._of_step: dict[str, float] = {}
        self._steps_kept = True
        self._told_unread = False
        self._phases = FastPhases(self.config, self.policy, self.reflection, self.log)
        self._rewards = StepRewards()
        self._hybrid: Hybrid | None = None
        if self.config.fast.when == "hybrid":
            self._hybrid = Hybrid(self.config, self.policy, self._phases, self.folder, self.setup, self.log)

    # -------------------------------------------------------------------------------------- begin, save, restore

    @classmethod
    def start(
        cls,
        config: FSTConfig,
        policy: Policy,
        folder: Path,
        *,
        seed: Prompt,
        dataset: str = "",
        weights: str = "start",
        setup: Mapping[str, Any] | None = None,
        fresh: bool = False,
        log: Callable[[str], None] = print,
    ) -> FastWeights:
        """Fast weights before the first cycle: one seed prompt, not K copies (paper Algorithm 1).

        dataset: names the training data, see `adapter.dataset_digest`.
        weights: names the slow weights that training starts from.
        setup: what else decides how a rollout goes, as JSON values.
        fresh: this run does not go on from an earlier one: an earlier live folder is moved aside.

        Raises ConfigError if the seed prompt is longer than the policy's cap, ReflectionFailed if the reflection is a
        server that does not answer (one real call), ValueError if it cannot be built, FolderInUse if another run writes
        to `folder`.
        """
        seed, hidden = admission.without_surrogates(seed)
        if hidden:
            log(f"fst: the first prompt has {hidden} lone surrogates, which no file can hold: each is now U+FFFD")
        length = policy.count_tokens(seed.text)
        if length > policy.max_tokens:
            message = f"the first prompt has {length} tokens, the cap is {policy.max_tokens}: nothing could be evolved"
            fix = "raise it (and the data's prompt length), or start from a shorter fst.seed_prompt"
            raise ConfigError([ConfigProblem("fst.max_prompt_tokens", f"{message}; {fix}")])
        if policy.generate is not None:
            policy = replace(policy, generate=wanted("generate", policy.generate))
        reflection = build_reflection(config, policy)
        ping(reflection)
        lock = hold(folder, log)
        if fresh and folder.exists():
            log(f"fst: {folder} is of an earlier run: moved to {set_aside(folder)}")
        state = State(Population((seed,)), seed.digest, dataset, weights, placement=config.context.placement)
        named = text_digest(json.dumps(setup, sort_keys=True, default=str)) if setup else ""
        made = cls(config, state, policy, folder, seed, reflection, named, log)
        made._lock = lock
        return made

    def restore(self, folder: Path, step: int, *, data_key: str, start_over: str, parts: Sequence[str] = ()) -> None:
        """Takes up what `save` left in `folder` after slow step `step`.

        data_key, start_over: for messages: the key that names the training data, and how to begin a new run instead.
        parts: as `save` was given; they can be read once this returns.

        Raises ValueError as `record.checkpoint.load` does.
        """
        found, self.slow = checkpoint.load(
            folder,
            seed_digest=self.state.seed_digest,
            dataset_digest=self.state.dataset_digest,
            data_key=data_key,
            start_over=start_over,
            parts=parts,
        )
        if self._hybrid:
            self._hybrid.restore(folder, found.parts)
        self.state = replace(found, parts={}, placement=self.config.context.placement)
        self._loaded = (step, self.state.weights)

    def undo(self, step: int) -> None:
        """Forgets what was observed of slow steps after `step`, which the stack does again."""
        kept = step + 1 - (self.state.cycle_start or 1)
        self.state = replace(self.state, rewards=self.state.rewards[: max(0, kept)])
        self.slow = SlowScores([entry for entry in self.slow.entries if entry.step <= step])

    def save(self, folder: Path, step: int, pending: Sequence[str], parts: Sequence[str] = ()) -> None:
        """Writes everything that a resumed run needs into a checkpoint's folder, the state last.

        step: slow steps done.
        pending: ids of the problems fetched ahead and not yet trained on, in order.
        parts: names of files that the adapter has put into `folder`: the state answers for them too.
        """
        state = replace(self.state, weights=self.weights_after(step), pending=tuple(pending))
        beside = self._hybrid.save(folder) if self._hybrid else []
        checkpoint.save(folder, state, self.slow, [*parts, *beside])

    def weights_after(self, step: int) -> str:
        """Names the slow weights after `step`: a checkpoint's own name if they were loaded, else a new one."""
        loaded_step, loaded = self._loaded
        return loaded if step == loaded_step else f"{self._run}:{step}"

    # ------------------------------------------------------------------------------------------------ what there is

    @property
    def population(self) -> Population:
        return self.state.population

    @property
    def schedule(self) -> Schedule:
        spec = self.config.schedule
        if spec.kind == "fixed":
            return Schedule(self.config.slow_steps)
        return Schedule(self.config.slow_steps, spec.patience, spec.window, spec.min_steps, spec.max_steps)

    def due(self, step: int, last_step: int | None = None) -> bool:
        """Does a fast phase run before this slow step? last_step: of the run, if known."""
        return self.schedule.due(step, self.state.cycle_start, self.state.rewards, last_step)

    # ------------------------------------------------------------------------------------------------------- assign

    def deal(self, group_sizes: Sequence[int]) -> list[int]:
        """Deals the K prompts in turn over a batch of groups: session i of a group runs under prompt
        (offset + i) mod K.

        group_sizes: G of each group.

        Returns the offset of each: the rollouts dealt before it. So every group holds ⌊G/K⌋ or ⌈G/K⌉ rollouts of each
        prompt (G/K if K divides G, paper Algorithm 1, step 3), and the run as a whole is even to within one.
        """
        offsets, dealt = [], self.state.counters.rollouts_slow
        for size in group_sizes:
            offsets.append(dealt % len(self.population))
            dealt += size
        self.state = self.state.count(rollouts_slow=sum(group_sizes))
        return offsets

    # ------------------------------------------------------------------------------------------------------ observe

    def observe(self, step: int, weights: str, rollouts: Sequence[tuple[str, str, Rollout]]) -> None:
        """Takes in what slow step `step` rolled out with `weights`: (problem id, prompt digest, rollout) each. Of the
        responses only those at `adapter.shown_places` are read."""
        rank = {prompt.digest: i for i, prompt in enumerate(self.population.prompts)}
        valid = [(p, d, r.score) for p, d, r in rollouts if r.error is None and math.isfinite(r.score)]
        for problem, digest, score in valid:
            self._rewards.add(problem, rank.get(digest), score)
        if valid:
            stale = sum(digest not in rank for _, digest, _ in valid)
            self._of_step["stale_population_share"] = stale / len(valid)
            mean = sum(score for _, _, score in valid) / len(valid)
            self.state = replace(self.state, rewards=(*self.state.rewards, mean))
        self._see(score for _, _, score in valid)
        if self.config.fast.free_scores:
            self._count_unread(self.slow.add(step, weights, rollouts, self.config.shows_examples))

    def _count_unread(self, entries: Sequence[Entry]) -> None:
        unread = sum(entry.rollout.unread for entry in entries)
        self._of_step["answers_unread"] = unread
        if unread and not self._told_unread:
            self._told_unread = True
            self.log(
                f"fst: step {entries[0].step}: of {len(entries)} answers that a reflection could be shown, {unread}"
                " stay unread, since the others are enough; their rewards count all the same (see fst/answers_unread)"
            )

    @property
    def bar(self) -> RewardBar:
        """From which reward on an answer is solved, as far as the run knows."""
        return RewardBar(self.config.fast.perfect_score, self.state.reward_range)

    def _see(self, rewards: Iterable[float]) -> None:
        before = self.bar
        self.state = replace(self.state, reward_range=before.after(rewards).seen)
        if news := self.bar.news(before):
            self.log(f"fst: {news}")

    def metrics(self) -> dict[str, float]:
        """Figures to log with a slow step, as `fst/<name>`: running totals, and what belongs to this step (its groups'
        rewards, its fast phase), which is handed out once."""
        counters = self.state.count(**(self._hybrid.spent if self._hybrid else {})).counters
        found: dict[str, float] = {
            "cycle": self.state.cycle,
            "population": len(self.population),
            "archived": len(self.state.archive),
            "rollouts_fast_total": counters.rollouts_fast,
            "rollouts_slow_total": counters.rollouts_slow,
            "reflection_calls_total": counters.reflection_calls,
            "reflection_failures_total": counters.reflection_failures,
            "prompt_tokens_best": self.policy.count_tokens(self.population.best.text),
            "prompt_tokens_max": max(self.policy.count_tokens(p.text) for p in self.population.prompts),
        }
        if counters.tokens_fast or not counters.rollouts_fast:  # else the adapter does not know them
            found["tokens_fast_total"] = counters.tokens_fast
        found |= self._rewards.figures(self.bar)
        if self.bar.value is not None:
            found["perfect_score"] = self.bar.value
        if self.bar.configured is not None:
            found["perfect_score_exceeded"] = self.bar.exceeded
        found |= self._of_step
        self._of_step, self._rewards = {}, StepRewards()
        return {name: float(value) for name, value in found.items()}

    def log_step(self, step: int, figures: Mapping[str, Any]) -> None:
        """Keeps what is logged of a step in the run's folder, where a resume goes on with it: the figures of `fst
        compare` and `fst report` then cover all of a run's lives. What cannot be written is said once.

        figures: metric -> value, as the stack's own logger gets them; values that are not finite numbers are left out.
        """
        try:
            append_step(self.folder, step, figures)
        except OSError as error:
            if self._steps_kept:
                self.log(f"fst: step {step} and later ones are missing from the run's own record: {error}")
            self._steps_kept = False

    # ------------------------------------------------------------------------------------------------------- evolve

    def evolve(
        self, step: int, weights: str, problems: Sequence[Problem], evaluate: Evaluate, recent: Sequence[Problem] = ()
    ) -> dict[str, float]:
        """Runs the fast phase of a new cycle that begins with slow step `step`, and returns its metrics.

        weights: names the slow weights that do the rollouts; a phase that was killed resumes from its journal only on
            the same weights, population, problems, slow scores and settings.
        problems: the coming cycle's problems; repeats count once.
        recent: the last cycle's problems, if `evaluate` can still run them: their slow scores are used.

        Raises FastPhaseFailed if the phase failed and `fst.fast.max_failed_phases` is used up.
        """
        began = time.monotonic()
        beside = self._taken_beside(problems, recent)
        if beside:
            found = self._after(beside, problems, evaluate)
        else:
            found = self._before(step, weights, problems, evaluate, recent)
        inputs, journal, evolution = found
        cycle = inputs.cycle
        failed_now = evolution.metrics.get("phase_failed", 0) > 0
        self._see(journal.rewards())
        for line in evolution.warnings:
            self.log(f"fst: cycle {cycle}: warning: {line}")
        most = self.config.population
        population = admission.admit(evolution.population, self.population, self.policy, most, self.log)
        metrics = dict(evolution.metrics)
        archive = self.state.archive.after(
            self.population,
            population,
            known_scores(self.population, self.slow),
            cycle=cycle,
            floor=min(self.state.reward_range or (0.0,)),
            most=self.config.fast.archive,
            tasks={problem.task for problem in recent},
        )
        started = replace(self.state, population=population, cycle=cycle, cycle_start=step, weights=weights, rewards=())
        self.state = replace(started, archive=archive).count(
            rollouts_fast=int(metrics.get("rollouts", 0)),
            tokens_fast=int(metrics.get("tokens", 0)),
            reflection_calls=int(metrics.get("reflection_calls", 0)),
            reflection_failures=int(metrics.get("reflection_failures", 0)),
            failed_phases=1 if failed_now else -self.state.counters.failed_phases,  # consecutive ones count
        )
        self.slow = SlowScores()
        durable.save(self.state, self.folder)
        metrics |= journal.mishaps
        metrics["seconds"] = time.monotonic() - began
        best = metrics.get("anchor_best", math.nan)
        how = "beside the steps before" if beside else f"{len(inputs.traces)} problems with slow scores"
        self.log(
            f"fst: cycle {cycle}: {int(metrics.get('rollouts', 0))} rollouts, {how}, best {best:.3f},"
            f" {len(population)} prompts"
        )
        self._of_step = metrics
        return dict(metrics)

    def _before(
        self, step: int, weights: str, problems: Sequence[Problem], evaluate: Evaluate, recent: Sequence[Problem]
    ) -> tuple[PhaseInputs, Journal, Evolution]:
        """A phase for which the slow steps wait; one that a kill left finished is taken over."""
        inputs = PhaseInputs.gather(self.config, self.state, self.slow, step, problems, recent)
        folder = cycle_folder(self.folder, inputs.cycle)
        journal = open_journal(folder, inputs.identity(self.config, self.state, weights, self.setup), self.log)
        evolution = journal.finished()
        if evolution is not None:
            self.log(f"fst: cycle {inputs.cycle}: taken over from {folder.name}, finished before the restart")
        else:
            failed = self.state.counters.failed_phases
            evolution = self._phases.run(self.population, inputs, journal, evaluate, bar=self.bar, failed=failed)
        return inputs, journal, evolution

    # ------------------------------------------------------------------------------- evolve, beside the slow steps

    def ask(
        self,
        step: int,
        problems: Sequence[Problem],
        cycle: Callable[[], Sequence[Problem]],
        last_step: int | None = None,
        every: int = 1,
    ) -> list[Cell]:
        """What to roll out beside slow step `step`, for the prompts of the next cycle; it goes out behind the step's
        own rollouts, at the training's temperature, and is never trained on. Nothing unless `fst.fast.when=hybrid`.

        problems: those that the step trains on.
        cycle: the running cycle's, done and to come; they can all be rolled out.
        last_step: of the run, if known: no prompts evolve for a cycle that will not be.
        every: slow steps until they are in, as long as which nothing else is asked for; 1: they are in with the step's.
        """
        if not self._hybrid:
            return []
        began = time.monotonic()
        cells = self._hybrid.ask(self.state, self.slow, step, problems, cycle, last_step, every) if problems else []
        self._of_step |= {"beside_rollouts": len(cells), "beside_wait_seconds": time.monotonic() - began}
        return cells

    def tell(self, rollouts: Sequence[Rollout]) -> None:
        """How the cells of `ask` went, one Rollout each, in order; after the `observe` of the step that they are in
        with. One that was cut off has an `error`."""
        if self._hybrid:
            self._of_step["beside_failed"] = sum(rollout.error is not None for rollout in rollouts)
            self._hybrid.tell(rollouts)

    def _taken_beside(self, coming: Sequence[Problem], recent: Sequence[Problem]) -> Alongside | None:
        """The phase that ran beside the last cycle, unless the coming one has another task."""
        beside = self._hybrid.taken(self.state, self.slow, recent) if self._hybrid else None
        if beside is None or not beside.is_out_of_date(coming):
            return beside
        assert self._hybrid
        self._hybrid.void(beside)
        journal = beside.journal
        self.state = self.state.count(rollouts_fast=journal.rollouts, reflection_calls=journal.reflections)
        return None

    def _after(
        self, beside: Alongside, coming: Sequence[Problem], evaluate: Evaluate
    ) -> tuple[PhaseInputs, Journal, Evolution]:
        """What a phase that ran beside the last cycle came to."""
        failed = self.state.counters.failed_phases
        finish = lambda: beside.finish(evaluate)  # noqa: E731
        found = self._phases.concluded(finish, self.population, beside.inputs, beside.journal, failed, coming)
        figures = {"beside": 1.0, "rollouts_late": float(beside.late)}
        return beside.inputs, beside.journal, replace(found, metrics={**found.metrics, **figures})


__all__ = ["FastPhaseFailed", "FastWeights"]
