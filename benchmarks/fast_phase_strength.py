"""How good a prompt a fast phase finds with its rollouts: ours, stock gepa.optimize, and dspy.GEPA.

All get the same task, problems, number of rollouts and reflection (the offline one, which composes prompts from
feedback sentences). The measure is the expected reward, over all problems of the task, of the prompt that each returns
as its best.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
from typing import Any

from rule_world import SEED_TEXT, World, gepa, seed_prompt

from fst_plugin.prompts import Population, Prompt
from fst_plugin.reflection import OfflineReflection
from fst_plugin.reflection.base import ReflectionRequest
from fst_plugin.rewards import RewardBar
from fst_plugin.rollouts import Problem, Rollout, Trace, merged

ANCHORS, K = 192, 4  # paper: T x B = 6 x 32, K = 4
MAX_CHARS = 1200


def ours(world: World, budget: int, seed: int, reflection: Any = OfflineReflection, **settings: Any) -> str:
    problems = world.problems(ANCHORS, f"cycle0-{seed}")
    optimizer = gepa(reflection(), budget=budget, max_tokens=MAX_CHARS // 4, **settings)
    found = optimizer.evolve(Population((seed_prompt(),)), problems, world.evaluate, cycle=0, seed=seed)
    return found.population.best.text


def ours_warm(
    world: World,
    carried: Population,
    budget: int,
    seed: int,
    free: bool,
    reflection: Any = OfflineReflection,
    **settings: Any,
) -> str:
    """The second cycle: four carried prompts, whose scores are free or not."""
    last, problems = world.problems(ANCHORS, f"cycle0-{seed}"), world.problems(ANCHORS, f"cycle1-{seed}")
    traces = slow_traces(world, carried, last)
    optimizer = gepa(reflection(), budget=budget, max_tokens=MAX_CHARS // 4, **settings)
    found = optimizer.evolve(carried, problems, world.evaluate, cycle=1, seed=seed, traces=traces if free else ())
    return found.population.best.text


def slow_traces(world: World, carried: Population, problems: list[Problem]) -> list[Trace]:
    """The rollouts that a slow phase leaves: G/K = 2 of every carried prompt on every problem."""
    return [
        Trace(p, {c.digest: merged([world.roll(c.text, p, 1), world.roll(c.text, p, 2)]) for c in carried.prompts})
        for p in problems
    ]


def carried_population(world: World, seed: int) -> Population:
    """Four prompts as a first cycle might leave them: each knows a third of the rules."""
    rng = random.Random(f"carried-{seed}")
    rules = list(world.rules.values())
    texts = ["\n".join([SEED_TEXT, *rng.sample(rules, len(rules) // 3)]) for _ in range(K)]
    return Population(tuple(Prompt(text, origin="reflection") for text in texts))


def _propose(text: str, records: list[tuple[Problem, Rollout]], seed: int) -> str:
    request = ReflectionRequest(Prompt(text), tuple(records), seed % 2, seed, MAX_CHARS, RewardBar(1.0))
    return OfflineReflection().propose([request])[0] or text


class _Adapter:
    """The smallest adapter that gepa.optimize accepts."""

    def __init__(self, world: World, seed: int):
        self.world, self.seed, self.calls = world, seed, 0

    def evaluate(self, batch: list[Problem], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        rollouts = [self.world.roll(candidate["p"], problem) for problem in batch]
        return EvaluationBatch(rollouts, [r.score for r in rollouts], list(zip(batch, rollouts, strict=True)))

    def make_reflective_dataset(self, candidate: Any, batch: Any, components: list[str]) -> Any:
        return {"p": [{"seen": pair} for pair in batch.trajectories]}

    def propose_new_texts(self, candidate: dict[str, str], dataset: Any, components: list[str]) -> dict[str, str]:
        self.calls += 1
        return {"p": _propose(candidate["p"], [r["seen"] for r in dataset["p"]], self.seed * 10_000 + self.calls)}


def stock_gepa(world: World, start: str, problems: list[Problem], valset: int, budget: int, seed: int) -> str:
    import gepa

    adapter: Any = _Adapter(world, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        result = gepa.optimize(
            {"p": start},
            trainset=problems,
            valset=problems[:valset],
            adapter=adapter,
            max_metric_calls=budget,
            seed=seed,
            display_progress_bar=False,
        )
    best: Any = result.best_candidate
    return best["p"]


def stock_dspy(world: World, start: str, problems: list[Problem], valset: int, budget: int, seed: int) -> str:
    import dspy

    logging.getLogger("dspy").setLevel(logging.ERROR)
    calls = 0

    class Answer(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict(dspy.Signature("question -> answer", start))

        def forward(self, question: str) -> Any:
            problem = by_question[question]
            rollout = world.roll(self.predict.signature.instructions, problem)
            prediction = dspy.Prediction(answer=rollout.response, rollout=rollout)
            trace = dspy.settings.trace
            if trace is not None:
                trace.append((self.predict, {"question": question}, prediction))
            return prediction

    by_question = {str(p.messages[-1]["content"]): p for p in problems}

    def metric(gold: Any, prediction: Any, *_: Any) -> Any:
        return dspy.Prediction(score=prediction.rollout.score, feedback=prediction.rollout.feedback)

    def proposer(candidate: dict[str, str], reflective_dataset: Any, components_to_update: list[str]) -> dict[str, str]:
        nonlocal calls
        new = {}
        for name in components_to_update:
            calls += 1
            records = [
                (by_question[r["Inputs"]["question"]], Rollout(0.0, "", r["Feedback"]))
                for r in reflective_dataset[name]
                if "Correct." not in r["Feedback"]
            ]
            new[name] = _propose(candidate[name], records, seed * 10_000 + calls)
        return new

    examples = [dspy.Example(question=q, answer="").with_inputs("question") for q in by_question]
    optimizer: Any = dspy.GEPA(
        metric=metric,
        max_metric_calls=budget,
        instruction_proposer=proposer,
        reflection_lm=dspy.LM("none/none"),
        num_threads=1,
        seed=seed,
    )
    with dspy.context(lm=dspy.LM("none/none")), contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            best = optimizer.compile(Answer(), trainset=examples, valset=examples[:valset])
    return best.predict.signature.instructions
