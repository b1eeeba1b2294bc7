"""The real runs of the searches: figures from scores whose parts are known, and a run that really trains."""

import io

import pytest
from programs import imported

pytest.importorskip("trl")
pytest.importorskip("scipy")
from rich.console import Console  # noqa: E402


@pytest.fixture(scope="module")
def benchmark():
    with imported("benchmarks", "fast_phase_runs") as found:
        yield found["fast_phase_runs"]


def scores(drift):
    """Each cycle's search adds 0.1; a prompt loses `drift` for every six steps that it is older than the weights."""
    steps = (0, 6, 12)
    return {now: {then: 0.5 + then / 60 - drift * max(now - then, 0) / 6 for then in steps} for now in steps}


def test_what_later_search_found_is_told_from_what_the_weights_did(benchmark):
    found = benchmark.by_age([scores(0.0), scores(0.2)])
    assert {age: own["pairs"] for age, own in found.items()} == {6: 4, 12: 2}
    assert found[6]["behind"].value == pytest.approx(0.1 + 0.2 / 2)
    assert found[6]["by the weights"].value == pytest.approx(0.2 / 2)
    assert found[12]["behind"].value == pytest.approx(0.2 + 0.4 / 2)
    assert (found[12]["by the weights"].low, found[12]["by the weights"].high) == pytest.approx((0, 0.4))


def test_searches_are_compared_seed_by_seed(benchmark):
    def run(base, gain):
        return {"validations": {6: base + gain, 12: base + 2 * gain}, "fast_rollouts": 100}

    gains = {"frontier": 0.1, "before": 0.2, "hybrid": 0.15}
    runs = {name: {seed: run(0.1 * seed, gain) for seed in (0, 1)} for name, gain in gains.items()}
    console = Console(file=io.StringIO(), width=150)
    for table in benchmark.tables({"runs": runs, "scores": {0: scores(0.0), 1: scores(0.2)}}):
        console.print(table)
    lines = console.file.getvalue().splitlines()
    better, worse = (next(line for line in lines if name in line) for name in ("before less", "hybrid less"))
    assert "+0.100 [+0.100, +0.100]" in better and "+0.200 [+0.200, +0.200]" in better and "+0.150" in better
    assert "-0.050 [-0.050, -0.050]" in worse and "-0.100" in worse
    assert any(line.startswith("│ 12 ") and "+0.200 [+0.000, +0.400]" in line for line in lines)


@pytest.mark.trl
def test_a_run_is_validated_at_its_borders_and_its_populations_are_tried_under_all_weights(
    benchmark, tmp_path, monkeypatch
):
    monkeypatch.setattr(benchmark, "STEPS", 4)
    monkeypatch.setattr(benchmark, "CYCLE", 2)
    monkeypatch.setattr(benchmark, "TESTED", 8)
    found = benchmark.train("before", 0, tmp_path)
    assert sorted(found["validations"]) == [2, 4] and found["fast_rollouts"] > 0
    tried = benchmark.scores(0, tmp_path)
    assert {step: sorted(own) for step, own in tried.items()} == {0: [0, 2], 2: [0, 2]}
    assert all(0 <= value <= 1 for own in tried.values() for value in own.values())
