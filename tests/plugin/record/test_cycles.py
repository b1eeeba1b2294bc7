"""What a cycle leaves behind for people."""

import json

from cycles import fast_weights
from rule_world import SEED, World, make_problems


def test_every_candidate_its_records_and_its_diff_are_kept(tmp_path):
    weights, _ = fast_weights(tmp_path)
    problems = make_problems(48)
    metrics = weights.evolve(1, "w", problems, World())
    folder = tmp_path / "cycle_0000"
    population = json.loads((folder / "population.json").read_text())
    assert [p["text"] for p in population["prompts"]] == [p.text for p in weights.population.prompts]
    assert population["prompts"][0]["scores"]
    candidates = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    assert len(candidates) == metrics["proposals_accepted"] + metrics["proposals_rejected"]
    ids = {p.id for p in problems}
    for candidate in candidates:
        assert candidate["verdict"] in ("rejected", "outranked", "scored", "carried", "leads")
        assert candidate["records"] and {r["problem"] for r in candidate["records"]} <= ids
        assert candidate["parents"] and f"+++ {candidate['digest']}" in candidate["diff"]
        assert all(line[1:] in candidate["text"] or line[1:] in SEED or line[0] in "-@ +" for line in
                   candidate["diff"].splitlines())  # fmt: skip
    ledger = json.loads((folder / "ledger.json").read_text())
    assert sum(ledger["verdicts"].values()) == len(candidates)
    assert ledger["evidence"]["adopted"] and ledger["evidence"]["margin"] > 0 and ledger["evidence"]["problems"] >= 2
    assert ledger["new_population"][0] == ledger["evidence"]["challenger"] == weights.population.best.digest
