"""What a user's own optimizer hands back is checked, by the name of its config key and of the field."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from cycles import fast_weights
from rule_world import SEED, World, make_problems

from fst_plugin import Candidate, Evolution, Population, Prompt, Rollout, Score
from fst_plugin.evolve.outcome import checked
from fst_plugin.fast_weights import FastPhaseFailed
from fst_plugin.optimizer import Evidence

GOOD = Evolution(Population((Prompt("Be kind."),)))
RETURNED = {}


class Own:
    """An optimizer that hands back what the test says."""

    def __init__(self, what):
        self.what = what

    def evolve(self, population, problems, evaluate, *, cycle, seed, traces=()):
        return RETURNED[self.what]


def scored(score):
    return Evolution(Population((Prompt("Be kind.", scores={"p": score}),)))


WRONG = {
    "None": (None, "returned NoneType: it must return an fst_plugin.Evolution"),
    "list": ([Prompt("a")], "returned list"),
    "Population": (GOOD.population, "returned Population"),
    "population": (replace(GOOD, population=[Prompt("a")]), "Evolution.population"),
    "text": (
        Evolution(Population((Prompt(b"a".decode()), Prompt("b", parents=(7,))))),
        "Evolution.population.prompts.1.par",
    ),
    "metric": (replace(GOOD, metrics={"x": math.nan}), "Evolution.metrics.x: not a finite number"),
    "metrics": (replace(GOOD, metrics=None), "Evolution.metrics: "),
    "word": (replace(GOOD, metrics={"x": "many"}), "Evolution.metrics.x: "),
    "count": (replace(GOOD, metrics={"rollouts": -1}), "Evolution.metrics.rollouts: a count is not negative"),
    "score": (scored(Score(np.float32("inf"))), "Evolution.population.prompts.0.scores.p.mean: not a finite"),
    "warnings": (replace(GOOD, warnings=(1,)), "Evolution.warnings.0: "),
    "candidate": (
        replace(GOOD, candidates=(Candidate(Prompt("a"), "leads", math.nan),)),
        "Evolution.candidates.0.margin",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_used_is_a_failed_phase_that_names_key_and_field(tmp_path, what):
    RETURNED[what], message = WRONG[what]
    fast = {"path": f"{__name__}.Own", "kwargs": {"what": what}}
    weights, _ = fast_weights(tmp_path / "stops", fast=fast)
    with pytest.raises(FastPhaseFailed, match=f"fst.fast.path={__name__}.Own: evolve.. returned") as error:
        weights.evolve(1, "w", make_problems(4), World())
    assert message in str(error.value)
    weights, lines = fast_weights(tmp_path / "goes on", fast={**fast, "max_failed_phases": 1})
    assert weights.evolve(1, "w", make_problems(4), World())["phase_failed"] == 1
    assert weights.population.best.text == SEED and weights.state.counters.failed_phases == 1
    assert any(message in line for line in lines)


def test_numbers_of_numpy_become_plain_ones_that_can_be_stored(tmp_path):
    RETURNED["numpy"] = Evolution(
        scored(Score(np.float32(0.5), np.int64(3))).population,
        {"x": np.float32(2), "rollouts": np.int64(4)},
        candidates=(Candidate(Prompt("a"), "rejected", np.float64(0.25), (("p", Rollout(np.float32(1))),)),),
    )
    weights, _ = fast_weights(tmp_path, fast={"path": f"{__name__}.Own", "kwargs": {"what": "numpy"}})
    assert weights.evolve(1, "w", make_problems(4), World())["x"] == 2.0
    (prompt,) = json.loads((tmp_path / "state.json").read_text())["population"]["prompts"]
    assert prompt["scores"] == {"p": {"mean": 0.5, "rollouts": 3}} and weights.state.counters.rollouts_fast == 4


def test_a_comparison_of_a_single_pair_has_no_spread():
    evolution = replace(GOOD, evidence=Evidence("a", "b", 1, 0.5, math.inf, True))
    assert checked(evolution, None) == evolution
